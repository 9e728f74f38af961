"""Annealed importance sampling, forwards and back: log Z from below and from above (Neal 2001).

    w = prod_k exp(E_(k-1)(x_k) - E_k(x_k)),  x_(k+1) from a chain that leaves exp(-E_k) as it is

along inverse temperatures from a base whose log Z is known has the mean Z / Z_0. The logarithm of a
mean of weights lies below that in expectation; back from exact samples of the model the same for
1 / w gives log Z from above (Burda et al. 2015; Grosse et al. 2015, arXiv 1511.02543).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax import Array
from jax import numpy as jnp


class Model(NamedTuple):
    """What is annealed.

    Attributes:
        energy: of (x, beta) -> E [B].
        move: of (x, key, beta) -> x after a move that leaves exp(-E) of this beta as it is.
        base_log_z: log Z at beta 0.
    """

    energy: Callable[[Array, Any], Array]
    move: Callable[[Array, Array, Any], Array]
    base_log_z: Any


class Estimate(NamedTuple):
    """log Z, and its standard error by the spread of the weights."""

    log_z: Array
    error: Array


def betas(steps: int) -> Array:
    """Inverse temperatures from 0 to 1, `steps` of them, the closer the nearer they are to 0."""
    return jnp.linspace(0, 1, steps) ** 2


def forward(model: Model, x: Array, steps: int, key: Array) -> Estimate:
    """log Z of samples x of the base."""
    at = betas(steps)

    def step(carry: Any, each: Any) -> tuple[Any, None]:
        (x, log_w), (before, beta, key) = carry, each
        log_w += model.energy(x, before) - model.energy(x, beta)
        return (model.move(x, key, beta), log_w), None

    each = at[:-1], at[1:], jax.random.split(key, steps - 1)
    (_, log_w), _ = jax.lax.scan(step, (x, jnp.zeros(len(x))), each)
    return _estimate(model, log_w, 1.0)


def back(model: Model, x: Array, steps: int, key: Array) -> Estimate:
    """log Z of samples x of the model."""
    at = betas(steps)[::-1]

    def step(carry: Any, each: Any) -> tuple[Any, None]:
        (x, log_w), (beta, after, key) = carry, each
        x = model.move(x, key, beta)
        log_w += model.energy(x, beta) - model.energy(x, after)
        return (x, log_w), None

    each = at[:-1], at[1:], jax.random.split(key, steps - 1)
    (_, log_w), _ = jax.lax.scan(step, (x, jnp.zeros(len(x))), each)
    return _estimate(model, log_w, -1.0)


def _estimate(model: Model, log_w: Array, sign: float) -> Estimate:
    count = len(log_w)
    mean = jax.nn.logsumexp(log_w) - jnp.log(count)
    # Of the logarithm of a mean, by the deviation of the weights over it.
    error = jnp.exp(log_w - mean).std(ddof=1) / jnp.sqrt(count)
    return Estimate(model.base_log_z + sign * mean, error)
