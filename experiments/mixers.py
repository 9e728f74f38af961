"""Does another mixer change how fast compute pays, or only the constant?

Question: at equal loss, how many FLOPs do transformers need for one of a network of gated delta
rules, of Mamba-2, of LSTMs, of gated convolutions, or of three recurrent layers to one of
attention; and does that factor grow with compute?
Cost: 1.7e13 FLOPs in 56 trials (trunks shared), about 11 minutes on two cores.
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
SIZES, DEPTH = (32, 48), 4  # layers, so that one in four can be of attention
STEPS = (100, 200, 400, 800)  # of 1,024 bytes: an arm's FLOPs are its own
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
    """Every mixer at both sizes and every horizon."""
    return [
        {"arm": arm, "size": size, "train.steps": steps, "seed": 0} | keys
        for arm, keys in ARMS.items()
        for size in SIZES
        for steps in STEPS
    ]
