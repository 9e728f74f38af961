"""Finite scalar quantisation (Mentzer et al. 2024, arXiv 2309.15505): each number to a few levels.

Channel i of the latent is bounded and rounded to `scalar_levels[i]` levels from -1 to 1, gradients
straight through; a place's code is the number whose digits are its levels. There is no codebook to
learn, and a place costs log2 of the product of the levels in bits.
"""

import math
from typing import Any

import jax
import numpy as np
from jax import Array
from jax import numpy as jnp
from ml_collections import ConfigDict

from research.errors import UserError
from research.families.autoencoder.coded import Coded, usage


def default_model() -> dict[str, Any]:
    """Its key of `config.model`: the paper's (table 1) for about 2^8 codes."""
    return dict(scalar_levels=(8, 6, 5))


def check(config: ConfigDict) -> None:
    """Raise UserError for levels that are none, or codes that no int32 can number."""
    levels = config.model.scalar_levels
    if not levels or any(type(each) is not int or each < 2 for each in levels):
        raise UserError(
            f"config.model.scalar_levels={levels} must be integers of at least 2, one a channel"
        )
    if math.prod(levels) >= 2**31:
        raise UserError(f"config.model.scalar_levels={levels} make 2^31 codes or more")


def features(model: Any) -> int:
    """What the encoder says of a place."""
    return len(model.scalar_levels)


channels = features


def symbols(model: Any) -> int:
    """How many codes there are."""
    return math.prod(model.scalar_levels)


def read(model: Any, params: dict, h_BxHxWxI: Array, key: Array | None) -> Array:
    """Each number of a place between the outer edges of its levels, of which the last are -1 and 1.

    The edges lie half a level beyond, so that rounding is to each level from an interval of the
    latent as wide as another's.
    """
    del params, key
    edge: Any = 1 + 1 / (np.array(model.scalar_levels) - 1)
    return edge * jnp.tanh(h_BxHxWxI)


def _digits(model: Any, latent_BxHxWxC: Array) -> Array:
    """The level of each number, from 0."""
    most = np.array(model.scalar_levels) - 1
    return jnp.clip(jnp.round((latent_BxHxWxC + 1) / 2 * most), 0, most)


def codes(model: Any, params: dict, latent_BxHxWxC: Array) -> Array:
    """The number of each place's code, int32 [B, H, W]; the first channel is its last digit."""
    del params
    base = np.cumprod((1, *model.scalar_levels[:-1]))
    return (_digits(model, latent_BxHxWxC).astype(jnp.int32) * base).sum(-1)


def looked_up(model: Any, params: dict, code_BxHxW: Array) -> Array:
    """The levels of each code, [B, H, W, C]."""
    del params
    base, levels = np.cumprod((1, *model.scalar_levels[:-1])), np.array(model.scalar_levels)
    return (code_BxHxW[..., None] // base % levels) / (levels - 1) * 2.0 - 1


def snapped(model: Any, params: dict, latent_BxHxWxC: Array) -> Array:
    """What the decoder reads of a latent: the nearest levels."""
    del params
    most = np.array(model.scalar_levels) - 1
    return _digits(model, latent_BxHxWxC) / most * 2 - 1


def code(model: Any, params: dict, h_BxHxWxI: Array, key: Array) -> Coded:
    """The nearest levels."""
    latent = read(model, params, h_BxHxWxI, key)
    through = latent + jax.lax.stop_gradient(snapped(model, params, latent) - latent)
    code_BxHxW = codes(model, params, latent)
    nats_B = jnp.full(len(latent), code_BxHxW[0].size * math.log(symbols(model)))
    none_B, found = jnp.zeros(len(latent)), {"share": usage(code_BxHxW, symbols(model))}
    return Coded(through, latent, nats_B, none_B, none_B, code_BxHxW, found)
