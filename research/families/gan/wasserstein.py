"""The distance of means under a critic of bounded slope (Arjovsky et al. 2017).

The bound is a penalty between data and drawn images, `between_weight` (Gulrajani et al. 2017).
"""

from jax import Array


def discriminator(real: Array, fake: Array) -> Array:
    """Minus the distance of the means."""
    return fake.mean() - real.mean()


def generator(real: Array, fake: Array) -> Array:
    """Minus the mean of drawn images."""
    del real
    return -fake.mean()
