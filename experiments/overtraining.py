"""Does a small model that is trained for far too long follow the same law?

Question: at 5 to 1,000 tokens a parameter, do losses at one ratio fall with compute by one exponent
whatever the ratio is, while the constant in front grows with it?
Cost: 1.2e13 FLOPs in 26 trials (trunks shared), about 6 minutes on two cores. The runs are in
overtraining.csv. The largest run of each width is of some 2e12 FLOPs, so that 1,000 tokens a
parameter are the narrowest's, and read the text 1.3 times.
Expected, as found: the reducible loss is (a M^eta + b M^-eta) C^-eta at M tokens a parameter, one
exponent for all ratios (Gadre et al. 2024, equation 4 and figure 2; eta = .136 on RedPajama).

- The law holds to 1.9% (standard deviation of the residuals), and these do not go with the ratio:
  their means at each ratio are within .8% of zero. eta is .249 [.157, .307] and the floor 1.27 bits
  a byte [.63, 1.48]. The constant is least at 13 tokens a parameter, and 1.6 times that at 1,000.
- Above that floor the loss falls with compute as ^-.21, ^-.24, ^-.26, ^-.25, ^-.24 and ^-.24 at 5,
  10, 20, 40, 80 and 160 tokens a parameter: those intervals all meet.
- Chinchilla's law has alpha .58 [.18, .88] and beta .50 [.31, .62]: they may be one, as the law
  wants, but its floor is not identified, and so far apart are their ends that it is no sharp test.
- A fit of the runs to 160 tokens a parameter says too little for those at 320 to 1,000, by 1.6 to
  4.1%, the more the longer, though all are inside its intervals. It has a lower floor, 1.08: four
  widths do not tell a floor from an exponent.

Literature: agrees with Gadre et al. 2024 in parallel lines whose distance the ratio says. The
exponent is nearly twice theirs, of models a hundred times as large and more.

    python -m research fit experiments/overtraining.csv --law overtraining --params params \
        --data tokens --loss loss
    python -m research fit experiments/overtraining.csv --law chinchilla --params params \
        --data tokens --loss loss
    python -m research power experiments/overtraining.csv --loss "loss - 1.27" --over flops \
        --by ratio --where "ratio <= 160"

At the size of a pod: experiments/pod_studies.py:overtraining.
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
ANSWERS = (
    "fit --law overtraining --params params --data tokens --loss loss",
    "fit --law chinchilla --params params --data tokens --loss loss",
    "power --loss 'loss - 1.27' --over flops --by ratio --where 'ratio <= 160'",
)
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
