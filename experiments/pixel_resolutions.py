"""Does the exponent of compute fall as images grow?

Question: of transformers over pixels, one after another, of glyphs at 8x8, 16x16 and 32x32, with
which power of compute does the loss fall at each resolution, and how does the best size grow?
Cost: 1.4e13 FLOPs in 31 trials (trunks shared), about 8 minutes on two cores. A window of 32x32 is
1,024 pixels, most of whose FLOPs are attention's at these sizes, so it has the fewest points.
Expected by the literature: what is above the floor falls as C^-.19 at 8x8, C^-.16 at 16x16 and
C^-.10 at 32x32 of photographs (Henighan et al. 2020): the larger the image, the slower. The best
size grows as C^.64 at 8x8, and with nearly the same exponent elsewhere. Small networks of long
windows fall off the law, they say, and these are of 1e4 to 1e5 parameters.

    python -m research fit runs/pixel_resolutions --law frontier
    python -m research power pixel_resolutions.csv --loss loss --over flops --by part \
        --where "best == 1"
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
