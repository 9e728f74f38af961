"""A Gaussian posterior over the latent, held to a standard normal prior (Kingma & Welling 2014).

The encoder says mean and log variance of each number of the latent, the decoder reads a sample,
and the latent costs the Kullback-Leibler divergence from posterior to prior. With `kl_weight` 1 the
loss is the variational bound; latent diffusion takes far less (Rombach et al. 2022, section 3.1),
so that the latent keeps what the prior alone could not pay for.
"""

import math
from typing import Any

import jax
from jax import Array
from jax import numpy as jnp
from ml_collections import ConfigDict

from research.errors import UserError
from research.families.autoencoder.coded import Coded

LOG_VARIANCE = (-30.0, 20.0)  # beyond which it is cut


def default_model() -> dict[str, Any]:
    """Its keys of `config.model`."""
    return dict(latent_channels=4, kl_weight=1.0)


def check(config: ConfigDict) -> None:
    """Raise UserError for a latent of nothing, or a negative weight."""
    check_channels(config)
    check_weight(config)


def check_weight(config: ConfigDict) -> None:
    """Raise UserError for a charge below nothing."""
    if not 0 <= config.model.kl_weight < math.inf:
        raise UserError(f"config.model.kl_weight={config.model.kl_weight} must be at least 0")


def check_channels(config: ConfigDict) -> None:
    """Raise UserError for a latent without channels."""
    if config.model.latent_channels < 1:
        raise UserError(
            f"config.model.latent_channels={config.model.latent_channels} must be at least 1"
        )


def features(model: Any) -> int:
    """What the encoder says of a place: means, and logarithms of variances."""
    return 2 * model.latent_channels


def channels(model: Any) -> int:
    """Numbers of a place of the latent."""
    return model.latent_channels


def symbols(model: Any) -> int:
    """It has no codes."""
    del model
    return 0


def divergence(mean: Any, log_variance: Any) -> Array:
    """KL(N(mean, variance) || N(0, 1)) of each number, nats (Kingma & Welling 2014, appendix B)."""
    return 0.5 * (jnp.square(mean) + jnp.exp(log_variance) - 1 - log_variance)


def read(model: Any, params: dict, h_BxHxWxI: Array, key: Array | None) -> Array:
    """The posterior's mean, or a sample of it, [B, H, W, C]."""
    del model, params
    mean, log_variance = posterior(h_BxHxWxI)
    if key is None:
        return mean
    return mean + jnp.exp(0.5 * log_variance) * jax.random.normal(key, mean.shape)


def code(model: Any, params: dict, h_BxHxWxI: Array, key: Array) -> Coded:
    """A sample of the posterior, and its divergence from the prior."""
    mean, log_variance = posterior(h_BxHxWxI)
    latent = read(model, params, h_BxHxWxI, key)
    each = divergence(mean, log_variance)
    nats_B = each.sum((1, 2, 3))
    # log q - log p at the sample, which was drawn by this noise; their normalisers are the same.
    noise = jnp.square(jax.random.normal(key, mean.shape))
    ratio_B = 0.5 * (jnp.square(latent) - noise - log_variance).sum((1, 2, 3))
    # E log q(u | x), the negative entropy.
    density_B = -0.5 * (1 + math.log(2 * math.pi) + log_variance).sum((1, 2, 3))
    return Coded(
        latent, latent, nats_B, model.kl_weight * nats_B, density_B,
        ratio_B=ratio_B, groups_BxG=each.sum((1, 2)), shift_BxHxWxC=mean,
        posterior=(mean, log_variance),
    )  # fmt: skip


def snapped(model: Any, params: dict, latent_BxHxWxC: Array) -> Array:
    """What the decoder reads of a latent: the latent."""
    del model, params
    return latent_BxHxWxC


def drawn(model: Any, params: dict, key: Array, places: tuple[int, int, int]) -> Array:
    """A sample of the prior, [B, H, W, C]."""
    del params
    return jax.random.normal(key, (*places, model.latent_channels))


def posterior(h_BxHxWxI: Array) -> tuple[Array, Array]:
    """Its mean and log variance, each [B, H, W, C]."""
    mean, log_variance = jnp.split(h_BxHxWxI, 2, axis=-1)
    return mean, jnp.clip(log_variance, *LOG_VARIANCE)
