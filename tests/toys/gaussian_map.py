"""A linear network for images of independent pixels N(0, variance), where every map is known.

Its output is a sum: the exact denoiser's, the exact flow map's, and a polynomial of both log-SNRs
that is learned, each times its own parameter.
"""

from typing import Any

import flax.linen as nn
import jax
from jax import numpy as jnp
from ml_collections.config_dict import placeholder

from research.families.diffusion.process import Process, along
from research.models.common import parameter


def default_model():
    return dict(width=placeholder(int), variance=0.25, degree=12)


def positions(config):
    return config.model.image_shape[0] * config.model.image_shape[1]


def build(model, hardware, channels):
    return GaussianMap(model)


def flow(variance, gamma, until):
    """By what factor the flow of N(0, variance) takes y from one log-SNR to another."""
    return jnp.sqrt((variance + jnp.exp(until)) / (variance + jnp.exp(gamma)))


def polynomials(place, degree):
    """Those of Chebyshev of a place in [0, 1], [..., degree + 1]."""
    angle = jnp.arccos(jnp.clip(2 * place - 1, -1 + 1e-6, 1 - 1e-6))[..., None]
    return jnp.cos(angle * jnp.arange(degree + 1))


class GaussianMap(nn.Module):
    model: Any

    @nn.compact
    def __call__(self, xt_BxHxWxC, given):
        model, zeros = self.model, nn.initializers.zeros
        process, gamma_B = Process(model.process, model.prediction), given.gamma_B
        until_B = jnp.full_like(gamma_B, model.gamma_min)
        until_B = until_B if given.until_B is None else given.until_B
        alpha = along(process.scales(gamma_B)[0], xt_BxHxWxC)
        y, s = xt_BxHxWxC / alpha, along(jnp.exp(0.5 * gamma_B), xt_BxHxWxC)

        def output(shrunk_B):
            x0 = along(shrunk_B, y) * y
            return process.target(x0, (y - x0) / s, gamma_B)

        denoiser_B = model.variance / (model.variance + jnp.exp(gamma_B))
        # The map is a step of DDIM with this share of y for x_0; of no length, the denoiser's.
        near_B = jnp.abs(gamma_B - until_B) < 1e-3
        ratio_B = jnp.exp(0.5 * jnp.where(near_B, -1.0, until_B - gamma_B))
        share_B = (flow(model.variance, gamma_B, until_B) - ratio_B) / (1 - ratio_B)
        exact = dict(denoiser=denoiser_B, map=jnp.where(near_B, denoiser_B, share_B))
        places = [
            polynomials((g_B - model.gamma_min) / (model.gamma_max - model.gamma_min), model.degree)
            for g_B in (gamma_B, until_B)
        ]
        table = parameter(self, "learned", zeros, (None, None), (model.degree + 1,) * 2)
        factor_B = jnp.einsum("bi,bj,ij->b", *places, table)
        found = along(factor_B, xt_BxHxWxC) * xt_BxHxWxC
        for name, shrunk_B in exact.items():
            found += parameter(self, name, zeros, (), ()) * output(shrunk_B)
        return found, {"seen": jax.lax.stop_gradient(jnp.mean(jnp.abs(factor_B)))}
