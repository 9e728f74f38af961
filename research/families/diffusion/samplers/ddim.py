"""DDIM: keep the implied noise and lower its level (Song 2021, eqs. 12 and 16).

With `eta` 0 it is Euler's method in (x / alpha, sigma / alpha), hence in the time of a rectified
flow too, and DPM-Solver-1 (Lu 2022, section 3.3); with 1 it is ancestral sampling, `ddpm`.
"""

from typing import Any

import jax
from jax import Array
from jax import numpy as jnp

from research.families.diffusion.process import step_back
from research.families.diffusion.samplers import Now

RANGES = {"eta": (0, 1)}


def default_sampling() -> dict[str, Any]:
    """The share of ancestral sampling's deviation that is drawn anew."""
    return dict(eta=0.0)


def step(denoise: Any, y: Array, now: Now, kept: Any) -> tuple[Array, Array, Any]:
    """One step; the noise shrinks by the ratio of its levels."""
    x0 = denoise(y, now.gamma).x0
    if not now.options.eta:
        return x0 + jnp.exp(0.5 * (now.to - now.gamma)) * (y - x0), x0, kept
    fresh = now.options.eta**2 * step_back(now.gamma, now.to)[1]
    share = jnp.sqrt(jnp.exp(-now.gamma) * (jnp.exp(now.to) - fresh))
    noise = jax.random.normal(now.key, y.shape, y.dtype)
    return x0 + share * (y - x0) + jnp.sqrt(fresh) * noise, x0, kept
