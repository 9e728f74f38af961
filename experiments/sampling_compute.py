"""Is compute better spent on training a larger diffusion model, on more steps, or on guidance?

Question: of class-conditional DiTs on 16x16 glyphs along the best sizes, drawn in 2 to 32 steps
and guided by 1 (not at all) to 5: at one quality (Frechet distance), which pairs of training
FLOPs and FLOPs an image give it; how do precision and recall move with guidance; does its best
strength move with the size?
Cost: 2.1e12 FLOPs in 6 trials, 6 minutes on two cores, and 12 minutes for 54 rows of 512 images
each. The rows are in sampling_compute.csv, which the two commands `evaluate` below make of the
runs.
Expected by the literature: at a small budget of sampling a smaller model in more steps is better
(Mei et al. 2024), and guidance trades recall for precision (Ho & Salimans 2022).
Found:

- Eight steps of DPM-Solver++ 2M are enough at every size: 16 and 32 change the distance by less
  than its interval (48, 50 and 52 of the largest), so a model is never worth drawing in more. Two
  steps are worthless (317 to 414), four in between. The larger model falls faster with them, as
  FLOPs an image ^-.8, ^-1.2 and ^-1.6 up to eight.
- So the best size grows with what an image may cost: at 1.1e7 FLOPs it is the smallest in eight
  steps (103; the next one in four has 123), at 2.1e7 the middle one in eight (75; the largest in
  four 84, the smallest in sixteen 96), from 3.5e7 on the largest in eight (48). Beyond eight
  steps only training helps.
- With training compute the distance falls as C^-.23 [-.31, -.16] unguided, as in
  experiments/diffusion_isoflop.py, and as C^-.33 [-.42, -.23] guided by 2; guided by 5 not at
  all, C^.02 [-.14, .19]. Guidance is worth more the more the model has learned of its classes.
- The best strength is none that matters at 5e10 FLOPs (96 to 99 from 1 to 5), about 3 at 2e11 (75
  falls to 61) and 1.5 to 2 at 8e11 (50 falls to 39, which 2.9 times the training would buy
  unguided).
- It is no trade up to there: at 8e11, from 1 to 2, precision goes from .80 to .82 and recall from
  .67 to .77. From 2 to 5 it is one: precision .87, recall .62.

Why not more: three sizes with two seeds, 512 images of 468 classes a row, one solver; the
interval of a distance is some 12%.

Literature: agrees with Mei et al. 2024 that a small model in more steps is best for little
sampling; partly with Ho & Salimans 2022, whose trade begins here beyond the best strength alone.

    python -m research evaluate --run runs/sampling_compute --evaluators frechet,precision_recall \
        --over steps=2,4,8,16,32 --over guidance=1 --out rows.csv
    python -m research evaluate --run runs/sampling_compute --evaluators frechet,precision_recall \
        --over steps=16 --over guidance=1.5,2,3,5 --out rows.csv
    python -m research power experiments/sampling_compute.csv --loss frechet_unbiased --over flops \
        --by guidance --where "steps == 16"

At the size of a pod: sizes of `RUNGS` times 16 and budgets times 65,536 in a copy of this file.
"""

from ml_collections import ConfigDict

from experiments import diffusion_isoflop

PARTS = {"images": diffusion_isoflop.PARTS["images"] | {"title": "Steps and sizes"}}
ANSWERS = (
    "power --loss frechet_unbiased --over flops --by guidance --where 'steps == 16'",
    "power --loss frechet_unbiased --over sample_flops --by budget"
    " --where 'guidance == 1 and steps <= 8'",
)
RUNGS = {5e10: 16, 2e11: 24, 8e11: 32}  # the size of each budget, near its best
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
