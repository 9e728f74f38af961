"""UniPC: a predictor and a corrector of several steps, one call a step (Zhao 2023, algorithms 1-4).

In lambda = -gamma / 2 the flow is dy / d lambda = x_0 - y, which is solved exactly for an x_0 that
is a polynomial of lambda. The one through the last `ORDER` x_0 that were seen predicts; the one
through the newest as well corrects, and needs no call, as the x_0 of a predicted y serves for the
corrected too. UniPC's weights solve this system, whatever its B(h) is (its theorem 3.1).
"""

from typing import Any, NamedTuple

import numpy as np
from jax import Array
from jax import numpy as jnp

from research.families.diffusion.samplers import Now

ORDER = 3  # of the predictor
NODES, WEIGHTS = np.polynomial.legendre.leggauss(8)


class Kept(NamedTuple):
    """What is known of the steps before.

    Attributes:
        y: from which the last step was made, [batch, ...].
        x0: as seen before it and at the `ORDER` - 1 levels before that, newest first.
        gamma: of these, [ORDER].
    """

    y: Array
    x0: Array
    gamma: Array


def start(y: Array) -> Kept:
    """Nothing was seen yet."""
    return Kept(y, jnp.zeros((ORDER, *y.shape), y.dtype), jnp.zeros(ORDER, y.dtype))


def step(denoise: Any, y: Array, now: Now, kept: Kept) -> tuple[Array, Array, Kept]:
    """Correct the y that was predicted, then predict the next."""
    x0 = denoise(y, now.gamma).x0
    seen = jnp.concatenate([x0[None], kept.x0])
    gamma = jnp.concatenate([now.gamma[None], kept.gamma])
    # The last two are of second order: to hardly any noise, the last can be so long that a parabola
    # swings out.
    order = jnp.minimum(now.order(ORDER), jnp.maximum(now.steps - now.index, 2))
    known = jnp.minimum(now.index, order)
    corrected = integrated(kept.y, gamma[1], now.gamma, seen, gamma, known + 1, 1)
    y = jnp.where((now.index == 0) | now.again, y, corrected)
    seen, gamma = seen[:ORDER], gamma[:ORDER]
    return integrated(y, now.gamma, now.to, seen, gamma, order, 0), x0, Kept(y, seen, gamma)


def integrated(
    y: Array, gamma: Array, to: Array, seen: Array, at: Array, count: Array, base: int
) -> Array:
    """y at `to`, along the polynomial through the first `count` of `seen`, which lie `at` [points].

    It is DDIM along seen[base] and the integral of what the polynomial differs by from that.
    """
    weights = _weights(gamma, to, at, count).astype(y.dtype)
    x0 = seen[base]
    moved = x0 + jnp.exp(0.5 * (to - gamma)) * (y - x0)
    return moved + jnp.tensordot(weights, seen - x0, 1)


def _weights(gamma: Array, to: Array, at: Array, count: Array) -> Array:
    """What each point's x_0 adds to y at `to`, [points]: Gauss's rule of exp(-(h - u)) L_m(u)."""
    h = 0.5 * (gamma - to)
    nodes, weights = (jnp.asarray(each, h.dtype) for each in (NODES, WEIGHTS))
    u = 0.5 * h * (1 + nodes)
    points = jnp.arange(len(at))
    used = points < count
    place = 0.5 * (gamma - at)
    other = used & (points != points[:, None])  # [m, j]
    gap = jnp.where(other, place[:, None] - place, 1.0)
    factors = jnp.where(other, (u[:, None, None] - place) / gap, 1.0)  # [node, m, j]
    basis = jnp.where(used, jnp.prod(factors, -1), 0.0)
    return jnp.einsum("q,qm->m", 0.5 * h * weights * jnp.exp(u - h), basis)
