"""Progressive distillation: one step of the student is two of its teacher (Salimans & Ho 2022).

The student is a denoiser that is only asked at its own `student_steps` levels of noise. Its target
is the x_0 with which one step of DDIM lands where two of the frozen teacher's do (algorithm 2). A
student is the next one's teacher, of half as many steps: config.init_from.run and .reference are
then the same run.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from research.errors import UserError
from research.families.diffusion import denoiser, drawing, flow_map, teachers, weightings
from research.families.diffusion.objectives.denoising import examples
from research.families.diffusion.process import along, stratified_times
from research.models import common
from research.models.conditions import Conditions


def default_model() -> dict[str, Any]:
    """Its keys of `config.model`."""
    own = dict(loss_weighting="truncated_snr", student_steps=4)
    return weightings.default_model() | own


def check(config: Any) -> None:
    """Raise UserError for steps that cannot be, or a teacher that does not fit."""
    steps = config.model.student_steps
    weightings.check(config.model)
    if steps < 1:
        raise UserError(f"config.model.student_steps={steps} must be at least 1")
    flow_map.check(config)
    theirs = teachers.check(config)
    if theirs.get("schedule", config.model.schedule) != config.model.schedule:
        raise UserError(
            f"config.model.schedule={config.model.schedule!r} must be {theirs['schedule']!r}, as "
            "its teacher steps by it"
        )
    if theirs.get("student_steps", 2 * steps) != 2 * steps:
        raise UserError(
            f"config.model.student_steps={steps} must be half of the {theirs['student_steps']} "
            f"steps of its teacher {config.init_from.reference}"
        )


def calls(config: Any) -> int:
    """Calls of the network for an image."""
    return config.model.student_steps


def reference(config: Any, params: common.Params) -> common.Params:
    """The frozen teacher's."""
    return teachers.parameters(config, params)


def loss(
    config: Any,
    params: common.Params,
    batch: dict[str, Array],
    key: Array,
    step: Array,
    reference: Any,
) -> tuple[Array, dict[str, Array]]:
    """Training loss of one batch; the metric `mse` is the error of what the network predicts."""
    del step
    model, of = config.model, denoiser.make_process(config)
    x0 = denoiser.pixels(config, batch["image"])
    time_key, noise_key, drop_key = jax.random.split(key, 3)
    known = denoiser.hide(config, drop_key, denoiser.known(config, batch, drop_key))
    path, steps = denoiser.make_schedule(config), model.student_steps
    index_B = jnp.floor(stratified_times(time_key, x0.shape[:1]) * steps) + 1
    gamma_B, slope_B = path(index_B / steps)
    given = known._replace(gamma_B=gamma_B)
    y = flow_map.add_noise(x0, jax.random.normal(noise_key, x0.shape), gamma_B)
    found_x0, found_eps = target(config, reference, y, given, index_B)
    x_t = y * along(of.scales(gamma_B)[0], y)
    output, measures = denoiser.apply(config, params, x_t, given)
    wanted = of.target(found_x0, found_eps, gamma_B)
    error_B = jnp.mean((output - wanted) ** 2, axis=(1, 2, 3))
    rows_B = examples(batch)
    weight_B = weightings.of_output(model, of, gamma_B, slope_B)
    value = jnp.average(weight_B * error_B, weights=rows_B) + measures.pop("penalty", 0.0)
    return value, {"mse": jnp.average(error_B, weights=rows_B), **measures}


def target(
    config: Any, reference: Any, y: Array, given: Conditions, index_B: Array
) -> tuple[Array, Array]:
    """x_0 and eps of y with which a step of the student's is two of the teacher's, [B, H, W, C].

    Args:
        index_B: which of its levels y is at, 1 ... student_steps.
    """
    path, steps = denoiser.make_schedule(config), config.model.student_steps
    (half_B, _), (to_B, _) = path((index_B - 0.5) / steps), path((index_B - 1) / steps)
    teacher = flow_map.denoise_of(config, reference, given)
    middle = flow_map.step("ddim", teacher, y, given.gamma_B, half_B)
    last = flow_map.step("ddim", teacher, middle, half_B, to_B)
    change_B = 0.5 * (to_B - given.gamma_B)
    x0 = (along(jnp.exp(change_B), y) * y - last) / along(jnp.expm1(change_B), y)
    return x0, (y - x0) * along(jnp.exp(-0.5 * given.gamma_B), y)


def network_calls(config: Any) -> int:
    """Of drawing an image."""
    return min(config.sampling.steps, config.model.student_steps)


def sample(
    config: Any, params: common.Params, noise: Array, key: Array, given: Conditions, steps: int
) -> Array:
    """The student's walk by DDIM, in no more steps than it has."""
    del key
    gammas = flow_map.even(config, min(steps, config.model.student_steps))
    denoise = flow_map.denoise_of(config, params, given)
    return flow_map.walk("ddim", denoise, drawing.start(config, noise), gammas)[0]
