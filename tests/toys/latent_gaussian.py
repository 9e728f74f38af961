"""The simplest model of latents: a Gaussian of each number; images are encoded in the step.

Its bound of -log p(image) is that of latent diffusion: what the frozen autoencoder pays for an
image given its latent, and -log p(latent).
"""

import jax
import numpy as np
from jax import numpy as jnp
from ml_collections import ConfigDict

from research import latents

pins, check = latents.pins, latents.check


def default_model():
    return ConfigDict({"autoencoder": "", "autoencoder_sha256": ""})


def _frozen(config):
    return latents.settings(config.model.autoencoder, config.model.autoencoder_sha256)


def init(config, key):
    shape = latents.shape(_frozen(config))
    return {"mean": jax.random.normal(key, shape), "log_scale": jnp.zeros(shape)}


def reference(config, params):
    return latents.reference(config.model.autoencoder, config.model.autoencoder_sha256)


def _nats(params, latent):
    away = (latent - params["mean"]) * jnp.exp(-params["log_scale"])
    nats = 0.5 * (away**2 + np.log(2 * np.pi)) + params["log_scale"]
    return nats.sum((1, 2, 3))


def loss(config, params, batch, key, step, reference):
    return _nats(params, latents.encode(_frozen(config), reference, batch["image"], key)).mean(), {}


def score(config, params, batch, key):
    """The folder and its hash are of this program's shape, so what lies there may be a constant."""
    frozen = latents.load(config.model.autoencoder, config.model.autoencoder_sha256)
    latent, rest_B = latents.nats(*frozen, batch["image"], key)
    bits = (batch["mask"] * (_nats(params, latent) + rest_B)).sum() / np.log(2)
    return {"bound": {"total": bits, "count": batch["mask"].sum() * batch["image"][0].size}}


def score_kinds(config):
    return {"bound": {"unit": "bits/dim", "kind": "upper bound", "better": "lower"}}


def sample(config, params, key, num):
    frozen = latents.load(config.model.autoencoder, config.model.autoencoder_sha256)
    noise = jax.random.normal(key, (num, *params["mean"].shape))
    return np.asarray(
        latents.decode(*frozen, params["mean"] + noise * jnp.exp(params["log_scale"]))
    )
