"""How do bits per dimension and Frechet distance of diffusion transformers fall with compute?

Question: of DiTs 8 to 128 wide on 16x16 glyphs at equal FLOPs, two decades of them, what is the
best size and the best number of images, and by which power of compute do the bound and the distance
of what is drawn fall?
Cost: 3.0e13 FLOPs in 61 trials (trunks shared), about 40 minutes on two cores beside other work:
networks so narrow run at 1 to 10 GFLOP/s. The runs are in diffusion_isoflop.csv, its data card is
diffusion_isoflop.md.
Expected by the literature: N_opt = C^.57, D_opt = C^.43 and a loss that falls as C^-.027, of latent
DiTs on text and images from 1e17 FLOPs on (Liang et al. 2024).
Found:

- The best size grows as C^.29 [.23, .34] by parabolas, .28 [.22, .34] by one shape of all budgets
  and .27 [.08, .44] by splines, from 11,600 parameters at 3e10 FLOPs to 48,000 at 3e12, and images
  as C^.73 [.68, .78]. All five budgets have sizes on both sides of their best.
- By the Frechet distance, extrapolated to endless images, it is the same law: C^.31 [.22, .38],
  from 13,800 to 56,000 parameters. What is best for the bound is best for what is drawn.
- The distance of the best size falls as C^-.24 [-.27, -.21], from 99 to 35, where held-out images
  have 2.4; as C^-.26 [-.31, -.21] from 1e11 on, so that no bend is seen.
- Bits per dimension fall from 2.36 to 1.43, as C^-.16 [-.20, -.11] to 3e11 and C^-.068
  [-.074, -.063] from 1e11 on: the floor is inside. Chinchilla's law puts it at 1.39 [1.31, 1.47],
  but with a noise of 7%, as 8-wide and 128-wide runs do not follow it: no floor is known from these
  runs.
- A size that is off costs little: half or twice the best width is 3 to 6% worse in bits at 1e12 and
  3e12, where the 128-wide network, 26 times too many parameters and 315 steps, is 40% worse.

Why not more size: every run has batches of 16, so that large networks make few steps, and depth is
2 up to 64 wide, so that they grow in width alone; neither was tuned per size. The smallest read
their images up to 19 times. Seeds are three, two and one, by the budget.

Literature: disagrees with Liang et al. 2024 in the exponent of the size, .29 in place of .57, at a
millionth of their compute, and with one batch for all.

    python -m research isoflop experiments/diffusion_isoflop.csv --params params --data data \
        --loss loss --flops flops --method parabola
    python -m research isoflop experiments/diffusion_isoflop.csv --params params --data data \
        --loss frechet_unbiased --flops flops --method parabola
    python -m research power experiments/diffusion_isoflop.csv --loss frechet_unbiased \
        --over flops --where "best == 1"

At the size of a pod: sizes of `GRID` times 16 and budgets times 65,536 in a copy of this file.
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
    "isoflop --params params --data data --loss loss --flops flops --method parabola",
    "power --loss frechet_unbiased --over flops --where 'best == 1'",
)
BUDGETS = (3e10, 1e11, 3e11, 1e12, 3e12)
# Sizes of each budget: on both sides of its best, and one far off.
GRID = {
    3e10: (8, 12, 16, 24, 32),
    1e11: (8, 12, 16, 24, 32, 48),
    3e11: (8, 12, 16, 24, 32, 48),
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
