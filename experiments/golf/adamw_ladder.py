"""The ladder with AdamW and none of the later ingredients.

Widths were not swept: the best one grows about as the square root of the budget.
"""

from research import defaults

WIDTHS = {2e11: 24, 8e11: 32, 3.2e12: 64}
HEADS = {2e11: 3, 8e11: 1, 3.2e12: 2}


def get_config(budget):
    config = defaults.config("autoregressive", "python_stdlib", optimizer="adamw")
    config.size, config.model.num_heads = WIDTHS[budget], HEADS[budget]
    config.model.update(qk_norm=False, smear=False, zero_outputs=False)
    config.train.clip_norm = 1.0
    return config
