"""Is compute better spent on training a larger diffusion model, or on more steps of a smaller one?

Question: of class-conditional DiTs on 16x16 glyphs along the best sizes, drawn in 2 to 64 steps: at
one quality (Frechet distance), which pairs of training FLOPs and FLOPs an image give it?
"""

from ml_collections import ConfigDict

from experiments import diffusion_isoflop

PARTS = {"images": diffusion_isoflop.PARTS["images"] | {"title": "Steps and sizes"}}
ANSWERS = ("power --loss frechet --over flops --over sample_flops --where 'steps <= 8'",)
RUNGS = {5e10: 16, 1e11: 24, 2e11: 24, 4e11: 32, 8e11: 40}  # the size of each budget, near its best
SEEDS = (0, 1)
CLASSES = 26 * 18  # a category of characters in a style each


def get_config(part: str) -> ConfigDict:
    """One run of the image ladder that is told classes, and learns images of none."""
    config = diffusion_isoflop.get_config("images")
    config.part, config.data.label = part, "both"
    config.model.num_classes, config.model.class_dropout = CLASSES, 0.1
    config.evaluation.evaluators = ("validation",)
    return config


def get_trials(part: str) -> list[dict]:
    """The best size of each budget, with two seeds."""
    return [
        {"size": size, "budget": budget, "seed": seed}
        for budget, size in RUNGS.items()
        for seed in SEEDS
    ]
