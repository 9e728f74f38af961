"""Does a masked model make more of data that are repeated than an autoregressive one?

Question: of a small slice of Python source, read 1 to 100 times, where do masked diffusion and
autoregression cross in the bits of text that neither has read?
"""

from ml_collections import ConfigDict

from research import defaults

PARTS = {
    name: {
        "title": f"{title} of one small text, read again and again",
        "family": family,
        "data": "python_stdlib",
        "unit": "bits/byte",
        "data_unit": "tokens",
    }
    for name, title, family in (
        ("next", "Autoregression", "autoregressive"),
        ("masked", "Masked diffusion", "discrete_diffusion"),
    )
}
SIZES = (32, 64)
UNIQUE = 2**16  # bytes
EPOCHS = (1, 4, 16, 50, 100)
BATCH, LENGTH = 8, 128


def get_config(part: str) -> ConfigDict:
    """One run of the ladder on the slice."""
    config = defaults.config(PARTS[part]["family"], "python_stdlib")
    config.part, config.sampling.num = part, 0
    config.data.length, config.data.unique, config.train.batch_size = LENGTH, UNIQUE, BATCH
    config.evaluation.examples, config.log_steps = 1024, 200
    return config


def get_trials(part: str) -> list[dict]:
    """Both sizes, each as often through the slice as `EPOCHS` says."""
    return [
        {"size": size, "train.steps": epochs * UNIQUE // (BATCH * LENGTH), "seed": 0}
        for size in SIZES
        for epochs in EPOCHS
    ]
