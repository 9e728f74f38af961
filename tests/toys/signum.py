"""Signum (Bernstein et al. 2018): the sign of a running mean of gradients."""

import jax
import optax
from jax import numpy as jnp

RANGES = {"beta": (0, 1)}


def default_train():
    return dict(beta=0.9)


def transform(settings, parameters):
    del parameters
    signs = optax.stateless(lambda updates, _: jax.tree.map(jnp.sign, updates))
    return optax.chain(optax.ema(settings.beta, debias=False), signs)
