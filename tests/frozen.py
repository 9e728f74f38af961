"""Runs of autoencoders that nobody trained: what is left of them is written as a run leaves it."""

from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from research import config as configs
from research import programs
from research.run import checkpoint, record
from tests import shapes

FLOPS = 123_456  # that they say they took


def write(home: Path, kind: str, **model) -> ConfigDict:
    """Leave a finished run in `home`/`kind`, whose data are in `home`/data; return its config."""
    config, folder = shapes.autoencoder(bottleneck=kind, **model), home / kind
    config.data.folder = str(home / "data")
    generator = np.random.default_rng(1)
    state = jax.tree.map(
        lambda x: generator.normal(0, 0.3, x.shape).astype(x.dtype),
        programs.saved(programs.fresh_shapes(config)),
    )
    state["params"]["statistics"]["square"] += np.float32(2)
    folder.mkdir(parents=True)
    with checkpoint.writer(folder / "checkpoints") as kept:
        checkpoint.save(kept, 1, jax.tree.map(jax.numpy.asarray, state), {})
    record.write_json(folder / "config.json", configs.to_plain(config))
    record.write_json(folder / "result.json", {"status": "finished", "flops_spent": FLOPS})
    return config
