"""DPM-Solver-3: three calls at thirds of a step in log-SNR (Lu 2022, algorithm 2).

With h the rise of lambda = -gamma / 2, r_1 = 1/3 and r_2 = 2/3, all of it divided by alpha:
y moves along the noise eps that it sees, and by s_after (expm1(h) / h - 1) / r of the change of
eps over the share r of the step, of which this is the integral.
"""

from typing import Any

from jax import Array
from jax import numpy as jnp

from research.families.diffusion.samplers import Now


def calls(options: Any) -> int:
    """At the beginning and at both thirds."""
    return 3


def step(denoise: Any, y: Array, now: Now, kept: Any) -> tuple[Array, Array, Any]:
    """One step of third order."""
    rise = now.to - now.gamma
    s = jnp.exp(0.5 * now.gamma)
    x0 = denoise(y, now.gamma).x0
    eps = (y - x0) / s

    def moved(share: float, change: Array, over: float) -> Array:
        """y after a `share` of the step, where eps changed by `change` after the share `over`."""
        level, h = jnp.exp(0.5 * (now.gamma + share * rise)), -0.5 * share * rise
        return x0 + level * eps - level * (share / over) * (jnp.expm1(h) / h - 1) * change

    def change_at(y: Array, share: float) -> Array:
        gamma = now.gamma + share * rise
        return (y - denoise(y, gamma).x0) / jnp.exp(0.5 * gamma) - eps

    third = moved(1 / 3, jnp.zeros_like(y), 1.0)
    two_thirds = moved(2 / 3, change_at(third, 1 / 3), 1 / 3)
    return moved(1.0, change_at(two_thirds, 2 / 3), 2 / 3), x0, kept
