"""Learning-rate schedules: a rate for each step, computed on the host and given to the program."""

import math

from ml_collections import ConfigDict

from research.errors import UserError
from research.parts import check_choice

SCHEDULES = ("wsd", "cosine", "constant")
DECAYS = {  # what is left of the rate after a share of the cooldown
    "sqrt": lambda share: 1 - math.sqrt(share),  # Haegele et al. 2024, eq. 1
    "linear": lambda share: 1 - share,
    "cosine": lambda share: 0.5 + 0.5 * math.cos(math.pi * share),
}


def check(train: ConfigDict) -> None:
    """Raise UserError for a schedule that is unknown or does not fit its horizon."""
    check_choice("train.schedule", train.schedule, SCHEDULES)
    check_choice("train.decay_shape", train.decay_shape, DECAYS)
    if not 0 < train.learning_rate < math.inf:
        raise UserError(f"config.train.learning_rate={train.learning_rate} must be positive")
    decay = train.decay_steps if train.schedule == "wsd" else 0
    if train.warmup_steps + decay > train.steps:
        and_decay = f" + decay_steps={decay}" if decay else ""
        raise UserError(
            f"config.train: warmup_steps={train.warmup_steps}{and_decay} exceed "
            f"steps={train.steps}; give it more steps or a shorter warm-up"
        )


def learning_rate(train: ConfigDict, step: int) -> float:
    """The learning rate of 0-based `step`.

    All schedules rise linearly over `warmup_steps`. "wsd" then holds and, over the last
    `decay_steps`, falls to zero by its `decay_shape`, so that runs of every horizon share one trunk
    (Haegele et al. 2024). "cosine" falls to a tenth (Hoffmann et al. 2022).
    """
    if step < train.warmup_steps:
        return train.learning_rate * (step + 1) / train.warmup_steps
    if train.schedule == "wsd":
        into = step - (train.steps - train.decay_steps)
        share = (into + 1) / (train.decay_steps + 1)
        fraction = DECAYS[train.decay_shape](share) if into >= 0 else 1.0
    elif train.schedule == "cosine":
        done = (step - train.warmup_steps) / max(1, train.steps - train.warmup_steps)
        fraction = 0.55 + 0.45 * math.cos(math.pi * done)
    else:
        fraction = 1.0
    return train.learning_rate * fraction
