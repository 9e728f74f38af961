"""How likely an image is by the location and the scale that a decoder gives each dimension.

8-bit levels have a logistic distribution that is cut into 256 pieces, one a level, the first and
the last of them with the tail beyond (Salimans et al. 2017, arXiv 1701.05517, equation 2): it sums
to one over the levels, so that its negative logarithm is a code length of the pixels themselves.
Floats have a Gaussian density.
"""

import math
from typing import Any

import jax
from jax import Array
from jax import numpy as jnp

from research.models.pixels import LEVELS

HALF = 1 / (LEVELS - 1)  # half of the width of a level where levels span [-1, 1]
# Of the log scale. A logistic this narrow has all but e^-20 of its mass within a level; a Gaussian
# must not find a density without bound in data of fewer dimensions than an image has.
LEAST = {True: math.log(HALF / 20), False: -5.0}


def scaled(image: Any) -> Array:
    """The data as the networks see them, float32: levels from -1 to 1, floats as they are."""
    if jnp.issubdtype(image.dtype, jnp.integer):
        return image.astype(jnp.float32) * (2 * HALF) - 1
    return image.astype(jnp.float32)


def levels(x: Array) -> Array:
    """The level nearest to each location, uint8: the most likely one but for the ends' tails."""
    return jnp.round(jnp.clip((x + 1) / (2 * HALF), 0, LEVELS - 1)).astype(jnp.uint8)


def nats(image: Any, location: Any, log_scale: Any) -> Array:
    """-log p of each dimension of an image, of one shape with `location` and `log_scale`."""
    discrete = jnp.issubdtype(image.dtype, jnp.integer)
    x, log_scale = scaled(image), jnp.maximum(log_scale, LEAST[bool(discrete)])
    if not discrete:
        square = jnp.square(x - location) * jnp.exp(-2 * log_scale)
        return 0.5 * (square + math.log(2 * math.pi)) + log_scale
    # s(b) - s(a) = s(b) s(-a) (1 - exp(a - b)) of the two edges a < b of a level, where s is the
    # sigmoid: without a difference of numbers that are nearly the same.
    inverse = jnp.exp(-log_scale)
    above, below = (x + HALF - location) * inverse, (x - HALF - location) * inverse
    first, last = image == 0, image == LEVELS - 1
    within = jnp.log(-jnp.expm1(-2 * HALF * inverse))
    log_p = jnp.where(last, 0, jax.nn.log_sigmoid(above)) + jnp.where(
        first, 0, jax.nn.log_sigmoid(-below)
    )
    return -(log_p + jnp.where(first | last, 0, within))
