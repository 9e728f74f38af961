"""The loss of Goodfellow et al. 2014, whose generator lowers -log of what it wants to be believed.

The best discriminator is log p_data - log p_generator, whose loss is log 4 - 2 JSD (their theorem
1).
"""

import jax
from jax import Array


def discriminator(real: Array, fake: Array) -> Array:
    """The cross-entropy of which is which."""
    return jax.nn.softplus(-real).mean() + jax.nn.softplus(fake).mean()


def generator(real: Array, fake: Array) -> Array:
    """-log of the chance that drawn images are taken for data."""
    del real
    return jax.nn.softplus(-fake).mean()
