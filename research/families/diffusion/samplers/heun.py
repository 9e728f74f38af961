"""Heun's method over the noise's level, with churn (Karras 2022, algorithm 2).

An Euler step, then the same again along the mean of the slopes at its two ends. Before it, where
the level is in [churn_min, churn_max], noise is added that raises it; by this a deterministic
walk becomes a stochastic one. Karras' last step ends at no noise and is Euler's; a walk here ends
at gamma_min, above it, and what is left of algorithm 2 is the same.
"""

import math
from typing import Any

import jax
from jax import Array
from jax import numpy as jnp

from research.families.diffusion.samplers import Now

RANGES = {
    "churn": (0, 1e9),
    "churn_min": (0, 1e9),
    "churn_max": (0, 1e9),
    "churn_noise": (0, 1e9),
}


def default_sampling() -> dict[str, Any]:
    """S_churn, S_min, S_max and S_noise."""
    return dict(churn=0.0, churn_min=0.0, churn_max=1e9, churn_noise=1.0)


def calls(options: Any) -> int:
    """At both ends of the step."""
    return 2


def step(denoise: Any, y: Array, now: Now, kept: Any) -> tuple[Array, Array, Any]:
    """One step of second order."""
    gamma = now.gamma
    if now.options.churn:
        y, gamma = _churned(y, now)
    s, s_to = jnp.exp(0.5 * gamma), jnp.exp(0.5 * now.to)
    x0 = denoise(y, gamma).x0
    slope = (y - x0) / s
    euler = x0 + s_to * slope
    slope_to = (euler - denoise(euler, now.to).x0) / s_to
    return y + (s_to - s) * 0.5 * (slope + slope_to), x0, kept


def _churned(y: Array, now: Now) -> tuple[Array, Array]:
    """y with noise added to it, and its gamma."""
    options, s = now.options, jnp.exp(0.5 * now.gamma)
    rise = jnp.minimum(options.churn / now.steps, math.sqrt(2) - 1)
    rise = jnp.where((options.churn_min <= s) & (s <= options.churn_max), rise, 0.0)
    added = s * jnp.sqrt(rise * (2 + rise)) * options.churn_noise
    fresh = jax.random.normal(now.key, y.shape, y.dtype)
    return y + added * fresh, now.gamma + 2 * jnp.log1p(rise)
