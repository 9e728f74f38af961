"""Drawing texts whose tokens change into others, from those that are all as likely.

    ancestral    draws p(x_s | x_t), the mean of q(x_s | x_t, x_0) over p(x_0 | x_t) (Austin 2021,
                 equation 4)
    tau_leaping  lets rates stand for a step: a token goes to y with chance R(x -> y) dt, at most
                 once (Campbell 2022, section 4.3); its last step is the other's

They know no network: `predict(tokens_BxL, share)` gives log p of each clean token, [B, L, V]. What
is given is put back after each step, which is no exact draw given it: a network trained on even
noise has not met such texts.
"""

from typing import Any

import jax
from jax import numpy as jnp

from research.families.discrete_diffusion import uniform_noise
from research.families.discrete_diffusion.unmasking import UNKNOWN, Predict, tempered


def draw(
    settings: Any, predict: Predict, tokens_BxL: jax.Array, key: jax.Array, blocks: int, ends: Any
) -> jax.Array:
    """The tokens with none unknown, [B, L].

    Args:
        ends: shares of noise between steps, from 1 down to 0.
    """
    del blocks
    to_fill_BxL, (start_key, key) = tokens_BxL == UNKNOWN, jax.random.split(key)
    symbols = jax.eval_shape(predict, tokens_BxL, ends[0]).shape[-1]
    noise_BxL = jax.random.randint(start_key, tokens_BxL.shape, 0, symbols)

    def body(now_BxL: jax.Array, step: tuple) -> tuple[jax.Array, None]:
        share, lower, key = step
        log_p_BxLxV = tempered(settings, predict(now_BxL, share))
        to_BxLxV = uniform_noise.before(log_p_BxLxV, now_BxL, share, lower)
        if settings.sampler == "tau_leaping":
            leapt_BxLxV = _leapt(log_p_BxLxV, now_BxL, share, lower)
            to_BxLxV = jnp.where(lower > 0, leapt_BxLxV, to_BxLxV)
        drawn_BxL = jax.random.categorical(key, to_BxLxV)
        return jnp.where(to_fill_BxL, drawn_BxL, tokens_BxL), None

    keys = jax.random.split(key, len(ends) - 1)
    start_BxL = jnp.where(to_fill_BxL, noise_BxL, tokens_BxL)
    return jax.lax.scan(body, start_BxL, (ends[:-1], ends[1:], keys))[0]


def _leapt(log_p_BxLxV: jax.Array, now_BxL: jax.Array, share: Any, lower: Any) -> jax.Array:
    """Logs of chances after a step at the rates of its beginning, [B, L, V].

    The integral of r = -alpha' / alpha over the step is log(alpha_s / alpha_t), which at share 1 is
    taken as that of a share a little below.
    """
    symbols = log_p_BxLxV.shape[-1]
    same_BxLxV = now_BxL[..., None] == jnp.arange(symbols)
    ratios_BxLxV = uniform_noise.ratios(log_p_BxLxV, now_BxL, share)
    time = jnp.maximum(jnp.log((1 - lower) / jnp.maximum(1 - share, 1e-3)), 0.0)
    go_BxLxV = jnp.where(same_BxLxV, 0.0, time / symbols * ratios_BxLxV)
    stay_BxLx1 = jnp.maximum(1 - go_BxLxV.sum(-1, keepdims=True), 0.0)
    return jnp.log(jnp.where(same_BxLxV, stay_BxLx1, go_BxLxV) + 1e-30)
