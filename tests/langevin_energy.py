"""An energy family with an inner sampling chain: E(x) = (x - mean)^2 / (2 variance), x a number.

Trained by contrastive divergence: negatives come from a Langevin chain started at the data, which
for this energy is exact up to its step size, so the mean and variance of the data are recovered.
"""

import jax
import numpy as np
from jax import numpy as jnp
from ml_collections import ConfigDict


def default_model() -> ConfigDict:
    return ConfigDict(dict(chain=50, step_size=0.02))


def init(config, key):
    return {"mean": jnp.zeros(()), "log_variance": jnp.zeros(())}


def energy(params, x):
    return (x - params["mean"]) ** 2 / (2 * jnp.exp(params["log_variance"]))


def langevin(config, params, x, key):
    """Run `chain` steps of x - step dE/dx + sqrt(2 step) noise from x [batch]."""

    def move(x, key):
        size, noise = config.model.step_size, jax.random.normal(key, x.shape)
        return x - size * jax.grad(lambda x: energy(params, x).sum())(x) + (
            2 * size
        ) ** 0.5 * noise, 0

    return jax.lax.scan(move, x, jax.random.split(key, config.model.chain))[0]


def loss(config, params, batch, key, step):
    data = batch["image"][:, 0, 0, 0]
    negative = jax.lax.stop_gradient(langevin(config, params, data, key))
    return energy(params, data).mean() - energy(params, negative).mean(), {}


def score(config, params, batch, key):
    x, mask = batch["image"][:, 0, 0, 0], batch["mask"]
    nats = energy(params, x) + 0.5 * (params["log_variance"] + jnp.log(2 * jnp.pi))
    return {"likelihood": {"total": (nats * mask).sum() / jnp.log(2), "count": mask.sum()}}


def score_kinds(config):
    return {"likelihood": {"unit": "bits/dim", "kind": "exact", "better": "lower"}}


def sample(config, params, key, num):
    return np.asarray(langevin(config, params, jnp.zeros(num), key))[:, None, None, None]
