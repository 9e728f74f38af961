"""Pairs of an image of the data and a drawn one, told apart (Jolicoeur-Martineau 2019).

With R1 and R2 it is R3GAN (Huang et al. 2024, arXiv 2501.05441, equation 2): each drawn image is
held to one of the data, so that no mode is out of sight of all of them.
"""

import jax
from jax import Array


def discriminator(real: Array, fake: Array) -> Array:
    """-log of the chance that of a pair the image of the data is taken for it."""
    return jax.nn.softplus(fake - real).mean()


def generator(real: Array, fake: Array) -> Array:
    """The same of the other one."""
    return jax.nn.softplus(real - fake).mean()
