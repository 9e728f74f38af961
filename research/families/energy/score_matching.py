"""Denoising score matching: the slope of the energy points to where noise came from (Vincent 2011).

    E |sigma dE/dx (x + sigma e) - e|^2 / 2

is least where exp(-E) is the density of the data with that noise added, so neither a chain nor a
normaliser is needed.
"""

import math
from typing import Any

import jax
from jax import Array
from jax import numpy as jnp
from ml_collections import ConfigDict

from research.errors import UserError
from research.families import energy as family


def default_model() -> dict[str, Any]:
    """Its keys of `config.model`."""
    return dict(noise_deviation=0.1)


def check(config: ConfigDict) -> None:
    """Raise UserError for noise that is none."""
    if not 0 < config.model.noise_deviation < math.inf:
        raise UserError(
            f"config.model.noise_deviation={config.model.noise_deviation} must be positive"
        )


def check_model(config: ConfigDict) -> None:
    """Raise UserError for levels."""
    if config.model.discrete:
        raise UserError(
            "config.model.objective='score_matching' follows slopes of densities, and the images "
            f"are {config.model.levels} levels; nearest valid: contrastive"
        )


def value(
    config: Any, params: Any, x: Array, label: Any, memory: Any, key: Array
) -> tuple[Array, dict[str, Array], Any]:
    """The mean squared error of the noise, over two, an image."""
    del label
    noise, sigma = jax.random.normal(key, x.shape), config.model.noise_deviation

    def energies(x: Array) -> Array:
        return family.energy(config, params, x).sum()

    slope = jax.grad(energies)(x + sigma * noise)
    return 0.5 * jnp.square(sigma * slope - noise).sum((1, 2, 3)).mean(), {}, memory
