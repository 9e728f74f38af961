"""A Gaussian of one deviation for all dimensions, fixed or learned, around what the decoder says.

With linear networks and the bottleneck "kl" this is probabilistic principal component analysis
(Tipping & Bishop 1999), whose likelihood the bound reaches (Lucas et al. 2019, theorem 1).
"""

import math
from typing import Any

import jax
from jax import Array
from jax import numpy as jnp
from ml_collections import ConfigDict

from research.errors import UserError


def default_model() -> dict[str, Any]:
    """Its key of `config.model`."""
    return dict(deviation=0.0)  # of the noise; 0: learned, from 1 on


def check(config: ConfigDict) -> None:
    """Raise UserError for a negative deviation, or levels, which have no density."""
    model = config.model
    if not 0 <= model.deviation < math.inf:
        raise UserError(f"config.model.deviation={model.deviation} must be at least 0")
    if model.discrete:
        raise UserError(
            "config.model.likelihood='gaussian' is a density of floats, and these data are levels; "
            "nearest valid: 'pixel'"
        )


def outputs(model: Any) -> int:
    """What the decoder says of a dimension: a mean."""
    del model
    return 1


def init(model: Any, key: Array) -> dict[str, Array]:
    """The logarithm of the deviation where it is learned."""
    del key
    return {} if model.deviation else {"log_scale": jnp.zeros(1)}


def axes(model: Any) -> dict[str, tuple[str | None, ...]]:
    """Logical axes of it."""
    return {} if model.deviation else {"log_scale": ("norm",)}


def _log_scale(model: Any, params: Any) -> Any:
    return math.log(model.deviation) if model.deviation else params["log_scale"]


def cost(model: Any, params: Any, image: Any, said_BxHxWxO: Any) -> Array:
    """-log p of each dimension, nats [B, H, W, C]."""
    log_scale = _log_scale(model, params)
    square = jnp.square((image - said_BxHxWxO) * jnp.exp(-log_scale))
    return 0.5 * (square + math.log(2 * math.pi)) + log_scale


def location(model: Any, said_BxHxWxO: Array) -> Array:
    """The mean."""
    del model
    return said_BxHxWxO


def drawn(model: Any, params: Any, said_BxHxWxO: Array, key: Array) -> Array:
    """A sample, [B, H, W, C]."""
    noise = jax.random.normal(key, said_BxHxWxO.shape)
    return said_BxHxWxO + jnp.exp(_log_scale(model, params)) * noise
