"""Denoising: the weighted squared error of what the network predicts (Ho 2020; Kingma & Gao 2023).

One time an image, low-discrepancy over the batch. With `learned_variance` the network also says
where between its bounds the variance of a step back lies, which the variational bound of a process
in `variance_steps` steps teaches it, weighing `variance_weight` (Nichol 2021, section 3.1).
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from research.errors import UserError
from research.families.diffusion import bound, denoiser, process, weightings
from research.models import common
from research.models.conditions import Conditions


def default_model() -> dict[str, Any]:
    """Its keys of `config.model`."""
    return weightings.default_model() | dict(variance_steps=1000, variance_weight=0.001)


def check(config: Any) -> None:
    """Raise UserError for constants of a weighting or of a learned variance that mean nothing."""
    model = config.model
    weightings.check(model)
    if model.variance_steps < 2 or model.variance_weight < 0:
        raise UserError(
            f"config.model.variance_steps={model.variance_steps} must be at least 2, and "
            f"variance_weight={model.variance_weight} not negative"
        )


def loss(
    config: Any,
    params: common.Params,
    batch: dict[str, Array],
    key: Array,
    step: Array,
    reference: Any = None,
) -> tuple[Array, dict[str, Array]]:
    """Training loss of one batch and its metrics.

    The metric `mse` is the squared error of what the network predicts, `bound` the variational
    bound in bits a dimension, from the same times and noise whatever the weighting.
    """
    del step, reference
    model, image = config.model, batch["image"]
    x0, path, of = (
        denoiser.pixels(config, image),
        denoiser.make_schedule(config),
        denoiser.make_process(config),
    )
    time_key, noise_key, drop_key, guess_key = jax.random.split(key, 4)
    known = denoiser.known(config, batch, jax.random.fold_in(key, 1))
    known = denoiser.hide(config, drop_key, known)
    times_B = process.stratified_times(time_key, x0.shape[:1])
    gamma_B, slope_B = path(times_B)
    eps = jax.random.normal(noise_key, x0.shape)
    x_t, given = of.add_noise(x0, eps, gamma_B), known._replace(gamma_B=gamma_B)
    guess = _own_guess(config, params, guess_key, x_t, given)
    output, measures = denoiser.apply(config, params, x_t, given, guess)
    prediction, place = denoiser.predicted(config, output)
    error_B = jnp.mean((prediction - of.target(x0, eps, gamma_B)) ** 2, axis=(1, 2, 3))

    mean = functools.partial(jnp.average, weights=examples(batch))
    fixed_B = bound.reconstruction(image, model.gamma_min, model.levels)
    fixed_B += bound.prior(x0, model.gamma_max)
    bits_B = 0.5 * slope_B * of.eps_error_weight(gamma_B) * error_B + fixed_B / x0[0].size
    bits_B /= np.log(2)
    value = mean(weightings.of_output(model, of, gamma_B, slope_B) * error_B)
    if place is not None:
        before_B, _ = path(jnp.maximum(times_B - 1 / model.variance_steps, 0.0))
        x0_guess = of.to_x0(prediction, x_t, gamma_B)
        nats_B = bound.step_divergence(gamma_B, before_B, x0, x0_guess, place)
        measures["bound_in_steps"] = model.variance_steps * mean(nats_B) / np.log(2)
        value += model.variance_weight * measures["bound_in_steps"]
    value += measures.pop("penalty", 0.0)
    return value, {"mse": mean(error_B), "bound": mean(bits_B), **measures}


def examples(batch: dict[str, Array]) -> Array:
    """Weight of each row, [batch]: 1 for an example, 0 for padding."""
    return batch.get("mask", jnp.ones(batch["image"].shape[0]))


def _own_guess(
    config: Any, params: common.Params, key: Array, x_t: Array, given: Conditions
) -> Array | None:
    """What a self-conditioned network is told of x_0: its own guess in half of the cases, else
    nothing; no gradient passes through it (Chen 2022, algorithm 1).
    """
    if not config.model.self_conditioning:
        return None
    guess = jax.lax.stop_gradient(denoiser.predict_x0(config, params, x_t, given))
    told_B = jax.random.bernoulli(key, 0.5, x_t.shape[:1])
    return guess * process.along(told_B, guess)
