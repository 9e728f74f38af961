"""Probabilistic PCA in closed form (Tipping and Bishop 1999, equations 3.7 and 3.8).

x = W z + mean + noise, with z of q dimensions: a Gaussian whose covariance has the q largest
eigenvalues of the data's and in all other directions their mean, the noise. W, which is free up to
a rotation, is axes sqrt(variance - noise). All examples that were seen weigh the same, so that
after every step it is the likeliest model of them.

FLOPs of a step, of B examples in D dimensions: 2 B D q for the density of what was found before,
and 2 B D^2 for the sum of products. The eigenvalues are no products that the ledger counts.
"""

import math
from typing import Any

import jax
from jax import Array
from jax import numpy as jnp
from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from research.errors import UserError
from research.families.classic import readings

LEAST = 1e-6  # of a variance
observed, volume = readings.numbers, readings.log_volume


def default_model() -> dict[str, Any]:
    """Keys of `config.model`."""
    own = dict(width=placeholder(int))  # dimensions q of the latent
    return own | readings.image_keys()


def check_data(config: ConfigDict, spec: dict[str, Any]) -> None:
    """Raise UserError for data that are no images, or a latent that leaves no noise."""
    readings.check_images(config, spec)
    if config.model.width >= readings.dims(config):
        raise UserError(
            f"config.model.width={config.model.width} must be below the {readings.dims(config)} "
            f"dimensions of {config.data.name}: what is left of them is the noise"
        )


def init(config: ConfigDict, key: Array) -> dict[str, Array]:
    """The normal distribution: no direction is before another until data are seen."""
    del key
    size, width = readings.dims(config), config.model.width
    variance, noise = jnp.ones(width), jnp.ones(())
    return {
        "mean": jnp.zeros(size),
        "axes": jnp.eye(size, width),
        "variance": variance,
        "noise": noise,
    }


def log_probability(config: ConfigDict, params: Any, x_D: Array) -> Array:
    """log density of one example: along the axes, and what is left of it."""
    del config
    off_D, variance, noise = x_D - params["mean"], params["variance"], params["noise"]
    along = off_D @ params["axes"]
    left = jnp.maximum(jnp.square(off_D).sum() - jnp.square(along).sum(), 0)
    square = (jnp.square(along) / variance).sum() + left / noise
    others = len(off_D) - len(variance)
    log_volume = jnp.log(variance).sum() + others * jnp.log(noise)
    return -0.5 * (square + log_volume + len(off_D) * math.log(2 * math.pi))


def empty(config: ConfigDict) -> dict[str, Array]:
    """Sums over no example."""
    size = readings.dims(config)
    return {
        "count": jnp.zeros(()),
        "first": jnp.zeros(size),
        "second": jnp.zeros((size, size)),
    }


def statistics(config: ConfigDict, params: Any, x_BxD: Array) -> tuple[Array, dict[str, Array]]:
    """log p of all, their count, their sum and that of their products."""
    log_p_B = jax.vmap(lambda x_D: log_probability(config, params, x_D))(x_BxD)
    count = jnp.float32(len(x_BxD))
    return log_p_B.sum(), {"count": count, "first": x_BxD.sum(0), "second": x_BxD.T @ x_BxD}


def maximised(config: ConfigDict, sums: dict[str, Array]) -> dict[str, Array]:
    """Mean, leading axes and their variances, and the mean of the others."""
    mean_D = sums["first"] / sums["count"]
    covariance = sums["second"] / sums["count"] - jnp.outer(mean_D, mean_D)
    variance_D, axes_DxD = jnp.linalg.eigh(covariance)  # from the least
    variance_D = jnp.maximum(variance_D, LEAST)
    others = len(variance_D) - config.model.width
    return {
        "mean": mean_D,
        "axes": axes_DxD[:, others:],
        "variance": variance_D[others:],
        "noise": variance_D[:others].mean(),
    }


def drawn(config: ConfigDict, params: Any, key: Array, num: int) -> Array:
    """Images of latents and noise."""
    latent_key, noise_key = jax.random.split(key)
    scale = jnp.sqrt(jnp.maximum(params["variance"] - params["noise"], 0))
    latent = jax.random.normal(latent_key, (num, len(scale)))
    noise = jnp.sqrt(params["noise"]) * jax.random.normal(noise_key, (num, readings.dims(config)))
    return readings.images(config, params["mean"] + (scale * latent) @ params["axes"].T + noise)
