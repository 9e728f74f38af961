"""Euler-Maruyama of the stochastic equations whose marginals are the flow's, over the level s.

dy = (1 + n^2) eps ds + n sqrt(2 s |ds|) dw for any n = `sde_noise` (Karras 2022, eq. 6, with
beta = n^2 / s): 1 is the reverse of the forward process (Song 2021, eq. 6), 0 is the flow, by
Euler's method. The noise of a step has its exact variance, n^2 (s^2 - s_to^2).
"""

from typing import Any

import jax
from jax import Array
from jax import numpy as jnp

from research.families.diffusion.samplers import Now

RANGES = {"sde_noise": (0, 1e3)}


def default_sampling() -> dict[str, Any]:
    """How much noise is added and taken away again."""
    return dict(sde_noise=1.0)


def step(denoise: Any, y: Array, now: Now, kept: Any) -> tuple[Array, Array, Any]:
    """One step, with fresh noise."""
    x0 = denoise(y, now.gamma).x0
    amount = now.options.sde_noise**2
    ratio = jnp.exp(0.5 * (now.to - now.gamma))
    spread = jnp.sqrt(amount * jnp.exp(now.gamma) * (1 - ratio) * (1 + ratio))
    fresh = jax.random.normal(now.key, y.shape, y.dtype)
    y = x0 + (ratio - amount * (1 - ratio)) * (y - x0) + spread * fresh
    return y, x0, kept
