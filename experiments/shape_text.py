"""At equal compute, does it matter whether a text model is wide or deep?

Question: four shapes of nearly equal parameters, from 64 times as wide as deep to 3 times, and the
same at four times the parameters: how far apart are their losses at equal FLOPs, how many times the
FLOPs of the ladder's two layers does one layer, do four and eight need, and does the best depth
grow with the size?
Cost: 2.0e13 FLOPs in 36 trials (trunks shared), about 9 minutes on two cores.
Expected: at a fixed number of parameters outside of the tables the shape hardly matters: the ratio
of width to depth may vary 40-fold, and 6 layers of 4,288 are within 3% of 48 of 1,600 (Kaplan et
al. 2020, section 3.1 and figure 5); but one layer is worse than all others (their figure 6). Layers
pay up to the log of the width to base 3, which is 3 to 4 here, and are no better than width beyond
(Levine et al. 2020): eight should lose, by less at the larger size.

    python -m research compare runs/shape_text --arms depth_2,depth_1
    python -m research compare runs/shape_text --arms depth_2,depth_4
    python -m research compare runs/shape_text --arms depth_2,depth_8

At the size of a pod: widths times 16, `BUDGETS` times 65,536 and a batch of 2,048 in a copy of this
file; FLOPs go with the square of parameters, so the numbers of steps stay.
"""

from ml_collections import ConfigDict

from research import defaults

PARTS = {
    "text": {
        "title": "Width against depth, on Python source",
        "family": "autoregressive",
        "data": "python_stdlib",
        "unit": "bits/byte",
        "data_unit": "tokens",
    }
}
# By depth, the widths of some 50,000 and some 210,000 parameters in layers.
SHAPES = {1: (64, 128), 2: (48, 96), 4: (32, 64), 8: (24, 48)}
BUDGETS = (2e11, 4e11, 8e11, 1.6e12)


def get_config(part: str) -> ConfigDict:
    """One run of the ladder, with one batch so that horizons share a trunk."""
    config = defaults.config("autoregressive", "python_stdlib")
    config.part, config.sampling.num = part, 0
    config.train.batch_size, config.evaluation.examples, config.log_steps = 8, 512, 200
    return config


def get_trials(part: str) -> list[dict]:
    """Every shape at every budget; a second seed of the smaller ones where it costs least."""
    return [
        {
            "arm": f"depth_{depth}",
            "size": width,
            "model.depth": depth,
            "budget": budget,
            "seed": seed,
        }
        for depth, widths in SHAPES.items()
        for width in widths
        for budget in BUDGETS
        for seed in ((0, 1) if width == widths[0] and budget == BUDGETS[0] else (0,))
    ]
