"""The hinge loss (Lim & Ye 2017; Miyato et al. 2018): logits beyond the margin say nothing more."""

import jax
from jax import Array


def discriminator(real: Array, fake: Array) -> Array:
    """How far both fall short of the margin of 1."""
    return jax.nn.relu(1 - real).mean() + jax.nn.relu(1 + fake).mean()


def generator(real: Array, fake: Array) -> Array:
    """Minus the mean of drawn images."""
    del real
    return -fake.mean()
