"""How far images that are drawn lie from real ones, for models that bound no likelihood.

The energy distance 2 E|x - y| - E|x - x'| - E|y - y'| of two distributions is zero only where they
are the same (Szekely & Rizzo 2013, eq. 2.1). |.| is the root mean square over an image's numbers.
"""

import jax.numpy as jnp
from jax import Array


def between(drawn: Array, real: Array, rows_B: Array) -> dict[str, Array]:
    """Unbiased estimate from pairs of a batch, times its number of rows: {"total", "count"}.

    No row is paired with its own, also not across, for both may be of one class. One batch's
    estimate can be below zero; a batch of one row has no pairs and estimates nothing.

    Args:
        drawn, real: images [B, H, W, C], the i-th of both of one class.
        rows_B: 1 for a row that counts, 0 for padding.
    """
    pairs_BxB = rows_B[:, None] * rows_B * (1 - jnp.eye(len(rows_B)))
    count = jnp.maximum(pairs_BxB.sum(), 1)

    def mean(a: Array, b: Array) -> Array:
        a_BxN, b_BxN = a.reshape(len(a), -1), b.reshape(len(b), -1)
        squares = (a_BxN**2).mean(1)[:, None] + (b_BxN**2).mean(1)
        square_BxB = squares - 2 * jnp.einsum("an,bn->ab", a_BxN, b_BxN) / a_BxN.shape[1]
        return jnp.sum(pairs_BxB * jnp.sqrt(jnp.maximum(square_BxB, 0))) / count

    distance = 2 * mean(drawn, real) - mean(drawn, drawn) - mean(real, real)
    counted = jnp.sum(rows_B) * (pairs_BxB.sum() > 0)
    return {"total": distance * counted, "count": counted}
