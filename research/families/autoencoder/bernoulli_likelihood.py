"""Two levels, of which the decoder says the log odds: -log p sums to one over them.

Of grey pixels it would be no likelihood: their Bernoulli cross-entropy has no normaliser (Loaiza-
Ganem & Cunningham 2019), so other levels than two are refused.
"""

from typing import Any

import jax
from jax import Array
from jax import numpy as jnp
from ml_collections import ConfigDict

from research.errors import UserError


def check(config: ConfigDict) -> None:
    """Raise UserError for data of other than two levels."""
    model = config.model
    if not model.discrete or model.levels != 2:
        what = f"{model.levels} levels" if model.discrete else "floats"
        raise UserError(
            f"config.model.likelihood='bernoulli' is of two levels, and these data have {what}; "
            "nearest valid: 'pixel'"
        )


def outputs(model: Any) -> int:
    """What the decoder says of a dimension: its log odds."""
    del model
    return 1


def cost(model: Any, params: Any, image: Any, said_BxHxWxO: Any) -> Array:
    """-log p of each dimension, nats [B, H, W, C]."""
    del model, params
    return jax.nn.softplus(jnp.where(image > 0, -said_BxHxWxO, said_BxHxWxO))


def location(model: Any, said_BxHxWxO: Array) -> Array:
    """The mean, where -1 and 1 are the two levels."""
    del model
    return jnp.tanh(0.5 * said_BxHxWxO)


def drawn(model: Any, params: Any, said_BxHxWxO: Array, key: Array) -> Array:
    """A sample, -1 or 1 of each dimension, [B, H, W, C]."""
    del model, params
    chance = jax.nn.sigmoid(said_BxHxWxO)
    return 2.0 * (jax.random.uniform(key, chance.shape) < chance) - 1
