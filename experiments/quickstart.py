"""How does loss fall with size, data and compute, for text and for images?

Question: on real Python source (bytes) and real glyphs (16x16 pixels), which laws do an
autoregressive and a diffusion transformer follow, and does a law fitted without the largest
budget predict it? Two sources of known entropy run beside them: no model may cross their floors.
Cost: 2.0e13 FLOPs in 67 trials, about ten minutes on two cores.
Expected: 1.94 bits a byte on text and 1.56 bits a dimension on glyphs at the largest budgets. The
law in size and data of text has a noise of 0.6% and an identified floor E of 1.37 [1.25, 1.46]; its
best size grows as C^0.52 [0.49, 0.55]; fitted below the largest budget it predicts that within
0.4% on average, where "no more progress" errs by 6.4%. On images seeds alone spread by 1%: the
noise is 1.6%, E is not identified, the best size is known to C^0.72 [0.4, 1.0], and the held-out
budget is missed by 2.7% on average (7.4%), 3 of its 7 runs outside the interval. quickstart_far.py
asks both for thirty times the compute. On the Markov chain the best model ends 1% above the exact
entropy.
"""

from ml_collections import ConfigDict

from research import defaults

PARTS = {
    "text": {
        "title": "Autoregressive transformers on Python source",
        "family": "autoregressive",
        "data": "python_stdlib",
        "unit": "bits/byte",
        "data_unit": "tokens",
    },
    "images": {
        "title": "Diffusion transformers on glyphs",
        "family": "diffusion",
        "data": "glyphs",
        "unit": "bits/dim",
        "data_unit": "images",
    },
    "markov": {
        "title": "Autoregressive transformers on a Markov chain of known entropy",
        "family": "autoregressive",
        "data": "markov",
        "unit": "bits/token",
        "data_unit": "tokens",
    },
    "mixture": {
        "title": "Diffusion transformers on a Gaussian mixture of known density",
        "family": "diffusion",
        "data": "gaussian_mixture",
        "unit": "bits/dim",
        "data_unit": "images",
    },
}
BUDGETS = (5e10, 1e11, 2e11, 4e11, 8e11, 1.6e12)
# Budgets of each size: those that buy it some 300 steps or more. Text is in multiples of 16, whose
# heads are of one width.
GRID = {
    "text": {16: BUDGETS[1:4], 32: BUDGETS[1:], 48: BUDGETS[1:], 64: BUDGETS[2:], 80: BUDGETS[3:]},
    "images": {
        16: BUDGETS[:5],
        24: BUDGETS[1:5],
        32: BUDGETS[1:5],
        48: BUDGETS[2:5],
        64: BUDGETS[3:5],
    },
    "markov": dict.fromkeys((8, 16, 32), (1e10, 2e10, 5e10, 1e11)),
    "mixture": dict.fromkeys((16, 32), (1e10, 2e10, 5e10)),
}
SEEDS = {"text": {16: (0, 1)}, "images": {24: (0, 1), 32: (0, 1)}}


def get_config(part: str) -> ConfigDict:
    """The config of one run of `part`, before a recipe derives the rest."""
    about = PARTS[part]
    config = defaults.config(about["family"], about["data"])
    config.part = part
    config.size, config.budget = 32, 1e11
    config.train.batch_size = 8  # at every budget: horizons share a trunk, and a law is of one size
    if about["family"] == "diffusion":
        config.recipe = "image_ladder"
        config.train.batch_size = 16
        config.model.image_shape = (config.data.resolution, config.data.resolution, 1)
        config.sampling.num = 16
    if part == "images":
        config.model.fourier_features = (6, 7)
    if part == "mixture":
        config.model.discrete = False
    if part == "markov":
        config.data.vocab_size = config.model.vocab_size = 8
        config.sampling.num = 0
    return config


def get_trials(part: str) -> list[dict]:
    """Every size at its budgets; a second seed of the small models, which spread most."""
    return [
        dict(size=size, budget=budget, seed=seed)
        for size, budgets in GRID[part].items()
        for budget in budgets
        for seed in SEEDS.get(part, {}).get(size, (0,))
    ]
