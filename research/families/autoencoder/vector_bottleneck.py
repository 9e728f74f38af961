"""Vector quantisation (van den Oord et al. 2017, arXiv 1711.00937): each place is the nearest code.

The gradient at the code goes to what the encoder said, straight through, and the encoder commits to
codes by their squared distance (equation 3). Codes follow the means of what chooses them, as an
exponential average (appendix A.1) or by the gradient of that distance. One that hardly anything
chooses is put beside one that much does, whose cell they then share (Linde, Buzo & Gray 1980), so
that a codebook far from the data at first is filled by doubling.

A place costs log2 V bits: the prior is uniform over the V codes.
"""

import math
from typing import Any

import jax
from jax import Array
from jax import numpy as jnp
from ml_collections import ConfigDict

from research.errors import UserError
from research.families.autoencoder.coded import Coded, usage
from research.families.autoencoder.gaussian_bottleneck import channels, check_channels
from research.models.numerics import project
from research.parts import check_choice

__all__ = ["channels"]
UPDATES = ("average", "gradient")
APART = 0.1  # of two codes that share a cell, in deviations of the codebook


def default_model() -> dict[str, Any]:
    """Its keys of `config.model`."""
    return dict(
        latent_channels=4,
        codes=256,
        commitment=0.25,  # weight of the squared distance from codes
        codebook_update="average",
        codebook_decay=0.95,  # of the average, a step
        dead_below=0.1,  # share of an even use, under which a code is put elsewhere; 0: none is
    )


def check(config: ConfigDict) -> None:
    """Raise UserError for a codebook that cannot be learned."""
    model = config.model
    check_channels(config)
    check_choice("model.codebook_update", model.codebook_update, UPDATES)
    if model.codes < 2:
        raise UserError(f"config.model.codes={model.codes} must be at least 2")
    for key in ("codebook_decay", "dead_below"):
        if not 0 <= model[key] < 1:
            raise UserError(f"config.model.{key}={model[key]} must be at least 0 and below 1")
    if not 0 <= model.commitment < math.inf:
        raise UserError(f"config.model.commitment={model.commitment} must be at least 0")


def features(model: Any) -> int:
    """What the encoder says of a place."""
    return model.latent_channels


def symbols(model: Any) -> int:
    """How many codes there are."""
    return model.codes


def init(model: Any, key: Array) -> dict[str, Array]:
    """The codes, and the share of places that has each of them."""
    codebook_VxC = jax.random.normal(key, (model.codes, model.latent_channels))
    return {"codebook": codebook_VxC, "share": jnp.full(model.codes, 1 / model.codes)}


def axes(model: Any) -> dict[str, tuple[str | None, ...]]:
    """Logical axes of both."""
    del model
    return {"codebook": ("class", "latent"), "share": ("norm",)}


def codes(model: Any, params: dict, latent_BxHxWxC: Array) -> Array:
    """The number of the code nearest to each place, int32 [B, H, W]."""
    del model
    table_VxC = params["codebook"]
    # |u - e|^2 without |u|^2, which is the same for all codes.
    away_BxHxWxV = jnp.square(table_VxC).sum(-1) - 2 * project(latent_BxHxWxC, table_VxC)
    return jnp.argmin(away_BxHxWxV, -1).astype(jnp.int32)


def looked_up(model: Any, params: dict, code_BxHxW: Array) -> Array:
    """The codes by their numbers, [B, H, W, C]."""
    del model
    return params["codebook"][code_BxHxW]


def snapped(model: Any, params: dict, latent_BxHxWxC: Array) -> Array:
    """What the decoder reads of a latent: the nearest codes."""
    return looked_up(model, params, codes(model, params, latent_BxHxWxC))


def read(model: Any, params: dict, h_BxHxWxI: Array, key: Array | None) -> Array:
    """What the encoder says, before it is snapped to codes."""
    del model, params, key
    return h_BxHxWxI


def code(model: Any, params: dict, h_BxHxWxI: Array, key: Array) -> Coded:
    """The nearest codes."""
    del key
    stop = jax.lax.stop_gradient
    code_BxHxW = codes(model, params, stop(h_BxHxWxI))
    nearest = looked_up(model, params, code_BxHxW)
    cost_B = model.commitment * jnp.square(h_BxHxWxI - stop(nearest)).sum((1, 2, 3))
    if model.codebook_update == "gradient":
        cost_B += jnp.square(stop(h_BxHxWxI) - nearest).sum((1, 2, 3))
    through = h_BxHxWxI + stop(nearest - h_BxHxWxI)
    sums_VxC = jnp.zeros_like(nearest, shape=params["codebook"].shape)
    sums_VxC = sums_VxC.at[code_BxHxW].add(stop(h_BxHxWxI)) / code_BxHxW.size
    found = {"share": usage(code_BxHxW, model.codes), "sums": sums_VxC}
    nats_B = jnp.full(len(cost_B), code_BxHxW[0].size * math.log(model.codes))
    return Coded(through, h_BxHxWxI, nats_B, cost_B, jnp.zeros(len(cost_B)), code_BxHxW, found)


def moved(model: Any, before: dict, now: dict, found: dict, key: Array) -> dict[str, Array]:
    """Codebook and shares after a step: `before` it, and as gradients left them `now`.

    Args:
        found: the batch's `share` [V] of each code, and `sums` [V, C] of what chose it, a place.
    """
    decay, share_V, table_VxC = model.codebook_decay, before["share"], now["codebook"]
    kept_V = decay * share_V
    share_V = kept_V + (1 - decay) * found["share"]
    if model.codebook_update == "average":
        sums_VxC = kept_V[:, None] * before["codebook"] + (1 - decay) * found["sums"]
        table_VxC = sums_VxC / jnp.maximum(share_V, 1e-30)[:, None]
    return dict(zip(("codebook", "share"), _revived(model, table_VxC, share_V, key), strict=True))


def _revived(model: Any, table_VxC: Array, share_V: Array, key: Array) -> tuple[Array, Array]:
    """Dead codes beside the most used ones, each of which gives one of them half of its share."""
    least = model.dead_below / model.codes
    dead_V = share_V < least
    donors_V = jnp.argsort(-share_V)
    donor_V = donors_V[jnp.cumsum(dead_V) - 1]  # the first dead code's is the most used one
    taken_V = dead_V & (share_V[donor_V] >= 2 * least)
    halved_V = jnp.zeros_like(dead_V).at[donor_V].max(taken_V)
    away = APART * table_VxC.std() * jax.random.normal(key, table_VxC.shape)
    table_VxC = jnp.where(taken_V[:, None], table_VxC[donor_V] + away, table_VxC)
    share_V = jnp.where(taken_V, share_V[donor_V], share_V)
    return table_VxC, jnp.where(taken_V | halved_V, 0.5 * share_V, share_V)
