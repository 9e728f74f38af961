"""MeanFlow: the average velocity from one time to another, for jumps of any length (Geng 2025).

On the straight path z = (1 - t) x_0 + t eps the average velocity u(z, r, t) of the flow from t to r
obeys u = v - (t - r) du/dt along the flow (eq. 6), where v is eps - x_0 or a frozen teacher's. The
right side, with the network's own derivative by forward mode, is the target; no gradient passes
through it. Then z - (t - r) u is where the flow is at r, a step of DDIM.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from research.errors import UserError
from research.families.diffusion import denoiser, drawing, flow_map, teachers
from research.families.diffusion.objectives.denoising import examples
from research.families.diffusion.process import along, stratified_times
from research.models import common, numerics
from research.models.conditions import Conditions

TWO_TIMES = True


def default_model() -> dict[str, Any]:
    """Its keys of `config.model`."""
    return dict(
        velocity_teacher=False,  # whether v is that of config.init_from.reference
        jumps=0.25,  # share of images with two times; the others learn v itself
        adaptive_power=1.0,  # of the weight 1 / (error + 0.001)^power; 0 is the squared error
    )


def check(config: Any) -> None:
    """Raise UserError for another path or prediction, or a teacher that does not fit."""
    model = config.model
    for key, only in (("process", "flow"), ("prediction", "velocity")):
        if model[key] != only:
            raise UserError(
                f"config.model.{key}={model[key]!r} must be {only!r}: objective 'mean_flow' is of "
                "velocities on straight paths"
            )
    if not 0 < model.jumps <= 1:
        raise UserError(f"config.model.jumps={model.jumps} must be above 0 and at most 1")
    if not 0 <= model.adaptive_power <= 1:
        raise UserError(f"config.model.adaptive_power={model.adaptive_power} must be from 0 to 1")
    flow_map.check(config)
    if "until" not in getattr(denoiser.part(config), "READS", ()):
        raise UserError(
            f"config.model.network={model.network!r} is given no second time, which objective "
            "'mean_flow' needs: use dit, mmdit or unet"
        )
    check_network(config)
    teachers.check(config, model.velocity_teacher)


def check_network(config: Any) -> None:
    """Raise UserError for parts of a stack that have no forward-mode derivative."""
    for key, only in (("mixer", "attention"), ("channel", "mlp")):
        if config.model.get(key, only) != only:
            raise UserError(
                f"config.model.{key}={config.model[key]!r} must be {only!r}: objective "
                f"{config.model.objective!r} differentiates the network forwards"
            )


def check_hardware(config: Any, machine: Any) -> None:
    """Raise UserError for a kernel of attention that has no forward-mode derivative."""
    del machine
    if config.hardware.attention != "dense":
        raise UserError(
            f"config.hardware.attention={config.hardware.attention!r} must be 'dense': objective "
            f"{config.model.objective!r} differentiates the network forwards"
        )


def reference(config: Any, params: common.Params) -> common.Params | None:
    """The frozen teacher's, where it gives the velocity."""
    return teachers.parameters(config, params) if config.model.velocity_teacher else None


def loss(
    config: Any,
    params: common.Params,
    batch: dict[str, Array],
    key: Array,
    step: Array,
    reference: Any = None,
) -> tuple[Array, dict[str, Array]]:
    """Training loss of one batch; the metric `error` is the squared error of its identity."""
    del step
    model, x0 = config.model, denoiser.pixels(config, batch["image"])
    time_key, noise_key, drop_key = jax.random.split(key, 3)
    known = denoiser.hide(config, drop_key, denoiser.known(config, batch, drop_key))
    gamma_B, until_B = _two_times(config, time_key, len(x0))
    eps = jax.random.normal(noise_key, x0.shape)
    z = denoiser.make_process(config).add_noise(x0, eps, gamma_B)
    v = eps - x0
    if reference is not None:
        v, _ = denoiser.apply(config, reference, z, known._replace(gamma_B=gamma_B))
    t_B, r_B = jax.nn.sigmoid(0.5 * gamma_B), jax.nn.sigmoid(0.5 * until_B)

    def average(z: Array, gamma_B: Array) -> tuple[Array, dict[str, Array]]:
        with numerics.forwards():
            given = known._replace(gamma_B=gamma_B, until_B=until_B)
            return denoiser.apply(config, params, z, given)

    moves = (v, 2 / (t_B * (1 - t_B)))  # dz / dt and d gamma / dt along the flow
    u, change, measures = jax.jvp(average, (z, gamma_B), moves, has_aux=True)
    target = jax.lax.stop_gradient(v - along(t_B - r_B, z) * change)
    error_B = jnp.mean((u - target) ** 2, axis=(1, 2, 3))
    weight_B = jax.lax.stop_gradient(error_B + 1e-3) ** -model.adaptive_power
    rows_B = examples(batch)
    value = jnp.average(weight_B * error_B, weights=rows_B) + measures.pop("penalty", 0.0)
    return value, {"error": jnp.average(error_B, weights=rows_B), **measures}


def _two_times(config: Any, key: Array, batch: int) -> tuple[Array, Array]:
    """-log SNR from where and until where, each [batch]; the same for those that do not jump."""
    first_key, second_key, order_key, chosen_key = jax.random.split(key, 4)
    path = denoiser.make_schedule(config)
    a_B, b_B = (path(stratified_times(k, (batch,)))[0] for k in (first_key, second_key))
    b_B = jax.random.permutation(order_key, b_B)
    gamma_B, until_B = jnp.maximum(a_B, b_B), jnp.minimum(a_B, b_B)
    jumps_B = jax.random.bernoulli(chosen_key, config.model.jumps, (batch,))
    # One that stays is drawn as the schedule has it, not as the later of two times.
    return jnp.where(jumps_B, gamma_B, a_B), jnp.where(jumps_B, until_B, a_B)


def sample(
    config: Any, params: common.Params, noise: Array, key: Array, given: Conditions, steps: int
) -> Array:
    """Jumps of even length in the schedule's time from noise to gamma_min; no noise is added."""
    del key
    gammas = flow_map.even(config, steps)

    def body(y: Array, ends: tuple[Array, Array]) -> tuple[Array, None]:
        gamma_B, until_B = (jnp.full(len(y), each) for each in ends)
        here = given._replace(gamma_B=gamma_B, until_B=until_B)
        return flow_map.jump(config, params, y, here, until_B)[0], None

    return jax.lax.scan(body, drawing.start(config, noise), (gammas[:-1], gammas[1:]))[0]
