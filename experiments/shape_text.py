"""At equal compute, does it matter whether a text model is wide or deep?

Question: four shapes of nearly equal parameters, from 64 times as wide as deep to 3 times, and the
same at four times the parameters: how far apart are their losses at equal FLOPs, how many times the
FLOPs of the ladder's two layers does one layer, do four and eight need, and does the best depth
grow with the size?
Cost: 2.0e13 FLOPs in 36 trials (trunks shared), about 9 minutes on two cores. The runs are in
shape_text.csv.
Expected, as found: between two and four layers the shape hardly matters, and the deeper gains with
the size; one layer and eight are worse. Two layers need these times the FLOPs of the other shape at
equal loss, by `compare shape_text.csv`, 95% intervals:

- at some 210,000 parameters in layers, losses of 3.1 to 2.1 bits a byte: one layer .87 [.80, .94],
  four 1.12 [1.06, 1.17], eight .91 [.83, .99];
- at the better of both sizes, which is the small one at all of these budgets: one .83 [.69, .99],
  four .92 [.80, 1.06], eight .60 [.47, .76]. No trend with compute can be told from none.

At equal FLOPs two and four layers are within 2.6% of loss at both sizes. Four are better at the
larger, by 1.9 to 2.6%, and worse by .4 to 1.9% at the smaller: the best depth grows with the size.
Eight at 24 wide begin 14% behind and end 3.4% behind; at 48 wide they are 1.3 to 2.7% behind. One
layer falls behind as compute grows, from 0 to 3.6% and from 1.3 to 4.3%. A second seed, at the
smallest budget alone, is off by .2 to .7%. FLOPs count heads and tables, of which deep networks
have less, so that they take more steps of as many parameters.

Literature: agrees with Kaplan et al. 2020 (section 3.1) that shapes in between are within 3% and
that one layer is worse, and with Levine et al. 2020, by whose log of the width to base 3 layers pay
up to 2.9 to 4.4 here: eight lose, by less where the network is wider, and four gain.

    python -m research compare experiments/shape_text.csv --arms depth_2,depth_1,depth_4,depth_8 \
        --params params --data tokens --flops flops --loss loss --where "inner > 100000"

At the size of a pod: experiments/pod_studies.py:shape_text.
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
ANSWERS = (
    "compare --arms depth_2,depth_1,depth_4,depth_8 --params params --data tokens --flops flops"
    " --loss loss --where 'inner > 100000'",
    "compare --arms depth_2,depth_1,depth_4,depth_8 --params params --data tokens --flops flops"
    " --loss loss",
)
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
