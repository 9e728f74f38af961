"""Masked-language modelling: hidden tokens from all others (Devlin et al. 2019, section 3.1).

Of a window `mask_rate` of the tokens are to be predicted where they stand; of these 8 in 10 are
hidden behind a token of their own, 1 in 10 is another token, 1 in 10 stays. What is scored is the
mean over tokens that are all hidden, by masks that are always the same: it is no likelihood of a
text, so it is an estimate of one that no other objective's may be held against.
"""

from typing import Any

import jax
from jax import numpy as jnp
from ml_collections import ConfigDict

from research.errors import UserError
from research.families.objectives import Task, refuse_images
from research.models.attention import Where

EXTRA = 1  # the token that hides others
KINDS = {"masked": "estimate"}
UNITS = {"masked": "of hidden tokens"}
CAUSAL = False


def default_model() -> dict[str, Any]:
    """Its key of `config.model`."""
    return dict(mask_rate=0.15)


def check(config: ConfigDict) -> None:
    """Raise UserError for images, or a rate that hides none or all."""
    refuse_images(config)
    rate = config.model.mask_rate
    if not 0 < rate < 1:
        raise UserError(f"config.model.mask_rate={rate} must be between 0 and 1")


def task(config: Any, tokens: jax.Array, where: Where, symbols: int, key: Any) -> Task:
    """Tokens to predict, of which 8 in 10 are hidden; each weighs 1 / mask_rate."""
    which, how, other = jax.random.split(key, 3)
    text = tokens[:, 1:]
    chosen = jax.random.uniform(which, text.shape) < config.model.mask_rate
    turn = jax.random.uniform(how, text.shape)
    drawn = jax.random.randint(other, text.shape, 0, symbols)
    seen = jnp.where(turn < 0.8, symbols, jnp.where(turn < 0.9, drawn, text))
    return _of(text, where, chosen, seen, 1 / config.model.mask_rate)


def scored(config: Any, tokens: jax.Array, where: Where, symbols: int) -> dict[str, Task]:
    """Tokens at the places that one draw has for every window, all hidden."""
    text = tokens[:, 1:]
    uniform = jax.random.uniform(jax.random.key(0), text.shape[1:])
    # At least one token, however short a window is.
    chosen = uniform <= jnp.maximum(jnp.sort(uniform)[0], config.model.mask_rate)
    hidden = jnp.full_like(text, symbols)
    return {"masked": _of(text, where, jnp.broadcast_to(chosen, text.shape), hidden, 1.0)}


def _of(text: Any, where: Where, chosen: Any, seen: Any, scale: float) -> Task:
    return Task(jnp.where(chosen, seen, text), text, where, scale * chosen)
