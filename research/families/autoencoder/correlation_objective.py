"""The bound with another weight on the total correlation of the latent (Chen et al. 2018, beta-TC).

    KL(q(z|x) || p(z)) = I(x; z) + TC(z) + sum_j KL(q(z_j) || p(z_j)),  averaged over x

where q(z) is the mixture of the posteriors (equation 2). Both densities of mixtures are those of
the batch's own posteriors at its samples: the paper's minibatch-weighted sampling (equation S3) but
for log of the number of images, which is a constant. Of the three parts the middle one is charged
`tc_weight` times, so that numbers of the latent become independent.
"""

import math
from typing import Any, NamedTuple

import jax
from jax import Array
from jax import numpy as jnp
from ml_collections import ConfigDict

from research.errors import UserError
from research.families.autoencoder import bound_objective, coding
from research.families.autoencoder.coded import Coded


class Parts(NamedTuple):
    """What the divergence is made of, each of the sample of an image, nats [B]."""

    information_B: Array
    total_correlation_B: Array
    dimensions_B: Array


def default_model() -> dict[str, Any]:
    """Its key of `config.model`, and those of the bound."""
    return bound_objective.default_model() | dict(tc_weight=4.0)


def check(config: ConfigDict) -> None:
    """Raise UserError for a weight below 0, or a posterior that is not of independent numbers."""
    bound_objective.check(config)
    model = config.model
    if not 0 <= model.tc_weight < math.inf:
        raise UserError(f"config.model.tc_weight={model.tc_weight} must be at least 0")
    if not hasattr(coding.bottleneck(config), "posterior"):
        raise UserError(
            "config.model.objective='total_correlation' needs a posterior of independent numbers; "
            f"config.model.bottleneck={model.bottleneck!r} has none, 'kl' has"
        )
    rows = config.train.batch_size // config.hardware.accumulation
    if rows < 2:
        raise UserError(
            f"config.train.batch_size={config.train.batch_size} over accumulation="
            f"{config.hardware.accumulation} leaves {rows} image at once, and config.model."
            "objective='total_correlation' compares them; nearest valid: 2"
        )


def parts(coded: Coded) -> Parts:
    """The divergence of a batch of samples, cut into its three parts."""
    mean, log_variance = (each.reshape(len(each), -1) for each in coded.posterior)
    z_BxD = coded.latent_BxHxWxC.reshape(len(mean), -1)

    def log_normal(z: Array, mean: Any, log_variance: Any) -> Array:
        square = jnp.square(z - mean) * jnp.exp(-log_variance)
        return -0.5 * (square + log_variance + math.log(2 * math.pi))

    among_BxBxD = log_normal(z_BxD[:, None], mean[None], log_variance[None])
    count = math.log(len(mean))
    own_B = log_normal(z_BxD, mean, log_variance).sum(1)
    joint_B = jax.nn.logsumexp(among_BxBxD.sum(2), 1) - count
    product_B = (jax.nn.logsumexp(among_BxBxD, 1) - count).sum(1)
    prior_B = log_normal(z_BxD, 0.0, jnp.zeros(())).sum(1)
    return Parts(own_B - joint_B, joint_B - product_B, product_B - prior_B)


def value(
    config: ConfigDict, params: Any, batch: dict, key: Array, step: Array
) -> tuple[Array, Coded, dict[str, Array]]:
    """The objective in nats of an image; what the bottleneck made of the batch, and its errors."""
    nats, coded, judged = bound_objective.value(config, params, batch, key, step)
    more = (config.model.tc_weight - 1) * parts(coded).total_correlation_B.mean()
    return nats + more, coded, judged
