"""Gaussian latents in levels, each with a prior that the levels above it give (a ladder).

    p(z) = p(z_1) p(z_2 | z_1) ...,  q(z | x) = q(z_1 | x) q(z_2 | x, z_1) ...

From the top down, z_1 first: the posterior of a level is what the encoder heard of the image times
the prior from above, each by its precision (Sønderby et al. 2016, equations 11 and 12). The latent
costs the sum of the levels' divergences, each given a sample of those above, and so its bound is a
bound. The decoder reads all levels side by side.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
from jax import Array
from jax import numpy as jnp
from ml_collections import ConfigDict, FrozenConfigDict

from research.errors import UserError
from research.families.autoencoder import coding
from research.families.autoencoder.coded import Coded
from research.families.autoencoder.gaussian_bottleneck import check_weight, divergence
from research.models import common
from research.models.mlp_coder import Perceptron
from research.parts import part

LOG_VARIANCE = (-12.0, 12.0)  # beyond which one is cut


def default_model() -> dict[str, Any]:
    """Its keys of `config.model`."""
    return dict(
        ladder_channels=(2, 2),  # of a place, the top level's first
        ladder_width=32,  # of the hidden layer that makes a level's prior of those above
        kl_weight=1.0,
    )


def check(config: ConfigDict) -> None:
    """Raise UserError for fewer than two levels, levels of nothing, or a negative weight."""
    model, channels = config.model, config.model.ladder_channels
    if len(channels) < 2 or any(type(each) is not int or each < 1 for each in channels):
        raise UserError(
            f"config.model.ladder_channels={channels} must be integers of at least 1, one for each "
            "of two or more levels, such as (2, 2)"
        )
    if model.ladder_width < 1:
        raise UserError(f"config.model.ladder_width={model.ladder_width} must be at least 1")
    check_weight(config)


def features(model: Any) -> int:
    """What the encoder says of a place: means, and logarithms of variances."""
    return 2 * channels(model)


def channels(model: Any) -> int:
    """Numbers of a place of the latent, all levels together."""
    return sum(model.ladder_channels)


def symbols(model: Any) -> int:
    """It has no codes."""
    del model
    return 0


def _priors(model: Any) -> dict[str, tuple[Perceptron, Array]]:
    """The network of each level below the top, and an input of the right shape to start it."""
    sides = part(coding, "network", model).latent_sides(model)
    plain = dict(width=model.ladder_width, depth=1, activation="silu", num_classes=0)
    found, above = {}, model.ladder_channels[0]
    for level, own in enumerate(model.ladder_channels[1:], start=1):
        shape = (*sides, 2 * own)
        network = Perceptron(FrozenConfigDict(plain), jnp.float32, shape)
        found[f"prior_{level}"] = network, jnp.zeros((1, *sides, above))
        above += own
    return found


def init(model: Any, key: Array) -> common.Params:
    """Parameters of the priors."""
    networks = _priors(model)
    keys = jax.random.split(key, len(networks))
    pairs = zip(keys, networks.items(), strict=True)
    return {name: common.init(network, each, x) for each, (name, (network, x)) in pairs}


def axes(model: Any) -> common.Params:
    """Logical axes of them."""
    return {name: common.logical_axes(network, x) for name, (network, x) in _priors(model).items()}


def _down(
    model: Any,
    params: Any,
    places: tuple[int, ...],
    choose: Callable[[int, Array, Array], Any],
) -> list[Array]:
    """The latents of the levels from the top down, [B, H, W, C] each.

    Args:
        choose: (level, mean and log variance of its prior) -> its latent.
    """
    top = jnp.zeros((*places, model.ladder_channels[0]))
    found, networks = [choose(0, top, top)], _priors(model)
    for level in range(1, len(model.ladder_channels)):
        name = f"prior_{level}"
        said = common.apply(networks[name][0], params[name], jnp.concatenate(found, -1))
        mean, log_variance = jnp.split(said, 2, axis=-1)
        found.append(choose(level, mean, jnp.clip(log_variance, *LOG_VARIANCE)))
    return found


def _merged(heard: Any, mean: Array, log_variance: Array) -> tuple[Array, Array]:
    """Mean and log variance of the product of what was heard and a prior."""
    own_mean, own_log_variance = heard
    log_precision = jnp.logaddexp(-own_log_variance, -log_variance)
    share = jnp.exp(-own_log_variance - log_precision)
    return mean + share * (own_mean - mean), -log_precision


def _heard(model: Any, h_BxHxWxI: Array) -> list[tuple[Array, Array]]:
    """Mean and log variance that the encoder says of each level."""
    edges, at = [], 0
    for own in model.ladder_channels[:-1]:
        edges.append(at := at + own)
    mean, log_variance = jnp.split(h_BxHxWxI, 2, axis=-1)
    means, log_variances = (
        jnp.split(each, edges, axis=-1) for each in (mean, jnp.clip(log_variance, *LOG_VARIANCE))
    )
    return list(zip(means, log_variances, strict=True))


def read(model: Any, params: Any, h_BxHxWxI: Array, key: Array | None) -> Array:
    """The posterior's means, each level's given the means above, or a sample, [B, H, W, C]."""
    if key is not None:
        return code(model, params, h_BxHxWxI, key).latent_BxHxWxC
    heard = _heard(model, h_BxHxWxI)
    chosen = _down(
        model, params, h_BxHxWxI.shape[:3], lambda level, *prior: _merged(heard[level], *prior)[0]
    )
    return jnp.concatenate(chosen, -1)


def code(model: Any, params: Any, h_BxHxWxI: Array, key: Array) -> Coded:
    """A sample of the posterior from the top down, and its divergence from the prior."""
    heard, seen = _heard(model, h_BxHxWxI), []

    def choose(level: int, mean: Array, log_variance: Array) -> Array:
        own_mean, own_log_variance = _merged(heard[level], mean, log_variance)
        noise = jax.random.normal(jax.random.fold_in(key, level), own_mean.shape)
        latent = own_mean + jnp.exp(0.5 * own_log_variance) * noise
        inverse = jnp.exp(-0.5 * log_variance)
        shift, log_ratio = (own_mean - mean) * inverse, own_log_variance - log_variance
        ratio = 0.5 * (jnp.square((latent - mean) * inverse) - jnp.square(noise) - log_ratio)
        seen.append((shift, divergence(shift, log_ratio), ratio, own_log_variance))
        return latent

    latent = jnp.concatenate(_down(model, params, h_BxHxWxI.shape[:3], choose), -1)
    shift, each, ratio, log_variance = (jnp.concatenate(of, -1) for of in zip(*seen, strict=True))
    nats_B = each.sum((1, 2, 3))
    density_B = -0.5 * (1 + math.log(2 * math.pi) + log_variance).sum((1, 2, 3))
    return Coded(
        latent, latent, nats_B, model.kl_weight * nats_B, density_B,
        ratio_B=ratio.sum((1, 2, 3)), groups_BxG=each.sum((1, 2)), shift_BxHxWxC=shift,
    )  # fmt: skip


def snapped(model: Any, params: Any, latent_BxHxWxC: Array) -> Array:
    """What the decoder reads of a latent: the latent."""
    del model, params
    return latent_BxHxWxC


def drawn(model: Any, params: Any, key: Array, places: tuple[int, int, int]) -> Array:
    """A sample of the prior from the top down, [B, H, W, C]."""

    def choose(level: int, mean: Array, log_variance: Array) -> Array:
        noise = jax.random.normal(jax.random.fold_in(key, level), mean.shape)
        return mean + jnp.exp(0.5 * log_variance) * noise

    return jnp.concatenate(_down(model, params, places, choose), -1)
