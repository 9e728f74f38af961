"""How far samples lie from data, for families that know no likelihood: the energy distance.

    2 E|x - y| - E|x - x'| - E|y - y'|

of data x and samples y, in Euclidean distance over the root of the dimensions, is zero only where
both have one distribution (Szekely & Rizzo 2013). Pairs of a batch are told apart from themselves,
so that its mean is that of the distribution whatever the batch (a U-statistic).
"""

from typing import Any

from jax import Array
from jax import numpy as jnp

KIND = {"unit": "energy distance", "kind": "estimate", "better": "lower"}


def statistic(x_BxHxWxC: Array, rows_B: Any, drawn_BxHxWxC: Array) -> dict[str, Array]:
    """The total and count of a score: the distance of the rows that are not masked, times them."""
    x, y = (each.reshape(len(each), -1) for each in (x_BxHxWxC, drawn_BxHxWxC))
    count, others = rows_B.sum(), len(y) - 1.0

    def apart(a: Array, b: Array) -> Array:
        square = jnp.square(a[:, None] - b).sum(-1) / a.shape[1]
        # The root has no gradient at zero, and needs none here.
        return jnp.sqrt(square)

    across = (rows_B @ apart(x, y)).mean() / jnp.maximum(count, 1)
    within = rows_B @ apart(x, x) @ rows_B / jnp.maximum(count * (count - 1), 1)
    distance = 2 * across - within - apart(y, y).sum() / (len(y) * jnp.maximum(others, 1))
    return {"total": distance * count, "count": count}
