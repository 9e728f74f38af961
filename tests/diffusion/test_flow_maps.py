"""Maps along the flow: consistency, MeanFlow, progressive distillation and reflow on a Gaussian.

Of N(0, c) the flow takes y at noise s to sqrt((c + r^2) / (c + s^2)) y at noise r.
"""

import functools
from typing import Any

import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

from research.families import diffusion
from research.families.diffusion import flow_map
from research.families.diffusion.objectives import consistency
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


def loss(config: Any, params: Any, batch: Any, key: Any, reference: Any = None) -> Any:
    """The loss at step 0 and its metrics, compiled: op by op it takes many times as long."""
    called = functools.partial(diffusion.loss, config)
    return jax.jit(called)(params, batch, key, jnp.int32(0), reference)


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


def trained(config: Any, reference: Any, names: tuple[str, ...], steps: int = 2000) -> Any:
    """Parameters, of which those in `names` begin at zero and have learned by Adam for `steps`."""
    optimizer = optax.adam(optax.cosine_decay_schedule(0.02, steps), b2=0.99)
    params = make_params(config, "learned")
    shape = make_batch()["image"].shape

    def body(carry, step):
        own, state = carry
        key = jax.random.fold_in(jax.random.key(2), step)
        batch = {"image": C**0.5 * jax.random.normal(key, shape)}

        def value(own):
            return diffusion.loss(config, params | own, batch, key, step, reference)[0]

        update, state = optimizer.update(jax.grad(value)(own), state)
        return (optax.apply_updates(own, update), state), None

    own = {name: params[name] for name in names}
    start = (own, optimizer.init(own))
    (own, _), _ = jax.jit(lambda: jax.lax.scan(body, start, jnp.arange(steps)))()
    return params | own


def error_of_map(config: Any, params: Any, pairs: int = 21) -> float:
    """The largest error of the factor of y, over pairs of log-SNRs that the map is of."""
    ends = jnp.linspace(config.model.gamma_min, config.model.gamma_max, pairs)
    gammas, untils = map(jnp.ravel, jnp.meshgrid(ends, ends))
    of_two = config.model.objective == "mean_flow"
    used = gammas >= untils if of_two else untils == ends[0]
    gammas, untils = gammas[used], untils[used]
    y, given = (
        jnp.ones((len(gammas), 1, 1, 1)),
        Conditions(gammas, None, untils if of_two else None),
    )
    jump = jax.jit(functools.partial(flow_map.jump, config))
    found, _ = jump(params, y, given, untils)
    return float(jnp.abs(found[:, 0, 0, 0] - gaussian_map.flow(C, gammas, untils)).max())


SMOOTH = dict(gamma_min=-3.0, gamma_max=1.0, degree=5)


@pytest.mark.slow
def test_a_distilled_consistency_model_is_the_flow_map():
    """Intervals are 16 at last, with which Heun's teacher errs by half of what is asked."""
    config = make_config(
        "consistency", teacher_solver="heun", first_intervals=4, last_intervals=16,
        double_every=150, huber=0.0, **SMOOTH,
    )  # fmt: skip
    params = trained(config, make_params(config, "denoiser"), ("learned",))
    assert error_of_map(config, params) < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("velocity_teacher, most", [(True, 1e-3), (False, 3e-3)])
def test_mean_flow_learns_the_flow_map(velocity_teacher, most):
    """Of any two ends, by a network that can say it and begins elsewhere.

    Without a teacher the velocity has the noise of the image and of eps in it.
    """
    config = make_config(
        "mean_flow", velocity_teacher=velocity_teacher, adaptive_power=0.0, jumps=0.75,
        **FLOW, **SMOOTH | dict(degree=0),
    )  # fmt: skip
    teacher = make_params(config, "denoiser") if velocity_teacher else None
    params = trained(config, teacher, ("map", "denoiser", "learned"))
    assert error_of_map(config, params) < most


def test_training_from_data_alone_has_the_gradient_of_a_teacher():
    """In expectation, where the teacher is exact and steps by DDIM (Song 2023, theorem 2)."""
    batch, key, found = make_batch(512), jax.random.key(3), {}
    for solver in ("ddim", "none"):
        config = make_config("consistency", teacher_solver=solver, last_intervals=20, huber=0.0)
        params = make_params(config, "map")
        teacher = make_params(config, "denoiser") if solver == "ddim" else None
        params["learned"] = params["learned"].at[0, 0].set(0.3)
        (_, _), gradient = value_and_grad(config)(params, teacher, batch, key)
        found[solver] = gradient["learned"][:4, 0]
    np.testing.assert_allclose(found["none"], found["ddim"], rtol=0.05)


def test_intervals_double():
    """10, 20, ..., 1280 as Song & Dhariwal (2024) have them, every 500 steps."""
    model = make_config("consistency").model
    found = [float(consistency.intervals(model, jnp.int32(t))) for t in (0, 499, 500, 3500, 10**6)]
    assert found == [10, 10, 20, 1280, 1280]
    model.last_intervals = 1000
    assert float(consistency.intervals(model, jnp.int32(10**6))) == 1000


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_samples_of_the_exact_map_are_the_data(objective, steps):
    """N(0, c + s^2) at gamma_min, by one jump or by several, with fresh noise or none."""
    config = make_config(objective, **OBJECTIVES[objective])
    config.sampling.steps = steps
    params = make_params(config, "map")
    images = diffusion.sample(config, params, jax.random.key(0), 400)
    begun = gaussian_map.flow(C, HIGH, LOW) ** 2 * (1 + np.exp(HIGH))  # N(0, 1) where it starts
    fresh = objective == "consistency" and steps > 1
    assert images.var() == pytest.approx(C + np.exp(LOW) if fresh else float(begun), rel=0.03)


def test_what_a_map_is_scored_by():
    config = make_config("consistency", **OBJECTIVES["consistency"])
    batch = make_batch(64) | {"mask": jnp.ones(64)}
    score = jax.jit(lambda params: diffusion.score(config, params, batch, jax.random.key(0)))
    near, far = (
        float(found["energy"]["total"] / found["energy"]["count"])
        for found in (score(make_params(config, kind)) for kind in ("map", "learned"))
    )
    assert abs(near) < 0.02 < far
    kinds = diffusion.score_kinds(config)
    assert kinds["energy"]["kind"] == "estimate" and "bound" not in kinds
