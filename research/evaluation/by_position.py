"""Loss by position in context: what a token costs after one token, two, four, and so on.

Position p is that of a token with p tokens before it in its window, or in its text where
texts are apart. An octave is one score: "position_4" is that of positions 4 to 7, and the last
one is that of all from there on. Together they make up the score of the whole window.
"""

from typing import Any

import jax
import numpy as np
from jax import numpy as jnp

from research.evaluation import likelihood


def check(config: Any, spec: dict[str, Any]) -> None:
    likelihood.check(config, spec, "by_position")


def octaves(length: int) -> list[int]:
    """The first position of each octave up to `length`."""
    return [2**power for power in range(length.bit_length())]


def score_kinds(config: Any) -> dict[str, dict[str, str]]:
    kind = {"unit": likelihood.unit(config), "kind": "exact", "better": "lower"}
    return {f"position_{first}": kind for first in octaves(config.data.length)}


def update(config: Any, params: Any, batch: dict, key: Any) -> dict[str, jax.Array]:
    """{"total": bits, "count": bytes or tokens} of one batch, [octaves] each."""
    del key
    bits_BxL = likelihood.nats(config, params, batch) / jnp.log(2.0)
    position_BxL = jnp.atleast_2d(1 + likelihood.positions(config, batch))
    first_O = jnp.array(octaves(config.data.length))
    position_BxL = jnp.minimum(position_BxL, first_O[-1])
    within_BxLxO = (position_BxL[..., None] >= first_O) & (position_BxL[..., None] < 2 * first_O)
    each = {
        "total": bits_BxL * likelihood.weights(batch),
        "count": likelihood.counts(config, batch),
    }
    return {name: (x_BxL[..., None] * within_BxLxO).sum((0, 1)) for name, x_BxL in each.items()}


def finish(config: Any, sums: dict[str, Any]) -> dict[str, float]:
    with np.errstate(invalid="ignore"):  # of packed documents none may be as long as the window
        bits_O = sums["total"] / sums["count"]
    return dict(zip(score_kinds(config), map(float, bits_O), strict=True))
