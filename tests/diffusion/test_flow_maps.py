"""Maps along the flow: consistency, MeanFlow, progressive distillation and reflow on a Gaussian.

Of N(0, c) the flow takes y at noise s to sqrt((c + r^2) / (c + s^2)) y at noise r.
"""

from typing import Any

import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

from research.families import diffusion
from research.families.diffusion import flow_map
from research.models.conditions import Conditions
from tests import shapes
from tests.toys import gaussian_map

C, LOW, HIGH = 0.25, -6.0, 4.0
EXACT = {"denoiser": dict(denoiser=1.0), "map": dict(map=1.0), "learned": {}}
FLOW = dict(process="flow", prediction="velocity")


def make_config(objective: str, **model) -> Any:
    found = shapes.diffusion(objective=objective, network="tests.toys.gaussian_map")
    found.model.update(dict(gamma_min=LOW, gamma_max=HIGH, prediction="v", variance=C) | model)
    return found


def make_params(config: Any, kind: str) -> Any:
    """Parameters of the exact denoiser, of the exact map, or of one that is to be learned."""
    zeros = diffusion.init(config, jax.random.key(0))
    return zeros | {name: jnp.float32(value) for name, value in EXACT[kind].items()}


def make_batch(rows: int = 32) -> dict[str, Any]:
    image = np.random.default_rng(0).normal(size=(rows, 8, 8, 1)) * C**0.5
    return {"image": jnp.asarray(image, jnp.float32)}


def value_and_grad(config: Any, step: int = 10**6):
    """The compiled loss and gradient of (params, reference, batch, key)."""

    def value(params, reference, batch, key):
        found = diffusion.loss(config, params, batch, key, jnp.int32(step), reference)
        return found[0], found[1]

    return jax.jit(jax.value_and_grad(value, has_aux=True))


OBJECTIVES = {
    "consistency": dict(teacher_solver="heun", last_intervals=640, huber=0.0),
    "mean_flow": dict(velocity_teacher=True, adaptive_power=0.0, **FLOW),
}


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_exact_map_is_a_fixed_point(objective):
    """Its loss and its gradient are zero to float32, and those of a map near by are not."""
    config = make_config(objective, **OBJECTIVES[objective])
    teacher, params = make_params(config, "denoiser"), make_params(config, "map")
    learn = value_and_grad(config)
    (value, _), gradient = learn(params, teacher, make_batch(), jax.random.key(1))
    other = params | {"learned": params["learned"].at[0, 0].set(0.1)}
    (worse, _), slope = learn(other, teacher, make_batch(), jax.random.key(1))
    assert float(value) < 1e-6 and float(value) < 1e-2 * float(worse)
    norm = float(optax.global_norm(gradient))
    assert norm < 1e-3 and norm < 1e-2 * float(optax.global_norm(slope))


def trained(config: Any, reference: Any, steps: int, rate: float, rows: int = 32) -> Any:
    """Parameters after `steps` of Adam, the rate falling to nothing, in one compiled loop."""
    optimizer = optax.adam(optax.cosine_decay_schedule(rate, steps), b2=0.99)
    params = make_params(config, "learned")
    batch = make_batch(rows)

    def body(carry, step):
        params, state = carry

        def value(table):
            key = jax.random.fold_in(jax.random.key(2), step)
            image = C**0.5 * jax.random.normal(key, batch["image"].shape)
            new = params | {"learned": table}
            return diffusion.loss(config, new, {"image": image}, key, step, reference)[0]

        gradient = jax.grad(value)(params["learned"])
        update, state = optimizer.update(gradient, state)
        return (params | {"learned": params["learned"] + update}, state), None

    start = (params, optimizer.init(params["learned"]))
    (params, _), _ = jax.jit(lambda: jax.lax.scan(body, start, jnp.arange(steps)))()
    return params


def error_of_map(config: Any, params: Any, gammas: Any, untils: Any) -> float:
    """The largest error of the factor of y, over pairs of log-SNRs."""
    y = jnp.ones((len(gammas), 1, 1, 1))
    given = Conditions(gammas, None, untils if config.model.objective == "mean_flow" else None)
    found, _ = flow_map.jump(config, params, y, given, untils)
    return float(jnp.abs(found[:, 0, 0, 0] - gaussian_map.flow(C, gammas, untils)).max())


def test_a_distilled_consistency_model_is_the_flow_map():
    config = make_config(
        "consistency", teacher_solver="heun", first_intervals=8, last_intervals=64,
        double_every=100, huber=0.0,
    )  # fmt: skip
    params = trained(config, make_params(config, "denoiser"), 800, 0.03)
    gammas = jnp.linspace(LOW, HIGH, 101)
    assert error_of_map(config, params, gammas, jnp.full(101, LOW)) < 1e-3


def test_mean_flow_from_data_alone_is_the_flow_map():
    config = make_config("mean_flow", adaptive_power=0.0, jumps=0.5, degree=8, **FLOW)
    params = trained(config, None, 600, 0.03, rows=256)
    gammas, untils = map(jnp.ravel, jnp.meshgrid(*[jnp.linspace(LOW, HIGH, 21)] * 2))
    later = gammas >= untils
    assert error_of_map(config, params, gammas[later], untils[later]) < 0.02
