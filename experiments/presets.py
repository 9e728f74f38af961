"""What does a published decoder need, and how does it learn here?

Question: by name, what does a model of GPT-2, Llama, Mistral, Mixtral, Pythia, DeepSeek-V3 or
Chinchilla's table cost on a slice, and does its shape learn? `research/presets.py` has the table.

    python -m research dryrun --config experiments/presets.py:llama3_8b --topology v5e:16x16
    python -m research train --config experiments/presets.py:pythia_14m --workdir runs/pythia \
        --config.train.steps=20 --config.train.warmup_steps=2 --config.train.batch_size=8 \
        --config.data.length=64

Cost: of a whole run at 20 tokens a parameter (Hoffmann et al. 2022) from 2.4e16 FLOPs, Pythia 14M,
about 4 minutes on one TPU v5e, to 2.0e25, Llama 3.1 405B.
Expected: the number of parameters as it was published, to the digit; by the law of Besiroglu et al.
2024 from 5.1 nats a token of Pythia 14M to 1.9 of Llama 3.1 405B.
Data: bytes of the Python standard library, which are everywhere, in a vocabulary of the published
size: shape, memory and speed are the model's. Put your own source into a copy of this file.
Sequences are as long as the context, but not over 8,192, where long contexts were trained at first.
"""

from ml_collections import ConfigDict

from research import defaults, presets

PARTS = {
    name: {
        "title": f"{name}'s shape on Python source",
        "family": "autoregressive",
        "data": "python_stdlib",
        "unit": "bits/byte",
        "data_unit": "tokens",
    }
    for name in presets.PRESETS
}
BATCH, LONGEST = 256, 8192


def get_config(part: str) -> ConfigDict:
    """The preset `part`, split over every chip, for 20 tokens a parameter."""
    chosen, longest, total = presets.load(part)
    config = defaults.config("autoregressive", "python_stdlib", optimizer="adamw")
    config.part, config.recipe = part, "fixed"
    config.model = presets.model(chosen)
    config.data.length = length = min(longest, LONGEST)
    config.train.update(clip_norm=1.0, batch_size=BATCH, learning_rate=3e-4, warmup_steps=100)
    config.train.steps = max(1000, round(20 * total / (BATCH * length)))
    config.evaluation.update(batch_size=BATCH, examples=BATCH)
    config.sampling.num = 0
    config.hardware.update(remat="full", unroll=1, attention="chunked", loss_chunks=8)
    config.hardware.compute_dtype = "bfloat16"
    config.hardware.mesh.update(data=1, fsdp=-1)
    return config


def get_trials(part: str) -> list[dict]:
    """One run."""
    return [{}]
