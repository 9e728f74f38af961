"""nanoGPT's model and optimizer at the ladder's shapes, its rate tuned over five values.

The model: LayerNorm, GELU, learned positions, the head tied to the embedding, no rotary positions,
no biases. The optimizer: AdamW with betas .9 and .95, decay .1, clipping at 1, a linear warm-up and
a cosine to a tenth (github.com/karpathy/nanoGPT, train.py). Weights begin as this project's parts
begin, not as N(0, .02), and norms are not spared by name but as all scalars are.

The rate was tuned at 8e11 FLOPs, 32 wide, and falls as 1 / width, as the ladder's does. This file
is the study of that, too; its table is nanogpt_rates.csv: 3.17, 2.96, 2.78, 2.67 and 2.69 bits a
byte at .002, .004, .008, .016 and .032, one seed each.

    python -m research sweep --config experiments/golf/nanogpt.py
"""

from research import defaults

RATE = 0.016  # at width 32
RATES = (0.002, 0.004, 0.008, 0.016, 0.032)
WIDTHS = {2e11: 24, 8e11: 32, 3.2e12: 64}
PARTS = {
    "8e11": {
        "title": "nanoGPT on Python source",
        "family": "autoregressive",
        "data": "python_stdlib",
        "unit": "bits/byte",
        "data_unit": "tokens",
    }
}


def get_config(budget):
    config = defaults.config("autoregressive", "python_stdlib", optimizer="adamw")
    config.budget, config.size = float(budget), WIDTHS[float(budget)]
    config.model.update(
        norm="layernorm", activation="gelu", positions="learned", max_length=128,
        tie_embeddings=True, qk_norm=False, smear=False, zero_outputs=False,
    )  # fmt: skip
    config.train.update(
        schedule="cosine", warmup_steps=20, learning_rate=RATE * 32 / config.size,
        b1=0.9, b2=0.95, weight_decay=0.1, clip_norm=1.0,
    )  # fmt: skip
    return config


def get_trials(part):
    return [{"train.learning_rate": rate} for rate in RATES]
