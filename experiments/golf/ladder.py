"""The ladder with AdamW (recipes.ladder), as the quickstart first had it: the contest's first row.

Widths are those that did best at 8e11 FLOPs and their neighbours: the best one grows about as the
square root of the budget.
"""

from research import defaults

WIDTHS = {2e11: 24, 8e11: 32, 3.2e12: 64}


def get_config(budget):
    config = defaults.config("autoregressive", "python_stdlib")
    config.size = WIDTHS[budget]
    return config
