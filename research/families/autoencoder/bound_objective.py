"""The variational bound: -log p(x | latent), and what the bottleneck charges for the latent.

The latent may be charged nothing at first and all of it after a warm-up (Bowman et al. 2016;
Sønderby et al. 2016, section 2.3), and may be free up to so many nats a group of its numbers, on
average over the batch (Kingma et al. 2016, appendix C.8), so that groups are used before they are
paid for. Scores and the metric "bound" charge all of it whatever the training does.
"""

import math
from typing import Any

from jax import Array
from jax import numpy as jnp
from ml_collections import ConfigDict

from research.errors import UserError
from research.families.autoencoder import coding
from research.families.autoencoder.coded import Coded


def default_model() -> dict[str, Any]:
    """Its keys of `config.model`."""
    return dict(
        kl_warmup_steps=0,  # over which the charge goes from 0 to all of it
        free_nats=0.0,  # of a group: a channel of the latent at all places
    )


def check(config: ConfigDict) -> None:
    """Raise UserError for a warm-up or free nats that cannot be, or that codes cannot have."""
    model = config.model
    if model.kl_warmup_steps < 0:
        raise UserError(
            f"config.model.kl_warmup_steps={model.kl_warmup_steps} must be at least 0 steps"
        )
    if not 0 <= model.free_nats < math.inf:
        raise UserError(f"config.model.free_nats={model.free_nats} must be at least 0")
    for key in ("kl_warmup_steps", "free_nats"):
        if model[key] and coding.symbols(config):
            raise UserError(
                f"config.model.{key}={model[key]} must be 0 for config.model.bottleneck="
                f"{model.bottleneck!r}, whose codes cost the same always"
            )


def charge(model: Any, coded: Coded, step: Array) -> Array:
    """What the latent costs at this step of training, nats [B] or one number for the batch."""
    cost = coded.cost_B
    if model.free_nats:
        groups_G = coded.groups_BxG.mean(0)
        cost = model.kl_weight * jnp.maximum(groups_G, model.free_nats).sum()
    if model.kl_warmup_steps:
        cost *= jnp.minimum(step / model.kl_warmup_steps, 1.0)
    return cost


def value(
    config: ConfigDict, params: Any, batch: dict, key: Array, step: Array
) -> tuple[Array, Coded, dict[str, Array]]:
    """The objective in nats of an image; what the bottleneck made of the batch, and its errors."""
    coded, judged = coding.once(config, params, batch, key)
    cost = charge(config.model, coded, step)
    return (judged["reconstruction"] + cost).mean(), coded, judged
