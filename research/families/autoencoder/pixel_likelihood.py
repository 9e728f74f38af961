"""How likely an image is by the location and the scale that a decoder gives each dimension.

Levels have a logistic distribution that is cut into as many pieces, one a level, the first and the
last of them with the tail beyond (Salimans et al. 2017, arXiv 1701.05517, equation 2): it sums to
one over the levels, so that its negative logarithm is a code length of the pixels themselves.
Floats have a Gaussian density.
"""

import math
from typing import Any

import jax
from jax import Array
from jax import numpy as jnp

from research.levels import gap, scaled

# Of the log scale of floats: a Gaussian must not find a density without bound in data of fewer
# dimensions than an image has.
LEAST = -5.0


def outputs(model: Any) -> int:
    """What the decoder says of a dimension: a location and a log scale."""
    del model
    return 2


def cost(model: Any, params: Any, image: Any, said_BxHxWxO: Any) -> Array:
    """-log p of each dimension, nats [B, H, W, C]."""
    del params
    middle, log_scale = jnp.split(said_BxHxWxO, 2, axis=-1)
    return nats(image, middle, log_scale, model.levels)


def location(model: Any, said_BxHxWxO: Array) -> Array:
    """The middle of the distribution."""
    del model
    return jnp.split(said_BxHxWxO, 2, axis=-1)[0]


def drawn(model: Any, params: Any, said_BxHxWxO: Array, key: Array) -> Array:
    """A sample, before it is cut to levels, [B, H, W, C]."""
    del params
    middle, log_scale = jnp.split(said_BxHxWxO, 2, axis=-1)
    if not model.discrete:
        scale = jnp.exp(jnp.maximum(log_scale, LEAST))
        return middle + scale * jax.random.normal(key, middle.shape)
    scale = jnp.exp(jnp.maximum(log_scale, least(model.levels)))
    return middle + scale * jax.random.logistic(key, middle.shape)


def least(levels: int) -> float:
    """Of the log scale of levels: a logistic with all but e^-20 of its mass within a level."""
    return math.log(gap(levels) / 40)


def nats(image: Any, location: Any, log_scale: Any, levels: int) -> Array:
    """-log p of each dimension of an image, of one shape with `location` and `log_scale`."""
    if not jnp.issubdtype(image.dtype, jnp.integer):
        log_scale = jnp.maximum(log_scale, LEAST)
        square = jnp.square(image - location) * jnp.exp(-2 * log_scale)
        return 0.5 * (square + math.log(2 * math.pi)) + log_scale
    # s(b) - s(a) = s(b) s(-a) (1 - exp(a - b)) of the two edges a < b of a level, where s is the
    # sigmoid: without a difference of numbers that are nearly the same.
    x, half = scaled(image, levels), gap(levels) / 2
    inverse = jnp.exp(-jnp.maximum(log_scale, least(levels)))
    above, below = (x + half - location) * inverse, (x - half - location) * inverse
    first, last = image == 0, image == levels - 1
    within = jnp.log(-jnp.expm1(-2 * half * inverse))
    log_p = jnp.where(last, 0, jax.nn.log_sigmoid(above)) + jnp.where(
        first, 0, jax.nn.log_sigmoid(-below)
    )
    return -(log_p + jnp.where(first | last, 0, within))
