"""Tokens become other tokens, all as likely, until nothing is left (Austin 2021, appendix A.2.1).

At share of noise h a token is what it was with chance 1 - h, else any of the S symbols, by a chain
of rate r = -alpha' / alpha that draws a token anew. The network gives p(x_0 | x_t), of which the
reverse rates are means: R(x -> y) = r / S * sum_x0 p(x_0) q_t(y | x_0) / q_t(x | x_0). So with the
true posterior the bound is the entropy; it is the integral over t of the divergence of the true
rates from these, sum_y (R - R_0 + R_0 log(R_0 / R)) (Campbell 2022, proposition 2). A process in
steps pays the divergence of two categoricals (Austin 2021, equation 4).
"""

from typing import Any

import jax
from jax import numpy as jnp

from research.families.discrete_diffusion.noise_levels import Level

HIDES = False
TIMED = True  # what is noise cannot be seen, so the network is told how much is
BLOCKS = False
SAMPLERS = ("ancestral", "tau_leaping")
LEAST = 1e-9  # share of noise below which a rate cannot be told from infinity in float32


def noisy(
    config: Any, key: jax.Array, tokens_BxL: jax.Array, symbols: int, level: Level
) -> jax.Array:
    """The tokens, of which some are drawn anew, [B, L]."""
    del config
    which, what = jax.random.split(key)
    anew_BxL = jax.random.uniform(which, tokens_BxL.shape) < level.share
    return jnp.where(anew_BxL, jax.random.randint(what, tokens_BxL.shape, 0, symbols), tokens_BxL)


def costs(
    config: Any,
    head: Any,
    params: Any,
    x_BxLxD: jax.Array,
    tokens_BxL: jax.Array,
    read_BxL: jax.Array,
    symbols: int,
    level: Level,
) -> tuple[jax.Array, jax.Array]:
    """Nats of the bound, and of each token, by the network's own p(x_0 | x_t), [B, L]."""
    logits_BxLxV = head.logits(config, params, x_BxLxD)[..., :symbols]
    log_p_BxLxV = jax.nn.log_softmax(logits_BxLxV)
    entropy_BxL = -jnp.take_along_axis(log_p_BxLxV, tokens_BxL[..., None], -1)[..., 0]
    cost = in_time if level.lower is None else in_steps
    return cost(log_p_BxLxV, tokens_BxL, read_BxL, level), entropy_BxL


def in_time(
    log_p_BxLxV: jax.Array, tokens_BxL: jax.Array, read_BxL: jax.Array, level: Level
) -> jax.Array:
    """The divergence of rates at a time, [B, L], nats a unit of time."""
    symbols, share = log_p_BxLxV.shape[-1], level.share[..., None]
    known_BxLxV = jnp.log(jax.nn.one_hot(tokens_BxL, symbols))
    ours_BxLxV = ratios(log_p_BxLxV, read_BxL, share)
    true_BxLxV = ratios(known_BxLxV, read_BxL, share)
    paid_BxLxV = ours_BxLxV - true_BxLxV - true_BxLxV * jnp.log(ours_BxLxV / true_BxLxV)
    same_BxLxV = read_BxL[..., None] == jnp.arange(symbols)
    paid_BxL = jnp.where(same_BxLxV, 0.0, paid_BxLxV).sum(-1)
    # r = h' / alpha; at the end, where alpha is 0, the divergence is of the order of alpha^2.
    rate = level.slope / jnp.maximum(1 - level.share, 1e-6)
    return rate / symbols * paid_BxL


def ratios(log_p_BxLxV: jax.Array, read_BxL: jax.Array, share: Any) -> jax.Array:
    """How often a token goes to each other, over how often it is drawn as that, [B, L, V].

    They are the means over p(x_0 | x_t) of q_t(y | x_0) / q_t(x | x_0), with a = 1 - h and
    u = h / S: (1 - p_x) + p_x u / (a + u) + p_y a / u, which has no difference of near numbers.
    """
    symbols = log_p_BxLxV.shape[-1]
    noise = jnp.maximum(share, LEAST)
    keep, each = 1 - noise, noise / symbols
    p_BxLxV = jnp.exp(log_p_BxLxV)
    same_BxLxV = read_BxL[..., None] == jnp.arange(symbols)
    others_BxLx1 = jnp.where(same_BxLxV, 0.0, p_BxLxV).sum(-1, keepdims=True)
    own_BxLx1 = jnp.take_along_axis(p_BxLxV, read_BxL[..., None], -1)
    return others_BxLx1 + own_BxLx1 * each / (keep + each) + p_BxLxV * keep / each


def before(log_p_BxLxV: jax.Array, read_BxL: jax.Array, share: Any, lower: Any) -> jax.Array:
    """log p(x_s | x_t), [B, L, V], of tokens that are seen at `share` of noise, at the `lower` one.

    It is the mean of q(x_s | x_t, x_0) over p(x_0 | x_t) (Austin 2021, equation 4). The shares
    broadcast against [B, L, V].
    """
    symbols = log_p_BxLxV.shape[-1]
    same_BxLxV = read_BxL[..., None] == jnp.arange(symbols)
    left = (1 - share) / jnp.maximum(1 - lower, 1e-9)  # of what there was at s

    def chance(keep, same):  # of a token that is kept with chance `keep`
        return jnp.where(same, keep, 0.0) + (1 - keep) / symbols

    each_BxLxV = jnp.exp(log_p_BxLxV) / chance(1 - share, same_BxLxV)
    mixed = (1 - lower) * each_BxLxV + lower / symbols * each_BxLxV.sum(-1, keepdims=True)
    return jnp.log(jnp.maximum(chance(left, same_BxLxV) * mixed, 1e-37))


def in_steps(
    log_p_BxLxV: jax.Array, tokens_BxL: jax.Array, read_BxL: jax.Array, level: Level
) -> jax.Array:
    """Nats of all steps, [B, L]: those of the step in which a time lies, times their number."""
    share, lower = level.share[..., None], level.lower[..., None]
    known_BxLxV = jnp.log(jax.nn.one_hot(tokens_BxL, log_p_BxLxV.shape[-1]))
    true_BxLxV = before(known_BxLxV, read_BxL, share, lower)
    ours_BxLxV = before(log_p_BxLxV, read_BxL, share, lower)
    steps = level.slope / (level.share - level.lower)
    return steps * (jnp.exp(true_BxLxV) * (true_BxLxV - ours_BxLxV)).sum(-1)
