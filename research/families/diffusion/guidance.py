"""Guidance: a denoiser pushed away from a worse one, or along a classifier's gradient.

Everything is in x_0 of y = x / alpha = x_0 + s eps: weights that sum to 1 combine scores, eps and
x_0 alike. A `scale` of 1 is no guidance, as in DiT and Stable Diffusion; papers that write
(1 + w) conditional - w unconditional have w = scale - 1. What is drawn is not the tilted density
p(x) (p(x | c) / p(x))^w: the noisy densities' tilt is no noisy tilt (`tests/diffusion`).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from research.families.diffusion.process import along


class Guidance(NamedTuple):
    """How strongly, and where; scalars.

    Attributes:
        scale: 1 is none.
        low, high: -log SNRs between which it is done (Kynkaanniemi 2024).
        rescale: the share of a result that is scaled back to the deviation of what was guided
            (Lin 2024, section 3.4: phi).
    """

    scale: Array | float = 1.0
    low: Array | float = -jnp.inf
    high: Array | float = jnp.inf
    rescale: Array | float = 0.0


def push(guidance: Guidance, good: Array, bad: Array, gamma_B: Array) -> Array:
    """bad + scale (good - bad), in x_0 [B, ...]; `good` itself outside of the interval.

    `bad` is of no class (classifier-free, Ho 2022), of another class (a negative prompt), or of a
    worse network (autoguidance, Karras 2024).
    """
    # Written so that a scale of 1 leaves `good` as it is, to the bit.
    pushed = good + (guidance.scale - 1) * (good - bad)
    axes = tuple(range(1, good.ndim))
    shrunk = pushed * good.std(axes, keepdims=True) / (pushed.std(axes, keepdims=True) + 1e-12)
    pushed = pushed + guidance.rescale * (shrunk - pushed)
    inside_B = (guidance.low <= gamma_B) & (gamma_B <= guidance.high)
    return jnp.where(along(inside_B, good), pushed, good)


def along_classifier(
    guidance: Guidance,
    log_probability: Callable[[Array], Array],
    x0: Array,
    y: Array,
    gamma_B: Array,
) -> Array:
    """x_0 of p(y) p(c | y)^scale: Bayes' rule on scores (Dhariwal 2021, section 4.1).

    Args:
        log_probability: log p(c | y) of the class asked for, [B], of y [B, ...].
    """
    gradient = jax.grad(lambda y: log_probability(y).sum())(y)
    pushed = x0 + guidance.scale * along(jnp.exp(gamma_B), y) * gradient
    inside_B = (guidance.low <= gamma_B) & (gamma_B <= guidance.high)
    return jnp.where(along(inside_B, x0), pushed, x0)
