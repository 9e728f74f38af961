"""Ancestral sampling: y_s from q(y_s | y_t, x_0) (Ho 2020, eq. 7; Kingma 2021, eq. 27).

Its variance is that of the posterior, or what the network learned of it (Nichol 2021).
"""

from typing import Any

import jax
from jax import Array
from jax import numpy as jnp

from research.families.diffusion.process import step_back
from research.families.diffusion.samplers import Now


def step(denoise: Any, y: Array, now: Now, kept: Any) -> tuple[Array, Array, Any]:
    """One step back, with fresh noise."""
    seen = denoise(y, now.gamma)
    share, variance = step_back(now.gamma, now.to, seen.place)
    fresh = jax.random.normal(now.key, y.shape, y.dtype)
    return y + share * (seen.x0 - y) + jnp.sqrt(variance) * fresh, seen.x0, kept
