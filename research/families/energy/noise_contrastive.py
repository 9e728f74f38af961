"""Noise-contrastive estimation: data told apart from noise of known density (Gutmann & Hyvarinen).

    log odds of data = -E(x) - c - log q(x)

of as many images of noise as of data, whose best classifier has exp(-E - c) = p: c, a parameter,
becomes log Z (Gutmann & Hyvarinen 2010, equation 3). The noise is the base of the chains. No chain
is needed, and none is trusted: it learns little where noise and data hardly meet.
"""

from typing import Any

import jax
from jax import Array
from jax import numpy as jnp

from research.families import energy as family


def init(model: Any) -> dict[str, Array]:
    """Minus c, the logarithm of what normalises exp(-E)."""
    del model
    return {"log_scale": jnp.zeros(1)}


def value(
    config: Any, params: Any, x: Array, label: Any, memory: Any, key: Array
) -> tuple[Array, dict[str, Array], Any]:
    """The cross-entropy of which is which, nats an image."""
    del label
    noise = family.base(config, key, len(x))
    of_base = family.energy_part(config).base_log_z(config.model)

    def log_odds(x: Array) -> Array:
        log_p = params["objective"]["log_scale"] - family.energy(config, params, x)
        return log_p + family.energy(config, params, x, beta=0.0) + of_base

    real, other = log_odds(x), log_odds(noise)
    cost = jax.nn.softplus(-real).mean() + jax.nn.softplus(other).mean()
    right = 0.5 * ((real > 0).mean() + (other < 0).mean())
    return cost, {"right": right}, memory
