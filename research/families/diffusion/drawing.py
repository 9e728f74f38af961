"""Images drawn from a diffusion model: its network as a sampler asks for it, and the walk."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from research.families.diffusion import bound, denoiser, samplers
from research.families.diffusion.process import along
from research.families.diffusion.samplers import Denoise, Denoised
from research.families.diffusion.step_schedules import STEP_SCHEDULES
from research.models import common
from research.models.conditions import Conditions


def denoise_of(config: Any, params: common.Params, label: Array | None) -> Denoise:
    """The network as a sampler calls it, given the classes `label` [batch] or none."""
    process = denoiser.make_process(config)

    def denoise(y: Array, gamma_B: Array, guess: Array) -> Denoised:
        x_t = y * along(process.scales(gamma_B)[0], y)
        output, _ = denoiser.apply(config, params, x_t, Conditions(gamma_B, label), guess)
        prediction, place = denoiser.predicted(config, output)
        x0 = process.to_x0(prediction, x_t, gamma_B)
        if config.model.discrete:
            x0 = jnp.clip(x0, -1, 1)  # the range pixels have (Ho 2020)
        return Denoised(x0) if place is None else Denoised(x0, place)

    return denoise


def start(config: Any, noise: Array) -> Array:
    """y where a walk begins, of standard normal noise: N(0, 1) at the variance-preserving scale."""
    last = denoiser.make_schedule(config).gammas[-1]
    return noise * jnp.exp(-0.5 * jax.nn.log_sigmoid(-jnp.float32(last)))


@functools.partial(jax.jit, static_argnames="config")
def draw(config: Any, params: common.Params, key: Array, label: Array) -> Array:
    """Samples for the given `label` [num] of a frozen config, uint8 where the data are."""
    noise_key, sample_key = jax.random.split(key)
    model, sampling = config.model, config.sampling
    noise = jax.random.normal(noise_key, (len(label), *model.image_shape))
    objective = denoiser.objective(model.objective)
    if hasattr(objective, "sample"):
        given = Conditions(None, label if model.num_classes else None)
        y = objective.sample(config, params, noise, sample_key, given, sampling.steps)
        return bound.nearest_levels(y) if model.discrete else y
    denoise = denoise_of(config, params, label if model.num_classes else None)
    path = denoiser.make_schedule(config)
    gammas = STEP_SCHEDULES[sampling.step_schedule](path, sampling.steps, sampling)
    y, _ = samplers.run(
        sampling.sampler, denoise, start(config, noise), gammas, sample_key, sampling
    )
    return bound.nearest_levels(y) if model.discrete else y
