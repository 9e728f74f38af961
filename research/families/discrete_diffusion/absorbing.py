"""Tokens are hidden, one after another, until none is left (Austin 2021, section 3.1).

In continuous time the bound is the mean over t of -alpha' / (1 - alpha) times the nats of the
hidden tokens (Sahoo 2024, equation 10, MDLM; Shi 2024, equation 5, MD4). A text of which each token
is hidden with chance h(t) is, given how many are, one of which a random set of so many is. So in
place of a coin for each token their number is drawn, 1 + floor(n h), and its weight is
h' n / number: the same mean by any schedule, as sums over numbers are integrals over t (its weights
are Beta functions), that of autoregression averaged over all orders (Hoogeboom 2022, equation 6),
and much less noise: no text is whole, and no weight is above n.

A process in steps (Austin 2021) hides by coins and pays for several tokens that appear at once.
"""

from typing import Any

import jax
from jax import numpy as jnp

from research.families.discrete_diffusion.noise_levels import Level, mean_share

HIDES = True  # there are hidden tokens, whose number is model.vocab_size
TIMED = False  # the network sees how many are hidden
BLOCKS = True  # each block may have a time of its own
SAMPLERS = ("ancestral", "confidence", "margin", "entropy", "remask")


def noisy(
    config: Any, key: jax.Array, tokens_BxL: jax.Array, symbols: int, level: Level
) -> jax.Array:
    """The tokens, of which some are hidden, [B, L]."""
    del symbols
    batch, blocks = level.share.shape
    size = tokens_BxL.shape[1] // blocks
    drawn_BxKxM = jax.random.uniform(key, (batch, blocks, size))
    if level.lower is None:
        order_BxKxM = jnp.argsort(jnp.argsort(drawn_BxKxM))
        hidden_BxKxM = order_BxKxM <= jnp.floor(level.share * size)[..., None]
    else:
        hidden_BxKxM = drawn_BxKxM < level.share[..., None]
    return jnp.where(hidden_BxKxM.reshape(tokens_BxL.shape), config.model.vocab_size, tokens_BxL)


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
    """Nats of the bound, [B, L], and cross-entropy of hidden tokens that weigh 1 on average."""
    del symbols
    hidden_BxL = (read_BxL == config.model.vocab_size).astype(jnp.float32)
    nats_BxL = head.nats(config, params, x_BxLxD, tokens_BxL) * hidden_BxL
    weight_BxL, mean = weights(config, hidden_BxL, level)
    return nats_BxL * weight_BxL, nats_BxL / mean


def weights(config: Any, hidden_BxL: jax.Array, level: Level) -> tuple[jax.Array, float]:
    """What each hidden token weighs in the bound, [B, L], and the mean share of hidden ones."""
    batch, blocks = level.share.shape
    size = hidden_BxL.shape[1] // blocks
    if level.lower is None:
        share = hidden_BxL.reshape(batch, blocks, size).mean(-1)
        mean = mean_share(config.model) + 1 / (2 * size)  # of 1 + floor(n h) in n
    else:
        share, mean = level.share, mean_share(config.model)
    return jnp.repeat(level.slope / share, size, 1), mean
