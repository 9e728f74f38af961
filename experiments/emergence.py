"""Does writing a line of code that works emerge, or does it come as smoothly as the loss?

Question: as the loss of a text model falls, how do the share of real one-line bodies that it
completes so that they do what the original does, their smooth scores (whether each token is the
likeliest, edit distance, likelihood), and multiple choice about functions move; and does the loss
alone decide them, whatever the size?
Cost: 2.0e13 FLOPs in 17 trials, about 10 minutes on two cores, half of it completions.
Expected by the literature: the share that is right stays at zero and then leaves it, while edit
distance and likelihood of the same bodies move smoothly all the way; what looks sudden is the
measure, which asks for all bytes of a body at once, the probability of a byte to the power of their
number (Schaeffer et al. 2023, sections 2 and 3). Seen against the loss the curve is one for all
sizes (Du et al. 2024, arXiv 2403.15796), and the error of multiple choice falls exponentially with
the loss (Gadre et al. 2024, equation 5) once it leaves chance.

    python -m research fit emergence.csv --loss "1 - choice_body" --column loss=loss \\
        --law loss_to_error --choices 4
    python -m research power emergence.csv --loss likelihood --over loss
    python -m research power emergence.csv --loss="-log(forced)" --over likelihood \
        --where "forced > 0"
"""

from ml_collections import ConfigDict

from research import defaults

PARTS = {
    "text": {
        "title": "Tasks about functions against the loss, on Python source",
        "family": "autoregressive",
        "data": "python_stdlib",
        "unit": "bits/byte",
        "data_unit": "tokens",
    }
}
# Sizes near the best of their budgets, from the least that learns to the most that fits here.
LADDER = (
    (16, 2e10),
    (16, 5e10),
    (16, 2e11),
    (32, 2e11),
    (32, 8e11),
    (48, 1.6e12),
    (64, 3.2e12),
    (96, 6.4e12),
)
BESIDE = ((16, 8e11), (64, 8e11))  # too small and too large for it: at one loss, another size
SEEDS = {96: (0,)}  # by size; two elsewhere


def get_config(part: str) -> ConfigDict:
    """One run of the ladder, asked at its end to choose and to write."""
    config = defaults.config(PARTS[part]["family"], PARTS[part]["data"])
    config.part, config.sampling.num = part, 0
    config.evaluation.evaluators = ("validation", "completion", "choice")
    config.evaluation.examples = 1024
    return config


def get_trials(part: str) -> list[dict]:
    """The ladder with two seeds below its last rung, and two sizes beside it with one."""
    ladder = [(*rung, seed) for rung in LADDER for seed in SEEDS.get(rung[0], (0, 1))]
    beside = [(*rung, 0) for rung in BESIDE]
    return [{"size": size, "budget": c, "seed": seed} for size, c, seed in ladder + beside]
