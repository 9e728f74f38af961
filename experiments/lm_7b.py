"""What does it take to train a decoder of Llama-2 7B's shape?

Question: on which slice, with which mesh, does a step of 256 sequences of 2,048 tokens fit, how
long must it take, and what does the whole run cost?
Cost: 5.8e21 FLOPs over 20 tokens a parameter (Hoffmann et al. 2022); at the floor about 41 hours
(2,480 minutes) on 256 TPU v5e, if nothing but the matrix products took time.
Expected: by the law of Besiroglu et al. 2024, 2.18 nats a token where tokens are pieces of
words; at 4.3 bytes a piece that is 0.73 bits a byte.
Paper: Touvron et al. 2023 (arXiv 2307.09288), whose 7B has 6,738,415,616 parameters.
Data: the English of Dolma (Soldaini et al. 2024). The pipeline gives its bytes; the vocabulary
keeps Llama's 32,000 rows, so that the shape, its memory and its speed are Llama's.
A dry run needs neither the data nor a network.
"""

from ml_collections import ConfigDict

from research import defaults

PARTS = {
    "pretrain": {
        "title": "Llama-2 7B's shape on Dolma",
        "family": "autoregressive",
        "data": "dolma",
        "unit": "bits/byte",
        "data_unit": "tokens",
    }
}


def get_config(part: str) -> ConfigDict:
    """Llama-2 7B, its parameters and optimizer state split over every chip."""
    config = defaults.config("autoregressive", "dolma", optimizer="adamw")
    config.part, config.recipe = part, "fixed"
    config.data.update(feature="text", length=2048)
    config.model.update(depth=32, width=4096, num_heads=32, vocab_size=32_000)
    config.model.update(mlp_ratio=11_008 / 4096, activation="swiglu")
    config.model.update(qk_norm=False, smear=False, zero_outputs=False)
    config.train.update(
        clip_norm=1.0, steps=257_041, batch_size=256, learning_rate=3e-4, warmup_steps=2_000
    )
    config.evaluation.update(batch_size=256, examples=4096)
    config.sampling.num = 0
    config.hardware.update(remat="full", unroll=1, attention="splash", loss_chunks=8)
    config.hardware.compute_dtype = "bfloat16"
    config.hardware.mesh.update(data=1, fsdp=-1)
    return config


def get_trials(part: str) -> list[dict]:
    """One run."""
    return [{}]
