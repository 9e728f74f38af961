"""What are experts worth at equal active FLOPs, and how many, how fine?

Question: where a mixture has 2, 8 or 32 times the perceptron's parameters and computes with as many
as a dense network, how many times the FLOPs does the dense one need for its loss; does that fade as
networks grow; and are more, smaller experts better?
Cost: 1.0e13 FLOPs in 64 trials (trunks shared), about 8 minutes on two cores. The runs are in
experts.csv.
Expected, as found: all gain, the more experts the more, and less at the largest size. The dense
network needs these times the FLOPs at equal loss, over its own horizons at each width, by
`compare experts.csv --where "size == 16"` and so on, 95% intervals:

- twice the perceptron's parameters: 1.59 [1.29, 1.95] at 16 wide, 1.73 [1.57, 1.91] at 32, 1.14
  [1.08, 1.20] at 64;
- 8 times: 1.97 [1.49, 2.60], 1.85 [1.59, 2.14], 1.36 [1.25, 1.49];
- 32 times: 2.15 [1.65, 2.80], 2.07 [1.82, 2.36], 1.39 [1.20, 1.62]: from 8 to 32 hardly more.

Of all widths together it is 1.6 [1.2, 2.2], 1.9 [1.2, 3.2] and 2.2 [1.3, 3.5] at 2.65 bits a byte.
At the longest horizon the loss falls as the expansion^-.035 [-.060, -.010], ^-.036 [-.074, .002]
and ^-.027 [-.045, -.008]. Finer experts cannot be told from coarse ones by FLOPs, which grow with
the router: 1.08 [.92, 1.28] for granularity 4 and 1.00 [.85, 1.19] for 8, at 32 and 64 wide; at
equal tokens the last losses are 1% lower for both. 64 wide saw 10 tokens a parameter, 16 wide 90,
so that less gain at the larger size may be less training. Neither published law can be fitted to
these few sizes: `fit` refuses both. One seed.

Literature: partly: the order, the saturation and the gain that falls with the size are as in Clark
et al. 2022 (equation 1), but these gains are smaller than the 1.4, 3.7 and 11 times the parameters
that their constants, of networks a hundred times as large and more, give for 40,000; the gain of
finer experts (Krajewski et al. 2024, equation 9) is within the noise.

Nobody is dropped. A position passes G experts of 1 / G of the dense perceptron's hidden units, of
E G in all: G is the granularity, E the expansion. G is 2 at least, whose weights sum to 1: one
expert alone would be weighed by its probability, another thing to compare. The optimizer is AdamW,
at the ladder's rates of it: Muon's products for each expert's matrices, of a batch as small as
these, cost as many FLOPs again as the forward pass, and at equal FLOPs that would be what is
compared.

    python -m research compare experiments/experts.csv --arms dense,e2,e8,e32 --params active \
        --data tokens --flops flops --loss loss --where "size == 64"
    python -m research compare experiments/experts.csv --arms e8,e8g4,e8g8 --params active \
        --data tokens --flops flops --loss loss --where "size > 16"
    python -m research power experiments/experts.csv --loss loss --over expansion --by size \
        --where "steps == 1280 and granularity <= 2"
    python -m research fit experiments/experts.csv --law moe_clark --params dense --loss loss \
        --column experts=expansion --where "steps == 1280 and granularity <= 2"
    python -m research fit experiments/experts.csv --law moe_krajewski --params active \
        --data tokens --loss loss --column granularity=granularity --where "expansion == 8"

At the size of a pod: experiments/pod_studies.py:experts.
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
ANSWERS = (
    "compare --arms dense,e2,e8,e32 --params active --data tokens --flops flops --loss loss"
    " --where 'size == 64'",
    "compare --arms dense,e2,e8,e32 --params active --data tokens --flops flops --loss loss"
    " --where 'size == 32'",
    "compare --arms e8,e8g4,e8g8 --params active --data tokens --flops flops --loss loss"
    " --where 'size > 16'",
)
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
