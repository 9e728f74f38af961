"""DPM-Solver++(2M): DDIM along an x_0 extrapolated from the step before (Lu 2022, ++, algorithm 2).

One call a step, second order. The first step is DDIM, and so is the last of few.
"""

from typing import Any

from jax import Array
from jax import numpy as jnp

from research.families.diffusion.samplers import Now


def start(y: Array) -> tuple[Array, Array]:
    """The x_0 of the step before and its gamma."""
    return jnp.zeros_like(y), jnp.zeros((), y.dtype)


def extrapolated(x0: Array, now: Now, kept: tuple[Array, Array]) -> Array:
    """x_0 in the middle of the step, on a line in log-SNR through what was seen; x0 at first."""
    before, gamma_before = kept
    between = jnp.where(now.index == 0, 1.0, now.gamma - gamma_before)
    share = jnp.where(now.order(2) == 2, 0.5 * (now.to - now.gamma) / between, 0.0)
    return x0 + share * (x0 - before)


def step(
    denoise: Any, y: Array, now: Now, kept: tuple[Array, Array]
) -> tuple[Array, Array, tuple[Array, Array]]:
    """One step of second order."""
    x0 = denoise(y, now.gamma).x0
    along = extrapolated(x0, now, kept)
    y = along + jnp.exp(0.5 * (now.to - now.gamma)) * (y - along)
    return y, x0, (x0, now.gamma)
