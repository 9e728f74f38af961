"""ALiBi: scores fall with distance, at a slope of each head (Press et al. 2022, section 3)."""

import math
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp


def slopes(heads: int) -> np.ndarray:
    """A geometric sequence from 2^(-8/heads) to 2^-8, [heads], where there are 2^n heads.

    Of another number the authors take those of the next smaller power of two, and then every
    second one of the next greater.
    """
    whole = 2 ** math.floor(math.log2(heads))
    first = 2.0 ** (-8 / whole * np.arange(1, whole + 1))
    between = 2.0 ** (-4 / whole * np.arange(1, 2 * (heads - whole), 2))
    return np.concatenate([first, between]).astype(np.float32)


def bias(model: Any, query: Any, key: Any, head: jax.Array) -> jax.Array:
    """Minus slope times distance, of heads and positions that broadcast to the scores."""
    return -jnp.asarray(slopes(model.num_heads))[head] * jnp.abs(query - key)
