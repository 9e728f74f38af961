"""Drawing texts from which tokens are hidden: in which order, and how many at once.

    ancestral   as many as the schedule says, anywhere: one at a time it is exact for a network with
                the true conditionals (Austin 2021; Zheng 2024)
    confidence  first the draws that are likeliest (Chang 2022, MaskGIT, section 3.2)
    margin      first where the likeliest token is furthest from the next (Kim 2025, top-K margin)
    entropy     as many as keep what is lost by drawing them apart under a bound, the least entropy
                first (Ben-Hamu 2025, EB-sampler)
    remask      each token may be hidden again, so that an early mistake is undone (Wang 2025,
                ReMDM, with the share rescaled)

They know no network: `predict(tokens_BxL, share)` gives log p of each token, [B, L, V]. Blocks are
drawn one after another. What is given stays.
"""

from collections.abc import Callable
from typing import Any

import jax
from jax import numpy as jnp

from research.sampling.filling import UNKNOWN

Predict = Callable[[jax.Array, jax.Array], jax.Array]


def tempered(settings: Any, log_p_BxLxV: jax.Array) -> jax.Array:
    """What tokens are drawn by; which of them come first is by the network's own log p."""
    return jax.nn.log_softmax(log_p_BxLxV / max(settings.temperature, 1e-6))


def draw(
    settings: Any, predict: Predict, tokens_BxL: jax.Array, key: jax.Array, blocks: int, ends: Any
) -> jax.Array:
    """The tokens with none unknown, [B, L].

    Args:
        settings: of `config.sampling`.
        ends: shares of noise between steps of a block, from 1 down to 0.
    """
    if settings.sampler == "entropy":
        return _by_entropy(settings, predict, tokens_BxL, key, blocks)
    steps, to_fill_BxL = len(ends) - 1, tokens_BxL == UNKNOWN
    block_L = jnp.arange(tokens_BxL.shape[1]) // (tokens_BxL.shape[1] // blocks)
    step = _remasked if settings.sampler == "remask" else _ordered

    def body(tokens_BxL: jax.Array, now: tuple) -> tuple[jax.Array, None]:
        index, key = now
        here_BxL = to_fill_BxL & (block_L == index // steps)
        share, lower = ends[index % steps], ends[index % steps + 1]
        log_p_BxLxV = predict(tokens_BxL, share)
        return step(settings, log_p_BxLxV, tokens_BxL, here_BxL, share, lower, key), None

    keys = jax.random.split(key, steps * blocks)
    return jax.lax.scan(body, tokens_BxL, (jnp.arange(steps * blocks), keys))[0]


def _ordered(settings, log_p_BxLxV, tokens_BxL, here_BxL, share, lower, key):
    """Draw those that come first in the sampler's order, all but the share that stays hidden."""
    draw_key, order_key = jax.random.split(key)
    drawn_BxL = jax.random.categorical(draw_key, tempered(settings, log_p_BxLxV))
    hidden_BxL = here_BxL & (tokens_BxL == UNKNOWN)
    stay_Bx1 = jnp.round(here_BxL.sum(1, keepdims=True) * lower)
    count_Bx1 = hidden_BxL.sum(1, keepdims=True) - stay_Bx1
    gumbel_BxL = jax.random.gumbel(order_key, tokens_BxL.shape)
    if settings.sampler == "ancestral":
        first_BxL = gumbel_BxL
    elif settings.sampler == "confidence":
        first_BxL = jnp.take_along_axis(log_p_BxLxV, drawn_BxL[..., None], -1)[..., 0]
        first_BxL += settings.choice_noise * share * gumbel_BxL
    else:
        likeliest_BxLx2, _ = jax.lax.top_k(jnp.exp(log_p_BxLxV), 2)
        first_BxL = likeliest_BxLx2[..., 0] - likeliest_BxLx2[..., 1]
        first_BxL += settings.choice_noise * share * gumbel_BxL
    place_BxL = _places(jnp.where(hidden_BxL, -first_BxL, jnp.inf))
    return jnp.where(hidden_BxL & (place_BxL < count_Bx1), drawn_BxL, tokens_BxL)


def _places(values_BxL: jax.Array) -> jax.Array:
    """How many of a row come before each in rising order, [B, L]."""
    return jnp.argsort(jnp.argsort(values_BxL))


def _remasked(settings, log_p_BxLxV, tokens_BxL, here_BxL, share, lower, key):
    """Hide again what is known with chance s, and draw what is hidden so that shares stay right.

    s is `remask_share` of the most that leaves shares right, min(1, lower / (1 - share)).
    """
    draw_key, show_key, hide_key = jax.random.split(key, 3)
    drawn_BxL = jax.random.categorical(draw_key, tempered(settings, log_p_BxLxV))
    again = settings.remask_share * jnp.minimum(1.0, lower / jnp.maximum(1 - share, 1e-9))
    show = (1 - lower - (1 - again) * (1 - share)) / share
    hidden_BxL = tokens_BxL == UNKNOWN
    shown_BxL = hidden_BxL & (jax.random.uniform(show_key, tokens_BxL.shape) < show)
    back_BxL = ~hidden_BxL & (jax.random.uniform(hide_key, tokens_BxL.shape) < again)
    turned_BxL = jnp.where(shown_BxL, drawn_BxL, jnp.where(back_BxL, UNKNOWN, tokens_BxL))
    # Chances of floats need not be quite 1 in the last step.
    turned_BxL = jnp.where((lower <= 0) & hidden_BxL, drawn_BxL, turned_BxL)
    return jnp.where(here_BxL, turned_BxL, tokens_BxL)


def _by_entropy(settings, predict, tokens_BxL, key, blocks):
    """Until none is hidden: the most positions whose entropies, but the largest, sum to a bound."""
    size = tokens_BxL.shape[1] // blocks
    block_L = jnp.arange(tokens_BxL.shape[1]) // size

    def body(now: tuple) -> tuple:
        tokens_BxL, key = now
        key, draw_key = jax.random.split(key)
        hidden_BxL = tokens_BxL == UNKNOWN
        block_Bx1 = jnp.argmax(hidden_BxL, 1, keepdims=True) // size
        here_BxL = hidden_BxL & (block_L == block_Bx1)
        log_p_BxLxV = predict(tokens_BxL, hidden_BxL.mean())
        entropy_BxL = jnp.nan_to_num(-(jnp.exp(log_p_BxLxV) * log_p_BxLxV).sum(-1))
        entropy_BxL = jnp.where(here_BxL, entropy_BxL, jnp.inf)
        rising_BxL = jnp.sort(entropy_BxL)
        before_BxL = jnp.concatenate(
            [jnp.zeros_like(rising_BxL[:, :1]), jnp.cumsum(rising_BxL, 1)[:, :-1]], 1
        )
        taken_BxL = jnp.take_along_axis(before_BxL, _places(entropy_BxL), 1)
        shown_BxL = here_BxL & (taken_BxL <= settings.entropy_bound)
        drawn_BxL = jax.random.categorical(draw_key, tempered(settings, log_p_BxLxV))
        return jnp.where(shown_BxL, drawn_BxL, tokens_BxL), key

    return jax.lax.while_loop(lambda now: (now[0] == UNKNOWN).any(), body, (tokens_BxL, key))[0]
