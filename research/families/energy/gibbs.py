"""Gibbs sampling: parts of an image drawn anew given all the others (Geman & Geman 1984).

Energies that know such parts have a sweep of their own. A network's has none: of two levels one is
proposed to flip by how much the gradient says that helps, and taken or not by Metropolis and
Hastings (Gibbs with gradients: Grathwohl et al. 2021, arXiv 2102.04509, algorithm 1).
"""

from types import ModuleType
from typing import Any

import jax
from jax import Array
from jax import numpy as jnp
from ml_collections import ConfigDict

from research.errors import UserError


def check_energy(config: ConfigDict, energy: ModuleType) -> None:
    """Raise UserError for floats, which flip to nothing."""
    del energy
    if not config.model.discrete:
        raise UserError(
            "config.model.chain='gibbs' is of levels, and the images are floats; nearest valid: "
            "langevin"
        )


def move(
    model: Any, energy: Any, sweep: Any, x: Array, key: Array, beta: Any
) -> tuple[Array, Array]:
    """One sweep, or one flip that is proposed to each image."""
    del model
    if sweep is not None:
        return sweep(x, key, beta), jnp.ones(())

    def proposed(x: Array) -> tuple[Array, Array]:
        value, slope = jax.value_and_grad(lambda x: energy(x, beta=beta).sum(), has_aux=False)(x)
        del value
        # What flipping would change the energy by, to first order: -2 x dE/dx.
        return energy(x, beta=beta), (x * slope).reshape(len(x), -1)

    which_key, take_key = jax.random.split(key)
    before, wish = proposed(x)
    which_B = jax.random.categorical(which_key, wish)
    flip = (1 - 2 * jax.nn.one_hot(which_B, wish.shape[1])).reshape(x.shape)
    after, wish_back = proposed(x * flip)
    forth, back = (
        jnp.take_along_axis(jax.nn.log_softmax(each), which_B[:, None], 1)[:, 0]
        for each in (wish, wish_back)
    )
    taken = jnp.log(jax.random.uniform(take_key, (len(x),))) < before - after + back - forth
    return jnp.where(taken[:, None, None, None], x * flip, x), taken.mean()
