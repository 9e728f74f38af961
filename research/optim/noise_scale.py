"""Gradient-noise scale: how much of a gradient is the chance of its batch (McCandlish et al. 2018).

Of the gradient G of the expected loss and the covariance Sigma of one example's gradient, two means
over a run give the noise scale tr(Sigma) / |G|^2 in examples (eq. 2.9), near the batch size beyond
which more examples a step hardly save steps. Each row of metrics.jsonl has unbiased estimates of
both; divide sums over rows, as a ratio of single ones is biased (appendix A.1).
"""

import jax
from jax import numpy as jnp
from ml_collections import ConfigDict

from research.errors import UserError


def check(train: ConfigDict) -> None:
    """Raise UserError for parts that a batch does not have."""
    parts, batch = train.noise_scale, train.batch_size
    if parts == 1 or (parts and batch % parts):
        valid = [0, *(p for p in range(2, batch + 1) if batch % p == 0)]
        near = min(valid, key=lambda p: abs(p - parts))
        raise UserError(
            f"config.train.noise_scale={parts} must be 0 or parts, at least 2, that divide "
            f"batch_size={batch}; nearest valid: {near}"
        )


def square(gradient) -> jax.Array:
    """|G|^2 of a tree of gradients, float32."""
    leaves = jax.tree.leaves(gradient)
    return sum((jnp.square(x.astype(jnp.float32)).sum() for x in leaves), start=jnp.float32(0))


def estimates(of_parts: jax.Array, of_batch: jax.Array, parts: int, batch_size: int) -> dict:
    """Unbiased |G|^2 and tr(Sigma) of one example (McCandlish et al. 2018, eq. A.2 and A.3).

    Args:
        of_parts: the mean of |gradient|^2 over `parts` equal parts of a batch.
        of_batch: |gradient|^2 of the whole batch, the mean of their gradients.
    """
    return {
        "gradient_square": (parts * of_batch - of_parts) / (parts - 1),
        "gradient_noise": (of_parts - of_batch) * batch_size / (parts - 1),
    }
