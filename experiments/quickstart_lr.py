"""Which learning rate does the ladder need at each size with AdamW?

Question: at one budget, which peak rate gives the lowest validation loss for a small, a middle
and a large model, and how does the best rate move with width?
Cost: 1.2e13 FLOPs in 24 trials, about 8 minutes on two cores.
Expected: on text 24, 48 and 96 wide the best of the rates tried are 0.016, 0.008 and 0.004, with
losses of 2.47, 2.65 and 3.10 bits a byte: a rate of 0.4 / width, which recipes.ladder uses. On
images with Fourier features 0.008 is better than 0.003 and 0.001 at 12 to 48 wide (4e11 FLOPs),
and than 0.016 and 0.03 at 16 and 64 wide (8e11): recipes.image_ladder stops there.
"""

import itertools

from ml_collections import ConfigDict

from experiments import quickstart, recipe_gain

PARTS = {part: quickstart.PARTS[part] for part in ("text", "images")}
SIZES = (24, 48, 96)
RATES = {"text": (0.002, 0.004, 0.008, 0.016), "images": (0.002, 0.004, 0.008, 0.016)}
BUDGET = 5e11


def get_config(part: str) -> ConfigDict:
    """The quickstart's data and score at one budget."""
    config = quickstart.get_config(part)
    config.budget, config.sampling.num = BUDGET, 0
    return config


def get_trials(part: str) -> list[dict]:
    """Every size of the first ladder at every rate."""
    return [
        {"size": size, "train.learning_rate": rate} | recipe_gain.first(part, size)
        for size, rate in itertools.product(SIZES, RATES[part])
    ]
