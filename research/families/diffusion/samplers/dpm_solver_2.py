"""DPM-Solver-2: a midpoint step in log-SNR, two calls (Lu 2022, algorithm 1 with r_1 = 1/2).

With y = x / alpha and s = sigma / alpha = exp(-lambda) its terms sigma_t (e^h - 1) are alpha_t
times s_before - s_after, so in y it goes from the old level to the new along the noise that is
seen at their geometric mean.
"""

from typing import Any

from jax import Array
from jax import numpy as jnp

from research.families.diffusion.samplers import Now


def calls(options: Any) -> int:
    """At the beginning and in the middle."""
    return 2


def step(denoise: Any, y: Array, now: Now, kept: Any) -> tuple[Array, Array, Any]:
    """One step of second order."""
    middle = 0.5 * (now.gamma + now.to)
    s, s_middle, s_to = (jnp.exp(0.5 * gamma) for gamma in (now.gamma, middle, now.to))
    x0 = denoise(y, now.gamma).x0
    halfway = x0 + s_middle / s * (y - x0)
    eps = (halfway - denoise(halfway, middle).x0) / s_middle
    return y + (s_to - s) * eps, x0, kept
