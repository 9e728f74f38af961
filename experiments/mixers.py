"""Does another mixer change how fast compute pays, or only the constant?

Question: at equal loss, how many FLOPs do transformers need for one of a network of gated delta
rules, of Mamba-2, of LSTMs, of gated convolutions, or of three recurrent layers to one of
attention; and does that factor grow with compute?
Cost: 1.2e13 FLOPs in 42 trials (trunks shared), about 9 minutes on two cores.
Expected by the literature: LSTMs fall behind with a smaller exponent, as they stop learning from
what stands far back (Kaplan et al. 2020, figure 7). Recurrences with gates are as good as attention
at equal compute, with its exponent (Gu & Dao 2023, figure 4, of Mamba); the gated delta rule is
better than Mamba-2, and a hybrid better than its parts (Yang et al. 2025, arXiv 2412.06464), though
its loss hardly depends on how many layers are of attention (Wang et al. 2025, arXiv 2507.06457). In
windows of 128 bytes little is far back: a recurrence forgets nothing that matters, while
convolutions of four taps see no more than 13 bytes through four layers.

    python -m research compare runs/mixers \\
        --arms attention,gated_delta,mamba2,delta_hybrid,mamba2_hybrid,lstm,convolution
"""

from ml_collections import ConfigDict

from research import defaults

PARTS = {
    "text": {
        "title": "Mixers of text models on Python source",
        "family": "autoregressive",
        "data": "python_stdlib",
        "unit": "bits/byte",
        "data_unit": "tokens",
    }
}
DEPTH = 4  # layers, so that one in four can be of attention
BUDGETS = (1e11, 2e11, 4e11, 8e11)
GRID = {32: BUDGETS[:3], 48: BUDGETS[1:]}  # by width, those that buy it some 100 steps or more
# FLOPs of a step as the ledger counts them, which takes longer than all else of loading this file.
STEP_FLOPS = {
    "attention": {32: 592_969_728, 48: 1_189_675_008},
    "gated_delta": {32: 626_283_136, 48: 1_268_291_184},
    "mamba2": {32: 962_603_328, 48: 1_750_436_664},
    "delta_hybrid": {32: 617_954_784, 48: 1_248_637_140},
    "mamba2_hybrid": {32: 870_194_928, 48: 1_610_246_250},
    "lstm": {32: 537_133_056, 48: 1_237_155_840},
    "convolution": {32: 391_643_136, 48: 887_685_120},
}
ARMS = {
    "attention": {},
    "gated_delta": {"model.mixer": "gated_delta"},
    "mamba2": {"model.mixer": "mamba2"},
    "delta_hybrid": {"model.pattern": (*3 * ("mixer=gated_delta",), "mixer=attention")},
    "mamba2_hybrid": {"model.pattern": (*3 * ("mixer=mamba2",), "mixer=attention")},
    "lstm": {"model.mixer": "lstm"},
    "convolution": {"model.mixer": "convolution"},
}


def get_config(part: str) -> ConfigDict:
    """One run of the ladder; every arm has its rates, which are those of attention."""
    config = defaults.config(PARTS[part]["family"], PARTS[part]["data"])
    config.part, config.sampling.num = part, 0
    config.model.depth = DEPTH
    config.evaluation.examples = 1024
    return config


def get_trials(part: str) -> list[dict]:
    """Every mixer at both sizes and their budgets, as steps."""
    return [
        {"arm": arm, "size": size, "budget": budget, "train.steps": steps, "seed": 0} | keys
        for arm, keys in ARMS.items()
        for size, budgets in GRID.items()
        for budget in budgets
        for steps in [round(budget / STEP_FLOPS[arm][size])]
    ]
