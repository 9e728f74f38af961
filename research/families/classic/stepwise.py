"""Sums over what was seen, as stepwise EM keeps them, and the probabilities that they make.

Statistics of a batch enter a running mean with the weight (step + 1)^-kappa (Cappe and Moulines
2009, equation 12, from a first batch that counts whole). Kept here is that mean over the weight of
its latest batch: with kappa 1 the plain sum of all batches, whose counts are whole numbers, and
with kappa 0 the batch alone; between them as many examples as the mean forgets.
"""

from typing import Any

import jax
from jax import Array
from jax import numpy as jnp

LEAST = 1e-20  # of a probability, so that its logarithm and its gradient are finite


def kept(kappa: float, step: Any) -> Array:
    """The share of former sums that a step keeps: ((step + 1)^kappa - 1) / step^kappa."""
    if kappa == 1:
        return jnp.float32(1)
    now = jnp.asarray(step, jnp.float32)
    return ((now + 1) ** kappa - 1) / jnp.maximum(now, 1) ** kappa


def log_share(counts: Array) -> Array:
    """Logarithms of each count's share of its last axis; shares alike where there are no counts."""
    total = counts.sum(-1, keepdims=True)
    share = jnp.where(total > 0, counts / jnp.where(total > 0, total, 1), 1 / counts.shape[-1])
    return jnp.log(jnp.maximum(share, LEAST))


def random_shares(key: Array, shape: tuple[int, ...], spread: float = 1.0) -> Array:
    """Logarithms of random probabilities over the last axis, normal but for their sum."""
    return jax.nn.log_softmax(spread * jax.random.normal(key, shape))
