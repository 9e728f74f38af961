"""DDIM: keep the implied noise and lower its level (Song 2021, eq. 12 with eta 0).

It is Euler's method in (x / alpha, sigma / alpha), and DPM-Solver-1 (Lu 2022, section 3.3).
"""

from typing import Any

from jax import Array
from jax import numpy as jnp

from research.families.diffusion.samplers import Now


def step(denoise: Any, y: Array, now: Now, kept: Any) -> tuple[Array, Array, Any]:
    """One step; the noise shrinks by the ratio of its levels."""
    x0 = denoise(y, now.gamma).x0
    return x0 + jnp.exp(0.5 * (now.to - now.gamma)) * (y - x0), x0, kept
