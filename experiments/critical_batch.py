"""Beyond which batch size do more examples a step hardly save steps?

Question: how many steps does a text model take to one loss with batches of 2 to 64 examples, each
at the best of its rates; where do steps stop falling, at two widths; and is the gradient-noise
scale of McCandlish et al. (2018) that batch?
Cost: 1.4e13 FLOPs in 90 trials, and 5.5e12 of scores, about 10 minutes on two cores.
Expected, as found: steps follow S (1 + B_crit / B) (McCandlish et al. 2018, eq. 2.7). To 3.05 bits
a byte B_crit is 11 examples of 64 bytes [7, 17] at 32 wide and 16 [13, 21] at 64 wide; one size
was to be like another (Zhang et al. 2024), and the intervals meet. It grows as the loss falls: 22
[17, 29] to 2.81 at 64 wide. The noise scale, of two halves of each batch, is 8.0 and 5.9 examples
to 3.05 and 9.8 to 2.81: of that order, and half of it. The best rate is that of a batch of 8 times
the root of the batch, within a factor of two; none tried beyond the first three was better.
critical_batch.csv has the rows about those losses, `batch critical_batch.csv --target 3.05` fits
them.
Literature: agrees with McCandlish et al. (2018) in the form of the law and the order of the noise
scale, and with Zhang et al. (2024) in that the width does not show.
"""

import itertools

from ml_collections import ConfigDict

from research import defaults

PARTS = {
    "text": {
        "title": "Steps to a loss against batch size, on Python source",
        "family": "autoregressive",
        "data": "python_stdlib",
        "unit": "bits/byte",
        "data_unit": "tokens",
    }
}
ANSWERS = ("batch --target 3.05", "batch")
SEEDS = {32: (0, 1), 64: (0,)}  # by width
BATCHES = (2, 4, 8, 16, 32, 64)
RATES = (0.004, 0.008, 0.016, 0.032, 0.064)  # at a batch of 8; others by the root of the batch
FEWEST_STEPS, TURN = 150, 16  # enough steps for the loss, were B_crit at the turn
SCORES = 25  # along a run


def get_config(part: str) -> ConfigDict:
    """One run at a constant rate, scored along its way by the average of its weights.

    Second moments forget over as many examples at every batch (Marek et al. 2025).
    """
    config = defaults.config("autoregressive", "python_stdlib", optimizer="adamw")
    config.part, config.sampling.num, config.data.length = part, 0, 64
    config.evaluation.examples = 256
    config.train.schedule, config.train.noise_scale = "constant", 2
    config.rules, config.base.b2, config.base.batch_size = ("half_life",), 0.95, 8
    return config


def get_trials(part: str) -> list[dict]:
    """Every batch at its rates, for as many steps as the loss may take."""
    cells = itertools.product(SEEDS, BATCHES, RATES)
    return [
        _axes(width, batch, rate, seed) for width, batch, rate in cells for seed in SEEDS[width]
    ]


def _axes(width: int, batch: int, rate: float, seed: int) -> dict:
    every = round(FEWEST_STEPS * (1 + TURN / batch) / SCORES)
    return {
        "size": width,
        "train.batch_size": batch,
        "train.learning_rate": rate * (batch / 8) ** 0.5,
        "train.steps": SCORES * every,
        "train.ema_decay": 1 - 10 / (SCORES * every),
        "log_steps": every,
        "evaluation.every_steps": every,
        "seed": seed,
    }
