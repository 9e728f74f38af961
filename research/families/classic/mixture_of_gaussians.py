"""A mixture of Gaussians by EM (Dempster 1977), of full or diagonal covariances.

Responsibilities are gradients of log p with respect to the logarithms of the weights. A covariance
is kept by its axes U and the variances along them, none less than `least_variance`: cutting them
off is the likeliest covariance under that bound. Images of levels are filled up with noise.

FLOPs of a step, of B examples in D dimensions and K components: 4 B K D^2 + 4 B K D with full
covariances, for the distances and for the sums of products and of examples; 6 B K D with diagonal
ones. The eigenvalues of K covariances are no products that the ledger counts.
"""

import math
from typing import Any

import jax
from jax import Array
from jax import numpy as jnp
from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from research.errors import UserError
from research.families.classic import readings, stepwise
from research.parts import check_choice

COVARIANCES = ("full", "diagonal")
observed, volume = readings.numbers, readings.log_volume


def default_model() -> dict[str, Any]:
    """Keys of `config.model`."""
    return dict(
        width=placeholder(int),  # components
        covariance="full",  # or "diagonal"
        least_variance=1e-4,  # along any axis of a covariance
        pseudo_count=1.0,  # examples of variance 1 that each component has seen before any
        kappa=0.6,  # a batch weighs its number to the power -kappa; 1: all weigh the same
        **readings.image_keys(),
    )


def check_data(config: ConfigDict, spec: dict[str, Any]) -> None:
    """Raise UserError for data that are no images, or components that have none to begin at."""
    model, batch_size = config.model, config.train.batch_size
    readings.check_images(config, spec)
    check_choice("model.covariance", model.covariance, COVARIANCES)
    if not model.least_variance > 0:
        raise UserError(f"config.model.least_variance={model.least_variance} must be positive")
    if batch_size is not None and batch_size < model.width:
        raise UserError(
            f"config.train.batch_size={batch_size} must be at least config.model.width="
            f"{model.width}: components begin at images of the first batch"
        )


def init(config: ConfigDict, key: Array) -> dict[str, Array]:
    """Components of variance 1 at random places."""
    width, size = config.model.width, readings.dims(config)
    params = {
        "log_weight": jnp.full(width, -math.log(width)),
        "mean": jax.random.normal(key, (width, size)),
        "variance": jnp.ones((width, size)),
    }
    if config.model.covariance == "full":
        params["axes"] = jnp.tile(jnp.eye(size), (width, 1, 1))  # columns are unit vectors
    return params


def begun(config: ConfigDict, params: Any, x_BxD: Array, key: Array) -> dict[str, Array]:
    """Components at different examples of the first batch, with its variances."""
    rows = jax.random.permutation(key, len(x_BxD))[: config.model.width]
    spread = jnp.maximum(x_BxD.var(0), config.model.least_variance)
    return params | {"mean": x_BxD[rows], "variance": params["variance"] * spread}


def log_probability(config: ConfigDict, params: Any, x_D: Array) -> Array:
    """log density of one example."""
    del config
    off_KxD = x_D - params["mean"]
    if "axes" in params:
        off_KxD = jnp.einsum("kd,kde->ke", off_KxD, params["axes"])
    square_K = jnp.einsum("kd,kd->k", jnp.square(off_KxD), 1 / params["variance"])
    normal_K = jnp.log(2 * math.pi * params["variance"]).sum(-1)
    return jax.nn.logsumexp(params["log_weight"] - 0.5 * (square_K + normal_K))


def empty(config: ConfigDict) -> dict[str, Array]:
    """Sums over no example."""
    width, size = config.model.width, readings.dims(config)
    second = (width, size) + (size,) * (config.model.covariance == "full")
    shapes = {"count": (width,), "first": (width, size), "second": second}
    return {name: jnp.zeros(shape) for name, shape in shapes.items()}


def statistics(config: ConfigDict, params: Any, x_BxD: Array) -> tuple[Array, dict[str, Array]]:
    """log p of all, and what each component has of their count, their sum and their products."""

    def of_one(log_weight: Array, x_D: Array) -> Array:
        return log_probability(config, params | {"log_weight": log_weight}, x_D)

    of_each = jax.vmap(jax.value_and_grad(of_one), (None, 0))
    log_p_B, share_BxK = of_each(params["log_weight"], x_BxD)
    if "axes" in params:
        weighed_BxKxD = share_BxK[:, :, None] * x_BxD[:, None]
        second = jnp.einsum("bkd,be->kde", weighed_BxKxD, x_BxD)
    else:
        second = share_BxK.T @ jnp.square(x_BxD)
    sums = {"count": share_BxK.sum(0), "first": share_BxK.T @ x_BxD, "second": second}
    return log_p_B.sum(), sums


def maximised(config: ConfigDict, sums: dict[str, Array]) -> dict[str, Array]:
    """Weights, means and covariances that are likeliest by the sums and by what came before."""
    before, count_K = config.model.pseudo_count, sums["count"]
    mean_KxD = sums["first"] / jnp.maximum(count_K, stepwise.LEAST)[:, None]
    total_Kx1 = jnp.maximum(count_K + before, stepwise.LEAST)[:, None]
    found = {"log_weight": stepwise.log_share(count_K + before), "mean": mean_KxD}
    if config.model.covariance == "full":
        unit = before * jnp.eye(mean_KxD.shape[1])
        outer = mean_KxD[:, :, None] * mean_KxD[:, None]
        off = sums["second"] - count_K[:, None, None] * outer + unit
        # One after another: a batch of them waits for ever on several devices of one processor.
        found["variance"], found["axes"] = jax.lax.map(jnp.linalg.eigh, off / total_Kx1[..., None])
    else:
        off = sums["second"] - count_K[:, None] * jnp.square(mean_KxD) + before
        found["variance"] = off / total_Kx1
    found["variance"] = jnp.maximum(found["variance"], config.model.least_variance)
    return found


def shares(params: Any) -> Array:
    """Weights of the components, [K]."""
    return jnp.exp(params["log_weight"])


def drawn(config: ConfigDict, params: Any, key: Array, num: int) -> Array:
    """Images of components drawn by their weights."""
    which_key, noise_key = jax.random.split(key)
    which = jax.random.categorical(which_key, params["log_weight"], shape=(num,))
    off = jax.random.normal(noise_key, (num, readings.dims(config)))
    off = off * jnp.sqrt(params["variance"][which])
    if "axes" in params:
        off = jnp.einsum("be,bde->bd", off, params["axes"][which])
    return readings.images(config, params["mean"][which] + off)
