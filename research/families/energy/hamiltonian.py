"""Hamiltonian Monte Carlo: a path of many steps with a momentum, taken or not (Neal 2011).

The leapfrog goes back the way it came and keeps volumes, so that the energy of both ends alone says
with which chance the path is taken.
"""

from typing import Any

import jax
from jax import Array
from jax import numpy as jnp
from ml_collections import ConfigDict

from research.errors import UserError
from research.families.energy.langevin import check_energy, check_step

__all__ = ["check_energy"]


def default_model() -> dict[str, Any]:
    """Its keys of `config.model`."""
    return dict(step_size=0.1, leapfrog_steps=10)


def check(config: ConfigDict) -> None:
    """Raise UserError for paths of nothing."""
    check_step(config.model)
    if config.model.leapfrog_steps < 1:
        raise UserError(
            f"config.model.leapfrog_steps={config.model.leapfrog_steps} must be at least 1"
        )


def move(
    model: Any, energy: Any, sweep: Any, x: Array, key: Array, beta: Any
) -> tuple[Array, Array]:
    """One path of each image."""
    del sweep
    size = model.step_size
    momentum_key, take_key = jax.random.split(key)

    def force(x: Array) -> Array:
        return -jax.grad(lambda x: energy(x, beta=beta).sum())(x)

    def leap(carry: tuple[Array, Array], _: Any) -> tuple[Any, None]:
        x, p = carry
        p += 0.5 * size * force(x)
        x += size * p
        return (x, p + 0.5 * size * force(x)), None

    def whole(x: Array, p: Array) -> Array:
        return energy(x, beta=beta) + 0.5 * jnp.square(p).sum((1, 2, 3))

    p = jax.random.normal(momentum_key, x.shape)
    (moved, after), _ = jax.lax.scan(leap, (x, p), length=model.leapfrog_steps)
    ratio = whole(x, p) - whole(moved, after)
    taken = jnp.log(jax.random.uniform(take_key, (len(x),))) < ratio
    return jnp.where(taken[:, None, None, None], moved, x), taken.mean()
