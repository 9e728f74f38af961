"""Reflow: flow matching on the pairs of noise and image that a teacher's flow joins (Liu 2023).

A frozen teacher walks from noise to its image; the student learns the velocity of the straight line
between the two (eq. 1, on the coupling of section 2.2). Paths of its flow cross less, so that few
steps follow them. With a student as the next one's teacher the flow is rectified again. Pairs are
made as they are needed, so that the teacher's FLOPs are in the ledger.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from research.errors import UserError
from research.families.diffusion import denoiser, drawing, flow_map, teachers, weightings
from research.families.diffusion.objectives.denoising import examples
from research.families.diffusion.process import stratified_times
from research.models import common
from research.models.conditions import Conditions
from research.parts import check_choice


def default_model() -> dict[str, Any]:
    """Its keys of `config.model`."""
    own = dict(
        loss_weighting="velocity",
        teacher_solver="heun",
        teacher_steps=8,  # of the walk that makes a pair
        straight_steps=8,  # of the walk on which straightness is measured
    )
    return weightings.default_model() | own


def check(config: Any) -> None:
    """Raise UserError for steps that cannot be, or a teacher that does not fit."""
    model = config.model
    weightings.check(model)
    check_choice("model.teacher_solver", model.teacher_solver, flow_map.SOLVERS)
    for key in ("teacher_steps", "straight_steps"):
        if model[key] < 1:
            raise UserError(f"config.model.{key}={model[key]} must be at least 1")
    flow_map.check(config)
    teachers.check(config)


def reference(config: Any, params: common.Params) -> common.Params:
    """The frozen teacher's."""
    return teachers.parameters(config, params)


def pairs(config: Any, reference: Any, noise: Array, given: Conditions) -> tuple[Array, Array]:
    """x_0 and eps of the straight line through both ends of the teacher's path from `noise`."""
    model, y = config.model, drawing.start(config, noise)
    gammas = flow_map.even(config, model.teacher_steps)
    teacher = flow_map.denoise_of(config, reference, given)
    last, _ = flow_map.walk(model.teacher_solver, teacher, y, gammas)
    s, r = jnp.exp(0.5 * gammas[0]), jnp.exp(0.5 * gammas[-1])
    eps = (y - last) / (s - r)
    return last - r * eps, eps


def loss(
    config: Any,
    params: common.Params,
    batch: dict[str, Array],
    key: Array,
    step: Array,
    reference: Any,
) -> tuple[Array, dict[str, Array]]:
    """Training loss of one batch, of which only labels and shapes are used.

    The metric `mse` is the squared error of what the network predicts.
    """
    del step
    model, of = config.model, denoiser.make_process(config)
    time_key, noise_key, drop_key = jax.random.split(key, 3)
    known = denoiser.hide(config, drop_key, denoiser.known(config, batch, drop_key))
    gamma_B, slope_B = denoiser.make_schedule(config)(
        stratified_times(time_key, batch["image"].shape[:1])
    )
    given = known._replace(gamma_B=gamma_B)
    noise = jax.random.normal(noise_key, batch["image"].shape)
    x0, eps = pairs(config, reference, noise, given)
    output, measures = denoiser.apply(config, params, of.add_noise(x0, eps, gamma_B), given)
    error_B = jnp.mean((output - of.target(x0, eps, gamma_B)) ** 2, axis=(1, 2, 3))
    rows_B = examples(batch)
    weight_B = weightings.of_output(model, of, gamma_B, slope_B)
    value = jnp.average(weight_B * error_B, weights=rows_B) + measures.pop("penalty", 0.0)
    return value, {"mse": jnp.average(error_B, weights=rows_B), **measures}


def straightness(config: Any, params: common.Params, noise: Array, given: Conditions) -> Array:
    """How far the student's velocity is from that of the line between its ends, [B].

    It is the mean square over the path and over an image's numbers, in units of the data
    (Liu 2023, section 2.2: S), zero where one step of Euler is exact.
    """
    steps = config.model.straight_steps
    first, last = jax.nn.sigmoid(0.5 * denoiser.make_schedule(config).gammas[[-1, 0]])
    tau = jnp.linspace(first, last, steps + 1)
    gammas = 2 * (jnp.log(tau) - jnp.log1p(-tau))
    denoise = flow_map.denoise_of(config, params, given)
    end, before = flow_map.walk("ddim", denoise, drawing.start(config, noise), gammas)
    z = (1 - tau)[:, None, None, None, None] * jnp.concatenate([before, end[None]])
    velocities = (z[1:] - z[:-1]) / (tau[1:] - tau[:-1])[:, None, None, None, None]
    whole = (z[-1] - z[0]) / (tau[-1] - tau[0])
    return jnp.mean((velocities - whole) ** 2, axis=(0, 2, 3, 4))


def sample(
    config: Any, params: common.Params, noise: Array, key: Array, given: Conditions, steps: int
) -> Array:
    """The student's walk by DDIM, which is Euler's method on its straight paths."""
    del key
    denoise = flow_map.denoise_of(config, params, given)
    gammas = flow_map.even(config, steps)
    return flow_map.walk("ddim", denoise, drawing.start(config, noise), gammas)[0]


def more_kinds() -> dict[str, dict[str, str]]:
    """What is scored beside the images."""
    return {"straightness": {"unit": "squared velocity", "kind": "estimate", "better": "lower"}}


def scores(config: Any, params: common.Params, noise: Array, given: Conditions) -> dict[str, Array]:
    """Straightness of the flow from each noise, [B]."""
    return {"straightness": straightness(config, params, noise, given)}
