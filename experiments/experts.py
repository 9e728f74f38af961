"""What are experts worth at equal active FLOPs, and how many, how fine?

Question: where a mixture has 2, 8 or 32 times the perceptron's parameters and computes with as many
as a dense network, how many times the FLOPs does the dense one need for its loss; does that fade as
networks grow; and are more, smaller experts better?
Cost: 1.0e13 FLOPs in 64 trials (trunks shared), about 8 minutes on two cores.
Expected: at a fixed amount of data the log of the loss falls in a straight line of the log of the
number of experts, less at larger sizes, and saturates (Clark et al. 2022, equation 1). By their
constants, of networks a hundred times as large and more, 2, 8 and 32 experts are worth 1.4, 3.7 and
11 times the parameters at 40,000 of them. Finer experts are better: their part of the term of size
falls as G^-.58, and the gap to dense networks does not close (Krajewski et al. 2024, equation 9).

Nobody is dropped. A position passes G experts of 1 / G of the dense perceptron's hidden units, of
E G in all: G is the granularity, E the expansion. G is 2 at least, whose weights sum to 1: one
expert alone would be weighed by its probability, another thing to compare. The optimizer is AdamW,
at the ladder's rates of it: Muon's products for each expert's matrices, of a batch as small as
these, cost as many FLOPs again as the forward pass, and at equal FLOPs that would be what is
compared.

    python -m research compare runs/experts --arms dense,e8
    python -m research compare runs/experts --arms e8,e8g8
    python -m research power experiments/experts.csv --loss loss --over expansion --by size \
        --where "steps == 1280 and granularity <= 2"
    python -m research fit experiments/experts.csv --law moe_clark --params dense --loss loss \
        --column experts=expansion --where "steps == 1280 and granularity <= 2"
    python -m research fit experiments/experts.csv --law moe_krajewski --params active \
        --data tokens --loss loss --column granularity=granularity --where "expansion == 8"

At the size of a pod: `SIZES` times 16 and a batch of 4,096 in a copy of this file, with the experts
on config.hardware.mesh.expert devices.
"""

from ml_collections import ConfigDict

from research import defaults

PARTS = {
    "text": {
        "title": "Mixtures of experts on Python source",
        "family": "autoregressive",
        "data": "python_stdlib",
        "unit": "bits/byte",
        "data_unit": "tokens",
    }
}
SIZES, STEPS = (16, 32, 64), (160, 320, 640, 1280)  # of 1,024 tokens each
EXPANSIONS, COARSE = (2, 8, 32), 2
FINER, FINE_SIZES = ((8, 4), (8, 8)), (32, 64)  # expansion and granularity
RATIO = 4  # hidden units of the dense perceptron over the width


def get_config(part: str) -> ConfigDict:
    """One run of AdamW's ladder; its batch is that of its smaller sizes at all of them."""
    config = defaults.config("autoregressive", "python_stdlib", optimizer="adamw")
    config.part, config.sampling.num = part, 0
    config.data.length, config.train.batch_size = 64, 16
    config.evaluation.examples, config.log_steps = 1024, 200
    return config


def get_trials(part: str) -> list[dict]:
    """Dense networks and mixtures of every size, as long; finer experts at the larger sizes."""
    arms = [(size, {"arm": "dense"}) for size in SIZES]
    arms += [(size, _mixture(many, COARSE)) for many in EXPANSIONS for size in SIZES]
    arms += [(size, _mixture(*fine)) for fine in FINER for size in FINE_SIZES]
    return [
        {**arm, "size": size, "train.steps": steps, "seed": 0}
        for size, arm in arms
        for steps in STEPS
    ]


def _mixture(expansion: int, granularity: int) -> dict:
    """The axes of E G experts, of which a position passes G, 1 / G as large each."""
    finer = f"g{granularity}" if granularity != COARSE else ""
    return {
        "arm": f"e{expansion}{finer}",
        "model.channel": "moe",
        "model.num_experts": expansion * granularity,
        "model.experts_per_token": granularity,
        "model.mlp_ratio": RATIO / granularity,
        "model.capacity_factor": 0.0,
    }
