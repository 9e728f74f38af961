"""Annealed Langevin dynamics: steps at each level of noise (Song & Ermon 2019, algorithm 1).

y + a / 2 score + sqrt(a) z with a = `langevin_rate` s^2, so that its two terms are in the same
proportion at every level; theirs are 100 steps at 0.2 = 2e-5 / 0.01^2 at each of 10 levels.
"""

from typing import Any

import jax
from jax import Array
from jax import numpy as jnp

from research.families.diffusion.samplers import Now

RANGES = {"langevin_rate": (1e-6, 2), "langevin_steps": (1, 1e6)}


def default_sampling() -> dict[str, Any]:
    """The size of a step in squares of the noise's level, and how many there are at each."""
    return dict(langevin_rate=0.2, langevin_steps=5)


def calls(options: Any) -> int:
    """One a step of Langevin's."""
    return options.langevin_steps


def step(denoise: Any, y: Array, now: Now, kept: Any) -> tuple[Array, Array, Any]:
    """All steps at the level now.to."""
    rate, s = now.options.langevin_rate, jnp.exp(0.5 * now.to)

    def one(index: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        y, _ = carry
        x0 = denoise(y, now.to).x0
        fresh = jax.random.normal(jax.random.fold_in(now.key, index), y.shape, y.dtype)
        return y + 0.5 * rate * (x0 - y) + s * jnp.sqrt(rate) * fresh, x0

    y, x0 = jax.lax.fori_loop(0, now.options.langevin_steps, one, (y, y))
    return y, x0, kept
