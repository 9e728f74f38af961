"""Which ingredients make a small text model good, alone and together?

Question: at equal FLOPs, the optimizer's among them, what is each ingredient of the ladder worth:
added alone to the ladder of the first laws, and taken alone from today's; and what else would help?
Cost: 2.3e14 FLOPs in 351 trials, about 95 minutes on two cores. The runs are in
recipe_text.csv.
Expected, as found: bits a byte, means of three seeds at 2e11 FLOPs and 32 wide / at 8e11 and 48
wide, where the difference of two arms has a standard error of about .006 / .004; a third figure is
of two seeds at 3.2e12 and 64 wide (.007). "Today's" is the ladder before its batch and its heads
were changed by what is found here.

- the first ladder, AdamW: 2.990 / 2.416, today's 2.430 / 2.069: 3.8 times less compute [3.5, 4.2]
  for 2.42 by `compare --arms first,ladder`
- its ingredients, alone: Muon -.425 / -.274, smear -.207 / -.109, a batch of 8 -.140 / -.091, four
  times the embedding's rate -.063 / -.060, QK-norm -.025 / -.033; zero outputs and no clipping
  nothing
- taken from today's: AdamW +.426 / +.221, smear +.069 / +.031, NorMuon +.021 / +.017, zero outputs
  +.026 / +.016, QK-norm +.008 / +.010
- look-up tables: bigrams -.161 / -.123, values -.021 / -.011, both -.172 / -.124: at 40 times the
  parameters, so an option; less at the larger rung. At the best width both reach 1.924 at 8e11 (32
  wide, two seeds) and 1.842 at 1.6e12 (48 wide)
- taken since: a batch that grows with the budget, 4 -.017 / +.024, 16 +.083 / +.018 / -.020; heads
  16 wide and no wider, -.016 / 0 (they are) / -.023
- better at both and gone at the third: SwiGLU -.021 / -.019 / -.006, three Newton-Schulz steps
  -.003 / -.013 / +.003, b1 .8 -.018 / -.007 / +.003 (on the two others); the three together -.035
  / -.034 / -.011
- worse at the larger: decay .3, one head, tied tables, cooldown .4, GELU, twice the embedding's
  rate, cosine
- no matter: weight averaging, residual scalars, cautious decay, clipping, warm-up, soft-cap, b2
  .99, momentum .9, leaky ReLU^2, LayerNorm, no decay, rates x .7 and x 1.4, the shape sqrt
"""

import itertools

from ml_collections import ConfigDict

from research import defaults

PARTS = {
    "text": {
        "title": "Ingredients of a text model",
        "family": "autoregressive",
        "data": "python_stdlib",
        "unit": "bits/byte",
        "data_unit": "tokens",
    }
}
ANSWERS = ("compare --arms first,ladder --params params --data tokens --flops flops --loss loss",)
RUNGS = ((32, 1, 2e11), (48, 3, 8e11))  # width, heads as the ladder then had them, and FLOPs
LARGEST = (64, 2, 3.2e12)  # of some arms, with two seeds
WITH_TABLES = ((32, 2, 8e11), (32, 2, 1.6e12), (48, 3, 1.6e12), (64, 4, 1.6e12))  # two seeds too
SEEDS = (0, 1, 2)
# The ladder of the first laws: AdamW at one rate, a short cooldown, none of the ingredients.
FIRST = {
    "train.optimizer": "adamw",
    "train.batch_size": 16,
    "train.clip_norm": 1.0,
    "model.qk_norm": False,
    "model.smear": False,
    "model.zero_outputs": False,
}
MUON = {"train.optimizer": "muon", "train.scale": "rms", "train.neuron_b2": 0.0}
SWIGLU = {"model.activation": "swiglu", "model.mlp_ratio": 8 / 3}
SCHULZ = {"train.newton_schulz_steps": 3}
ALONE = {  # added to the first ladder
    "first": {},
    "first+muon": MUON,
    "first+qk_norm": {"model.qk_norm": True},
    "first+smear": {"model.smear": True},
    "first+zero_outputs": {"model.zero_outputs": True},
    "first+embedding_x4": {"train.rates.input": 4.0},
    "first+no_clip": {"train.clip_norm": 0.0},
    "first+batch_8": {"train.batch_size": 8},
    "first+values": {"model.value_embeddings": True},
    "first+bigrams": {"model.bigram_rows": 65_536},
}
BOTH = {  # changed in today's ladder, and in that of images
    "ladder": {},
    "adamw": {"train.optimizer": "adamw", "train.batch_size": 16},
    "no_neurons": {"train.neuron_b2": 0.0},
    "cautious": {"train.cautious_decay": True},
    "heads_apart": {"train.heads_apart": True},
    "rate_x.7": {"train.learning_rate": 0.014},
    "rate_x1.4": {"train.learning_rate": 0.028},
    "decay_0": {"train.weight_decay": 0.0},
    "decay_.3": {"train.weight_decay": 0.3},
    "momentum_.9": {"train.momentum": 0.9},
    "schulz_3": SCHULZ,
    "warmup_40": {"train.warmup_steps": 40},
    "cooldown_.4": {"train.decay_fraction": 0.4},
    "cooldown_.9": {"train.decay_fraction": 0.9},
    "cooldown_sqrt": {"train.decay_shape": "sqrt"},
    "clip_1": {"train.clip_norm": 1.0},
    "residual_scalars": {"model.residual_scalars": True},
    "gelu": {"model.activation": "gelu"},
    "swiglu": SWIGLU,
}
TOGETHER = BOTH | {
    "no_qk_norm": {"model.qk_norm": False},
    "no_smear": {"model.smear": False},
    "no_zero_outputs": {"model.zero_outputs": False},
    "input_x.5": {"train.rates.input": 2.5},
    "input_x2": {"train.rates.input": 10.0},
    "output_x.5": {"train.rates.output": 0.45},
    "output_x2": {"train.rates.output": 1.8},
    "scalar_x3": {"train.rates.scalar": 3.0},
    "b1_.8": {"train.b1": 0.8},
    "b2_.99": {"train.b2": 0.99},
    "batch_4": {"train.batch_size": 4},
    "batch_16": {"train.batch_size": 16},
    "warmup_1": {"train.warmup_steps": 1},
    "cooldown_cosine": {"train.decay_shape": "cosine"},
    "average_.98": {"train.ema_decay": 0.98},
    "one_head": {"model.num_heads": 1},
    "softcap_15": {"model.logit_softcap": 15.0},
    "leaky_relu2": {"model.activation": "leaky_relu2"},
    "tied": {"model.tie_embeddings": True},
    "layernorm": {"model.norm": "layernorm"},
    "values": {"model.value_embeddings": True},
    "bigrams": {"model.bigram_rows": 65_536},
    "swiglu+schulz_3": SWIGLU | SCHULZ,
    "swiglu+schulz_3+b1_.8": SWIGLU | SCHULZ | {"train.b1": 0.8},
    "tables": {"model.value_embeddings": True, "model.bigram_rows": 65_536},
}
AT_LARGEST = {
    **{name: TOGETHER[name] for name in ("ladder", "batch_16", "schulz_3")},
    **{name: keys for name, keys in TOGETHER.items() if name.startswith("swiglu")},
    "schulz_3+batch_16": SCHULZ | {"train.batch_size": 16},
    "heads_16": {"model.num_heads": 4},
}


def get_config(part: str) -> ConfigDict:
    """One run of the ladder."""
    config = defaults.config(PARTS[part]["family"], PARTS[part]["data"])
    config.part, config.sampling.num = part, 0
    config.size, _, config.budget = RUNGS[0]
    config.train.batch_size = 8
    return config


def get_trials(part: str) -> list[dict]:
    """Every arm at both rungs, with three seeds, some at the largest, look-up tables at others."""
    arms = {name: FIRST | keys for name, keys in ALONE.items()} | TOGETHER
    more = trials({"heads_16": {"model.num_heads": 2}}, RUNGS[:1], SEEDS)
    more += trials(AT_LARGEST, (LARGEST,), SEEDS[:2])
    more += trials({"tables": TOGETHER["tables"]}, WITH_TABLES, SEEDS[:2])
    return trials(arms, RUNGS, SEEDS) + more


def trials(arms: dict[str, dict], rungs: tuple, seeds: tuple) -> list[dict]:
    """Every arm, named with the keys that it sets, at each rung."""
    return [
        {"arm": arm, "model.num_heads": heads, "size": size, "budget": budget, "seed": seed} | keys
        for (arm, keys), (size, heads, budget), seed in itertools.product(
            arms.items(), rungs, seeds
        )
    ]
