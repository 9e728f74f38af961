"""Langevin dynamics: a step down the energy's slope, and noise (Welling & Teh 2011).

    x <- x - step / 2 dE/dx + sqrt(step) noise

With `adjusted` a step is taken or not by Metropolis and Hastings, so that it leaves the model as it
is whatever the step's size (MALA: Roberts & Tweedie 1996). Without it chains are a little too wide;
`noise` below 1 is the cold dynamics that networks of images are often trained by (Du & Mordatch
2019), which is no sampler of the model.
"""

import math
from types import ModuleType
from typing import Any

import jax
from jax import Array
from jax import numpy as jnp
from ml_collections import ConfigDict

from research.errors import UserError


def default_model() -> dict[str, Any]:
    """Its keys of `config.model`."""
    return dict(step_size=0.02, noise=1.0, adjusted=True)


def check(config: ConfigDict) -> None:
    """Raise UserError for steps that cannot be."""
    model = config.model
    check_step(model)
    if not 0 <= model.noise < math.inf:
        raise UserError(f"config.model.noise={model.noise} must be at least 0")
    if model.adjusted and model.noise != 1:
        raise UserError(
            f"config.model.noise={model.noise} must be 1.0 with adjusted=True: a step that is "
            "taken or not has the noise of its model"
        )


def check_step(model: Any) -> None:
    """Raise UserError for a step of no size."""
    if not 0 < model.step_size < math.inf:
        raise UserError(f"config.model.step_size={model.step_size} must be positive")


def check_energy(config: ConfigDict, energy: ModuleType) -> None:
    """Raise UserError for levels, which have no slope to follow."""
    del energy
    if config.model.discrete:
        raise UserError(
            f"config.model.chain={config.model.chain!r} goes along slopes, and the images are "
            f"{config.model.levels} levels; nearest valid: gibbs"
        )


def move(
    model: Any, energy: Any, sweep: Any, x: Array, key: Array, beta: Any
) -> tuple[Array, Array]:
    """One step of each image."""
    del sweep
    size = model.step_size
    noise_key, take_key = jax.random.split(key)

    def slope_of(x: Array) -> tuple[Array, Array]:
        value, back = jax.vjp(lambda x: energy(x, beta=beta), x)
        return value, back(jnp.ones_like(value))[0]

    before, slope = slope_of(x)
    noise = jax.random.normal(noise_key, x.shape)
    moved = x - 0.5 * size * slope + model.noise * size**0.5 * noise
    if not model.adjusted:
        return moved, jnp.ones(())
    after, slope_back = slope_of(moved)
    # log q(moved | x) is -noise^2 / 2, and the way back has another noise.
    away = (x - moved + 0.5 * size * slope_back) / size**0.5
    ratio = 0.5 * (jnp.square(noise) - jnp.square(away)).sum((1, 2, 3)) + before - after
    taken = jnp.log(jax.random.uniform(take_key, (len(x),))) < ratio
    return jnp.where(taken[:, None, None, None], moved, x), taken.mean()
