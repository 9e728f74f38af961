"""Contrastive divergence: energies of data down, those of where chains come to up (Hinton 2002).

Chains begin at the data, or go on from step to step in a memory of `memory_rows` images of which a
step takes some (persistent chains: Tieleman 2008; a replay buffer where it is larger than a batch:
Du & Mordatch 2019), a share `restarts` of them from the base. The gradient is the likelihood's as
far as the chains have come to the model.
"""

import math
from typing import Any

import jax
from jax import Array
from jax import numpy as jnp
from ml_collections import ConfigDict

from research.errors import UserError
from research.families import energy as family
from research.parts import check_choice

STARTS = ("memory", "data")


def default_model() -> dict[str, Any]:
    """Its keys of `config.model`."""
    return dict(
        chain_steps=10,  # moves of a chain in a step
        starts="memory",
        memory_rows=1024,  # chains that are kept
        restarts=0.0,  # share of a step's chains that begin anew
        energy_decay=0.0,  # of the mean square of energies, data's and chains'
    )


def check(config: ConfigDict) -> None:
    """Raise UserError for chains that cannot be."""
    model, batch_size = config.model, config.train.batch_size
    check_choice("model.starts", model.starts, STARTS)
    if model.chain_steps < 1:
        raise UserError(
            f"config.model.chain_steps={model.chain_steps}: a chain of no steps stays where the "
            "data are, and says nothing; it must be at least 1"
        )
    if not 0 <= model.restarts <= 1:
        raise UserError(f"config.model.restarts={model.restarts} must be a share, from 0 to 1")
    if not 0 <= model.energy_decay < math.inf:
        raise UserError(f"config.model.energy_decay={model.energy_decay} must be at least 0")
    if model.starts == "memory" and batch_size is not None and model.memory_rows < batch_size:
        raise UserError(
            f"config.model.memory_rows={model.memory_rows} must be at least config.train."
            f"batch_size={batch_size}, the chains of a step"
        )
    if model.starts == "memory" and config.hardware.accumulation > 1:
        raise UserError(
            f"config.hardware.accumulation={config.hardware.accumulation} must be 1 with "
            "config.model.starts='memory': the chains of a step are one memory's"
        )


def memory(config: ConfigDict) -> dict[str, Array]:
    """Chains that have not moved yet."""
    if config.model.starts == "data":
        return {}
    return {"chains": family.base(config, jax.random.key(0), config.model.memory_rows)}


def value(
    config: Any, params: Any, x: Array, label: Any, memory: Any, key: Array
) -> tuple[Array, dict[str, Array], Any]:
    """Mean energy of data less that of chains, nats an image."""
    del label
    model, keys = config.model, jax.random.split(key, 4)
    start, rows = x, None
    if model.starts == "memory":
        kept = memory["chains"]
        rows = jax.random.permutation(keys[0], len(kept))[: len(x)]
        anew = jax.random.uniform(keys[1], (len(x), 1, 1, 1)) < model.restarts
        start = jnp.where(anew, family.base(config, keys[2], len(x)), kept[rows])
    still = jax.lax.stop_gradient(params)
    ends, accepted = family.moves(config, still, start, keys[3], model.chain_steps)
    ends = jax.lax.stop_gradient(ends)
    down, up = (family.energy(config, params, each) for each in (x, ends))
    gap = down.mean() - up.mean()
    cost = model.energy_decay * (jnp.square(down).mean() + jnp.square(up).mean())
    metrics = {"energy_gap": gap / x[0].size, "accepted": accepted}
    if rows is not None:
        memory = {"chains": memory["chains"].at[rows].set(ends)}
    return gap + cost, metrics, memory
