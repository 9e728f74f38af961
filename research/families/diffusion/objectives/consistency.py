"""Consistency models: every point of a path of the flow is mapped to its end (Song 2023).

The map is one step of DDIM to gamma_min with what the network predicts, which is the identity there
(the boundary condition, eq. 5: c_skip = exp((gamma_min - gamma) / 2), c_out = 1 - c_skip, of x_0).
Two neighbours on a path are to have one image: the one with less noise is the other's teacher, at
the same parameters, through which no gradient passes. They share the image and the noise (training
from scratch, theorem 2), or the second is a step of `teacher_solver` with a frozen teacher
(distillation, algorithm 2). As improved by Song & Dhariwal (2024): no average as the teacher, the
pseudo-Huber distance, weights 1 / (s - r), and steps that get finer by doubling.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from research.errors import UserError
from research.families.diffusion import denoiser, drawing, flow_map, teachers
from research.families.diffusion.objectives.denoising import examples
from research.families.diffusion.process import stratified_times
from research.models import common
from research.models.conditions import Conditions
from research.parts import check_choice


def default_model() -> dict[str, Any]:
    """Its keys of `config.model`."""
    return dict(
        teacher_solver="none",  # of a frozen teacher: "ddim" or "heun"
        first_intervals=10,  # of the schedule's time, at the first step
        last_intervals=1280,
        double_every=500,  # steps, after which the intervals are halved
        huber=0.00054,  # times sqrt(dimensions); 0 is the squared error
    )


def check(config: Any) -> None:
    """Raise UserError for intervals that cannot be, or a teacher that does not fit."""
    model = config.model
    check_choice("model.teacher_solver", model.teacher_solver, ("none", *flow_map.SOLVERS))
    if not 1 <= model.first_intervals <= model.last_intervals:
        raise UserError(
            f"config.model.first_intervals={model.first_intervals} must be from 1 to "
            f"last_intervals={model.last_intervals}"
        )
    for key, least in (("double_every", 1), ("huber", 0)):
        if model[key] < least:
            raise UserError(f"config.model.{key}={model[key]} must be at least {least}")
    flow_map.check(config)
    teachers.check(config, model.teacher_solver != "none")


def reference(config: Any, params: common.Params) -> common.Params | None:
    """The frozen teacher's, for distillation."""
    return None if config.model.teacher_solver == "none" else teachers.parameters(config, params)


def intervals(model: Any, step: Array) -> Array:
    """Into how many the schedule's time is cut (Song & Dhariwal 2024, section 3.4)."""
    most = np.log2(model.last_intervals / model.first_intervals)
    doublings = jnp.minimum(step // model.double_every, np.ceil(most))
    return jnp.minimum(model.first_intervals * 2.0**doublings, model.last_intervals)


def end(
    config: Any, params: common.Params, y: Array, given: Conditions
) -> tuple[Array, dict[str, Array]]:
    """Where the path through y ends, at gamma_min, as the network has it."""
    to_B = jnp.full_like(given.gamma_B, denoiser.make_schedule(config).gammas[0])
    return flow_map.jump(config, params, y, given, to_B)


def loss(
    config: Any,
    params: common.Params,
    batch: dict[str, Array],
    key: Array,
    step: Array,
    reference: Any = None,
) -> tuple[Array, dict[str, Array]]:
    """Training loss of one batch; the metric `gap` is the distance of the two ends, in pixels."""
    model, x0 = config.model, denoiser.pixels(config, batch["image"])
    time_key, noise_key, drop_key = jax.random.split(key, 3)
    known = denoiser.hide(config, drop_key, denoiser.known(config, batch, drop_key))
    gamma_B, before_B = _neighbours(config, time_key, intervals(model, step), len(x0))
    eps = jax.random.normal(noise_key, x0.shape)
    given = known._replace(gamma_B=gamma_B)
    y = flow_map.add_noise(x0, eps, gamma_B)
    if reference is None:
        nearer = flow_map.add_noise(x0, eps, before_B)
    else:
        teacher = flow_map.denoise_of(config, reference, given)
        nearer = flow_map.step(model.teacher_solver, teacher, y, gamma_B, before_B)
    found, measures = end(config, params, y, given)
    wanted, _ = end(config, params, nearer, given._replace(gamma_B=before_B))
    square_B = jnp.sum((found - jax.lax.stop_gradient(wanted)) ** 2, axis=(1, 2, 3))
    distance_B, dims = square_B / x0[0].size, x0[0].size
    if model.huber:
        floor = model.huber * dims**0.5
        distance_B = jnp.sqrt(square_B + floor**2) - floor
    weight_B = 1 / (jnp.exp(0.5 * gamma_B) - jnp.exp(0.5 * before_B))
    rows_B = examples(batch)
    value = jnp.average(weight_B * distance_B, weights=rows_B) + measures.pop("penalty", 0.0)
    gap = jnp.sqrt(jnp.average(square_B / dims, weights=rows_B))
    return value, {"gap": gap, "intervals": intervals(model, step), **measures}


def _neighbours(config: Any, key: Array, intervals: Array, batch: int) -> tuple[Array, Array]:
    """-log SNR of both ends of an interval of the schedule's time, each [batch]."""
    path = denoiser.make_schedule(config)
    index_B = jnp.floor(stratified_times(key, (batch,)) * intervals)
    return path((index_B + 1) / intervals)[0], path(index_B / intervals)[0]


def sample(
    config: Any, params: common.Params, noise: Array, key: Array, given: Conditions, steps: int
) -> Array:
    """The end of the path of noise; each further step adds less noise and finds the end again.

    It is algorithm 1 of Song (2023); y at gamma_min, whose noise the map leaves in it.
    """
    gammas, low = flow_map.even(config, steps), denoiser.make_schedule(config).gammas[0]

    def body(y: Array, now: tuple[Array, Array, Array]) -> tuple[Array, None]:
        gamma, then, key = now
        found, _ = end(config, params, y, given._replace(gamma_B=jnp.full(len(y), gamma)))
        spread = jnp.sqrt(jnp.maximum(jnp.exp(then) - np.exp(low), 0))
        return found + spread * jax.random.normal(key, y.shape), None

    levels = (gammas[:-1], gammas[1:], jax.random.split(key, steps))
    return jax.lax.scan(body, drawing.start(config, noise), levels)[0]
