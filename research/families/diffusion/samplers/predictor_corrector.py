"""Predictor and corrector: a step of ancestral sampling, then one of Langevin's dynamics.

The corrector's step is 2 (snr |z| / |score|)^2, with norms averaged over the batch, so that
the noise it adds is to the score as 1 to `snr` (Song 2021, algorithms 2 and 4).
"""

from typing import Any

import jax
from jax import Array
from jax import numpy as jnp

from research.families.diffusion.samplers import Now, ddpm

RANGES = {"snr": (0, 1e3)}


def default_sampling() -> dict[str, Any]:
    """Of the corrector: how far it goes along the score."""
    return dict(snr=0.16)


def calls(options: Any) -> int:
    """One by the predictor and one by the corrector."""
    return 2


def step(denoise: Any, y: Array, now: Now, kept: Any) -> tuple[Array, Array, Any]:
    """Predict at the new level, and correct there."""
    first, second = jax.random.split(now.key)
    y, _, _ = ddpm.step(denoise, y, now._replace(key=first), None)
    x0 = denoise(y, now.to).x0
    score = (x0 - y) * jnp.exp(-now.to)
    fresh = jax.random.normal(second, y.shape, y.dtype)
    size = 2 * (now.options.snr * _norm(fresh) / _norm(score)) ** 2
    return y + size * score + jnp.sqrt(2 * size) * fresh, x0, kept


def _norm(x: Array) -> Array:
    """The mean length of the images of a batch."""
    return jnp.mean(jnp.sqrt(jnp.sum(x**2, tuple(range(1, x.ndim)))))
