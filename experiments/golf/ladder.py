"""The ladder as it is (recipes.ladder): Muon, rates by role, a linear cooldown."""

from research import defaults

WIDTHS = {2e11: 32, 8e11: 48, 3.2e12: 64}


def get_config(budget):
    config = defaults.config("autoregressive", "python_stdlib")
    config.size = WIDTHS[budget]
    return config
