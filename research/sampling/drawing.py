"""How a token is drawn from logits, in this order, each of them off by default:

    repetition   logits of tokens that were there are divided by it where positive, else multiplied
                 (Keskar et al. 2019, section 4.1)
    temperature  divides the logits; 0 takes the likeliest
    top_k        the likeliest k alone, and what is as likely as the last of them (Fan et al. 2018)
    top_p        the fewest whose probabilities reach p, the one that crosses it included
                 (Holtzman et al. 2020)
    min_p        those at least so likely as this share of the likeliest (Nguyen et al. 2025)

top_p and min_p see what top_k left, with probabilities that sum to 1 again.
"""

import math
from typing import NamedTuple

import jax
from jax import numpy as jnp

from research.errors import UserError


class Drawing(NamedTuple):
    """Numbers that a compiled program takes: other values need no other program."""

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition: float = 1.0


def check(drawing: Drawing) -> None:
    """Raise UserError, naming the option, for a number out of its range."""
    ranges = {
        "temperature": (0, math.inf, "at least 0"),
        "top_k": (0, 2**31, "at least 0, which is off"),
        "top_p": (1e-9, 1 + 1e-9, "above 0 and at most 1, which is off"),
        "min_p": (0, 1, "at least 0, which is off, and below 1"),
        "repetition": (1e-9, math.inf, "positive; 1 is off"),
    }
    for key, (low, high, words) in ranges.items():
        value = getattr(drawing, key)
        if not low <= value < high:
            raise UserError(f"--{key} {value} must be {words}")


def repeated(logits_BxV: jax.Array, drawing: Drawing, seen_BxV: jax.Array) -> jax.Array:
    """Logits after the penalty on tokens that were there."""
    by = drawing.repetition
    down = jnp.where(logits_BxV > 0, logits_BxV / by, logits_BxV * by)
    return jnp.where(seen_BxV, down, logits_BxV)


def truncated(logits_BxV: jax.Array, drawing: Drawing) -> jax.Array:
    """Logits by which to draw, -inf for tokens that are not to be drawn."""
    scaled = logits_BxV / jnp.maximum(drawing.temperature, 1e-6)

    def cut(logits_BxV):
        sorted_BxV = -jnp.sort(-logits_BxV, -1)
        last = jnp.clip(jnp.asarray(drawing.top_k) - 1, 0, logits_BxV.shape[-1] - 1)
        least_Bx1 = jnp.where(drawing.top_k > 0, sorted_BxV[:, last], -jnp.inf)[:, None]
        kept_BxV = jnp.where(sorted_BxV >= least_Bx1, sorted_BxV, -jnp.inf)
        share_BxV = jax.nn.softmax(kept_BxV)
        before_BxV = jnp.cumsum(share_BxV, -1) - share_BxV
        # The largest is always kept, whatever rounding makes of p.
        stays_BxV = (before_BxV < drawing.top_p) | (drawing.top_p >= 1)
        stays_BxV &= (share_BxV >= drawing.min_p * share_BxV[:, :1]) & (share_BxV > 0)
        stays_BxV = stays_BxV.at[:, 0].set(True)
        least_Bx1 = jnp.where(stays_BxV, kept_BxV, jnp.inf).min(-1, keepdims=True)
        return jnp.where(logits_BxV >= least_Bx1, logits_BxV, -jnp.inf)

    cuts = (drawing.top_k > 0) | (drawing.top_p < 1) | (drawing.min_p > 0)
    return jax.lax.cond(cuts, cut, lambda x: x, scaled)


def draw(logits_BxV: jax.Array, drawing: Drawing, key_B: jax.Array) -> jax.Array:
    """A token of each row, [B], by the row's own key."""
    drawn_B = jax.vmap(jax.random.categorical)(key_B, truncated(logits_BxV, drawing))
    return jnp.where(drawing.temperature > 0, drawn_B, logits_BxV.argmax(-1)).astype(jnp.int32)
