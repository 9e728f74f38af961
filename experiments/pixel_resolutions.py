"""Does the exponent of compute fall as images grow?

Question: of transformers over pixels, one after another, of glyphs at 8x8, 16x16 and 32x32, with
which power of compute does the loss fall at each resolution, and how does the best size grow?
Cost: 1.4e13 FLOPs in 31 trials (trunks shared), about 12 minutes on two cores. A window of 32x32
is 1,024 pixels, most of whose FLOPs are attention's at these sizes, so it has the fewest points.
The runs are in pixel_resolutions.csv.
Expected by the literature: what is above the floor falls as C^-.19 at 8x8, C^-.16 at 16x16 and
C^-.10 at 32x32 of photographs (Henighan et al. 2020): the larger the image, the slower.
Found: that question is not answered, as the floors are too near and too little known; what the runs
say of glyphs is

- The whole loss of the best run falls the faster the larger the image, as C^-.023 [-.027, -.019],
  C^-.049 [-.056, -.043] and C^-.108 [-.133, -.083], to 1.97, 1.21 and .66 bits a pixel: the other
  order, of another thing, since the floor is inside.
- By a law in size and data, its floor is at most 1.91 of these 1.97 bits at 8x8, and 1.08
  [.65, 1.14] of 1.21 at 16x16. Above it what data are missing falls as D^-.39 [-.11, -.67] and
  D^-.37 [-.15, -.55]: alike, as far as can be told. In compute alone `fit` identifies no floor, and
  seven runs of 32x32 are too few for either.
- 14,000 parameters are best for 32x32 at all budgets, to 1.6e12 FLOPs, where 41,000 are for 16x16
  from 8e11 on and 80,000 as good as 41,000 for 8x8 at 8e11: attention over 1,024 pixels takes what
  would have paid for width. One budget alone (8e11, 16x16) has sizes on both sides of its best, so
  that no exponent of the best size is said. One seed.

Neither for nor against Henighan et al. 2020: exponents of what is above the floor need a wider
range of compute, or a floor that is known.

    python -m research power experiments/pixel_resolutions.csv --loss loss --over flops \
        --by part --where "best == 1"
    python -m research fit experiments/pixel_resolutions.csv --law chinchilla --params params \
        --data data --loss loss --where "part == 'pixels_16'"

At the size of a pod: sizes of `GRID` times 16 and `BUDGETS` times 65,536 in a copy of this file.
"""

from ml_collections import ConfigDict

from research import defaults

RESOLUTIONS = (8, 16, 32)
PARTS = {
    f"pixels_{side}": {
        "title": f"Autoregressive transformers over {side}x{side} pixels of glyphs",
        "family": "autoregressive",
        "data": "glyphs",
        "unit": "bits/dim",
        "data_unit": "images",
    }
    for side in RESOLUTIONS
}
ANSWERS = (
    "power --loss loss --over flops --by part --where 'best == 1'",
    "fit --law chinchilla --params params --data data --loss loss --where \"part == 'pixels_8'\"",
    "fit --law chinchilla --params params --data data --loss loss --where \"part == 'pixels_16'\"",
)
BUDGETS = (5e10, 1e11, 2e11, 4e11, 8e11, 1.6e12)
# Budgets of each size that buy it some 100 steps or more.
GRID = {
    8: {16: BUDGETS[:4], 32: BUDGETS[:5], 48: BUDGETS[2:5]},
    16: {16: BUDGETS[1:5], 32: BUDGETS[1:], 48: BUDGETS[3:]},
    32: {16: BUDGETS[2:], 32: BUDGETS[3:]},
}
# Images of a step and of the score: fewer of the larger, whose pixels are as many in all, or more.
BATCH = {8: 16, 16: 8, 32: 4}
SCORED = {8: 2048, 16: 1024, 32: 256}


def get_config(part: str) -> ConfigDict:
    """One run of the ladder over pixels, each of 256 levels."""
    side = _side(part)
    config = defaults.config(PARTS[part]["family"], PARTS[part]["data"])
    config.part, config.sampling.num = part, 0
    config.data.resolution, config.model.image_shape = side, (side, side, 1)
    config.train.batch_size = BATCH[side]
    config.evaluation.examples, config.evaluation.batch_size = SCORED[side], 8
    return config


def get_trials(part: str) -> list[dict]:
    """Every size at its budgets."""
    return [
        {"size": size, "budget": budget, "seed": 0}
        for size, budgets in GRID[_side(part)].items()
        for budget in budgets
    ]


def _side(part: str) -> int:
    return int(part.rpartition("_")[2])
