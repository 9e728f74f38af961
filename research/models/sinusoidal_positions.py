"""Sinusoids of each position, added to the input (Vaswani et al. 2017, section 3.5)."""

from typing import Any

import jax
import numpy as np
from jax import numpy as jnp
from ml_collections import ConfigDict

from research.errors import UserError


def check(config: ConfigDict) -> None:
    """Raise UserError for a width that has no half."""
    if config.model.width % 2:
        raise UserError(
            f"config.model.positions='sinusoidal' needs an even config.model.width, "
            f"not {config.model.width}"
        )


def sinusoids(positions: jax.Array | np.ndarray, size: int) -> jax.Array:
    """Cosines and sines at `size` / 2 frequencies from 1 down to 1/10000, [..., size]."""
    frequency = 10_000.0 ** (-jnp.arange(size // 2) / (size // 2))
    angle = jnp.asarray(positions, jnp.float32)[..., None] * frequency
    return jnp.concatenate([jnp.cos(angle), jnp.sin(angle)], -1)


def embed(module: Any, model: Any, at: jax.Array) -> jax.Array:
    """The sinusoids, [..., D]."""
    del module
    return sinusoids(at, model.width)
