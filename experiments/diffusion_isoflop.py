"""How do bits per dimension and Frechet distance of diffusion transformers fall with compute?

Question: of DiTs 12 to 128 wide on 16x16 glyphs, two decades of compute, what is the best size and
the best number of images of a budget, and by which power of compute do the bound and the distance
of what is drawn fall?
Cost: some 2e13 FLOPs.
"""

from ml_collections import ConfigDict

from research import defaults

PARTS = {
    "images": {
        "title": "Diffusion transformers on glyphs at equal FLOPs",
        "family": "diffusion",
        "data": "glyphs",
        "unit": "bits/dim",
        "data_unit": "images",
    }
}
ANSWERS = (
    "power --loss loss --over flops --where 'best == 1'",
    "power --loss frechet --over flops --where 'best == 1'",
)
BUDGETS = (3e10, 1e11, 3e11, 1e12, 3e12)
# Sizes of each budget: on both sides of its best, and one far off.
GRID = {
    3e10: (12, 16, 24, 32),
    1e11: (12, 16, 24, 32, 48),
    3e11: (12, 16, 24, 32, 48),
    1e12: (16, 24, 32, 48, 64),
    3e12: (16, 24, 32, 48, 64, 128),
}
SEEDS = {3e10: (0, 1, 2), 1e11: (0, 1, 2), 3e11: (0, 1), 1e12: (0, 1), 3e12: (0,)}


def get_config(part: str) -> ConfigDict:
    """One run of the image ladder, scored by its bound and by 512 images in 16 steps."""
    config = defaults.config(PARTS[part]["family"], PARTS[part]["data"])
    config.part, config.recipe, config.sampling.num = part, "image_ladder", 16
    config.model.image_shape = (16, 16, 1)
    config.model.fourier_features = (6, 7)
    config.train.batch_size = 16
    config.evaluation.update(
        evaluators=("validation", "frechet"),
        image_recipe="images_512",
        features="glyphs",
    )
    config.sampling.update(sampler="dpm_solver_pp_2m", steps=16)
    return config


def get_trials(part: str) -> list[dict]:
    """Every size of a budget, with more seeds where they are cheap and spread most."""
    return [
        {"size": size, "budget": budget, "seed": seed}
        for budget in BUDGETS
        for size in GRID[budget]
        for seed in SEEDS[budget]
    ]
