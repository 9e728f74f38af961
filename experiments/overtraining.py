"""Does a small model that is trained for far too long follow the same law?

Question: at 5 to 1,000 tokens a parameter, do losses at one ratio fall with compute by one exponent
whatever the ratio is, while the constant in front grows with it?
Cost: 1.2e13 FLOPs in 26 trials (trunks shared), about 6 minutes on two cores.
Expected: the reducible loss is (a M^eta + b M^-eta) C^-eta at M tokens a parameter: lines of its
log against that of compute are parallel, at a distance that the ratio says, for 5 to 640 tokens a
parameter (Gadre et al. 2024, equation 4 and figure 2; eta = .136 on RedPajama, half the power of
size or data). This is Chinchilla's law with alpha = beta: a fit of that one says whether they are.

The largest run of each width is of some 2e12 FLOPs, so that 1,000 tokens a parameter are the
narrowest's, and read the text 1.3 times.

    python -m research fit experiments/overtraining.csv --law overtraining --params params \
        --data tokens --loss loss
    python -m research fit experiments/overtraining.csv --law chinchilla --params params \
        --data tokens --loss loss
    python -m research power experiments/overtraining.csv --loss loss --over flops --by ratio \
        --where "ratio <= 40"

At the size of a pod: `SIZES` times 16, `MOST` times 65,536 and `BATCH` times 256 in a copy of this
file, on a source of 4 billion tokens or more.
"""

from ml_collections import ConfigDict

from research import cost, defaults, recipes

PARTS = {
    "text": {
        "title": "Many tokens a parameter, on Python source",
        "family": "autoregressive",
        "data": "python_stdlib",
        "unit": "bits/byte",
        "data_unit": "tokens",
    }
}
SIZES = (16, 24, 32, 48)
RATIOS = (5, 10, 20, 40, 80, 160, 320, 640, 1000)  # tokens a parameter, all parameters counted
MOST = 2.5e12  # FLOPs of a run, as 6 N D
BATCH, LENGTH = 8, 128


def get_config(part: str) -> ConfigDict:
    """One run of the ladder."""
    config = defaults.config("autoregressive", "python_stdlib")
    config.part, config.sampling.num = part, 0
    config.data.length, config.train.batch_size = LENGTH, BATCH
    config.evaluation.examples, config.log_steps = 1024, 400
    return config


def get_trials(part: str) -> list[dict]:
    """Every size at every ratio that is not too dear."""
    sizes = {size: _parameters(part, size) for size in SIZES}
    return [
        {
            "size": size,
            "train.steps": round(ratio * parameters / (BATCH * LENGTH)),
            "seed": 0,
        }
        for size, parameters in sizes.items()
        for ratio in RATIOS
        if 6 * parameters * ratio * parameters <= MOST
    ]


def _parameters(part: str, size: int) -> int:
    """How many parameters the ladder gives a size, its tables and head among them."""
    config = get_config(part)
    config.size, config.train.steps = size, 1
    return cost.ledger(recipes.apply(config)).total_params
