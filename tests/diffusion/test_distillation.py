"""Students of a frozen teacher: progressive, reflow, distribution matching; what does not fit."""

import functools
from typing import Any

import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

from research import config as configs
from research import data, families, trained
from research.errors import UserError
from research.families import diffusion
from research.families.diffusion import denoiser, drawing, energy_distance, flow_map
from research.families.diffusion.objectives import (
    distribution_matching,
    mean_flow,
    progressive,
    reflow,
)
from research.families.diffusion.process import Process, along
from research.models.conditions import Conditions
from research.run import checkpoint, record
from research.train import train
from tests import shapes
from tests.diffusion.test_flow_maps import (
    HIGH,
    LOW,
    SMOOTH,
    C,
    loss,
    make_batch,
    make_config,
    make_params,
)
from tests.toys import gaussian_map

NOWHERE = Conditions(None)


def compiled(function: Any, config: Any) -> Any:
    return jax.jit(functools.partial(function, config))


def fitted(config: Any, share: Any, gammas: Any) -> Any:
    """Parameters of a network whose x_0 is `share` of y, a function of gamma: least squares."""
    process = Process(config.model.process, config.model.prediction)
    alpha, s, part = process.scales(gammas)[0], jnp.exp(0.5 * gammas), share(gammas)
    wanted = process.target(part / alpha, (1 - part) / alpha / s, gammas)  # of x_t = 1
    places = (gammas - LOW) / (HIGH - LOW)
    features = np.asarray(gaussian_map.polynomials(places, config.model.degree), np.float64)
    column = np.linalg.lstsq(features, np.asarray(wanted, np.float64), rcond=None)[0]
    params = make_params(config, "learned")
    return params | {"learned": params["learned"].at[:, 0].set(jnp.asarray(column, jnp.float32))}


def euler(gamma: Any, to: Any) -> Any:
    """The factor of y in one step of DDIM with the exact denoiser."""
    ratio = np.exp(0.5 * (to - gamma))
    return ratio + (1 - ratio) * C / (C + np.exp(gamma))


def test_a_step_of_a_progressive_student_is_two_of_its_teacher():
    config = make_config("progressive")
    teacher, gammas = make_params(config, "denoiser"), np.linspace(HIGH, LOW, 9)
    index_B = jnp.array([4, 3, 2, 1])
    y, given = jnp.ones((4, 1, 1, 1)), Conditions(jnp.asarray(gammas[:-1:2], jnp.float32))
    x0, eps = compiled(progressive.target, config)(teacher, y, given, index_B)
    two = [
        euler(a, b) * euler(b, c)
        for a, b, c in zip(gammas[::2], gammas[1::2], gammas[2::2], strict=False)
    ]
    landed = flow_map.toward(y, x0, given.gamma_B, jnp.asarray(gammas[2::2], jnp.float32))
    np.testing.assert_allclose(landed[:, 0, 0, 0], two, rtol=1e-5)
    np.testing.assert_allclose(x0 + along(jnp.exp(0.5 * given.gamma_B), eps) * eps, y, rtol=1e-5)
    # The student that has this x_0 at its four levels has no loss, and its walk is the teacher's.
    shares = dict(zip(np.round(gammas[:-1:2], 3), np.asarray(x0[:, 0, 0, 0]), strict=True))
    levels = jnp.asarray(gammas[:-1:2], jnp.float32)
    student = fitted(config, lambda g: jnp.asarray([shares[round(float(v), 3)] for v in g]), levels)
    value, _ = loss(config, student, make_batch(8), jax.random.key(0), teacher)
    assert float(value) < 1e-8
    noise = jax.random.normal(jax.random.key(1), (3, 8, 8, 1))
    found = jax.jit(
        lambda noise: progressive.sample(config, student, noise, jax.random.key(2), NOWHERE, 50)
    )(noise)
    expected = drawing.start(config, noise) * np.prod(two)
    np.testing.assert_allclose(found, expected, rtol=1e-3)


def test_a_rectified_flow_is_straight():
    """The teacher's paths are curved; the student's are lines, of which one step finds the end."""
    config = make_config("reflow", degree=24, teacher_steps=16)
    teacher = make_params(config, "denoiser")
    noise = jax.random.normal(jax.random.key(1), (4, 8, 8, 1))
    x0, eps = compiled(reflow.pairs, config)(teacher, noise, NOWHERE)
    last, high = float(np.exp(0.5 * LOW)), float(np.exp(0.5 * HIGH))
    start = drawing.start(config, noise)
    np.testing.assert_allclose(x0 + high * eps, start, atol=1e-5)
    factor = float(jnp.vdot(x0 + last * eps, start) / jnp.vdot(start, start))
    assert factor == pytest.approx(float(gaussian_map.flow(C, HIGH, LOW)), rel=0.02)

    def share(gammas):
        slope = (1 - factor) / (high - last)
        s = jnp.exp(0.5 * gammas)
        return (factor - last * slope) / (factor + (s - last) * slope)

    student = fitted(config, share, jnp.linspace(LOW, HIGH, 400))
    value, _ = loss(config, student, make_batch(8), jax.random.key(0), teacher)
    straightness = compiled(reflow.straightness, config)
    bent, straight = (float(straightness(p, noise, NOWHERE).mean()) for p in (teacher, student))
    assert float(value) < 1e-5 and straight < 1e-5 and bent > 1e-2
    once = reflow.sample(config, student, noise, jax.random.key(2), NOWHERE, 1)
    np.testing.assert_allclose(once, factor * start, atol=2e-3)


def test_the_pull_on_a_generator_is_toward_the_data():
    """With the score of what is generated it grows what is too narrow and shrinks what is wide."""
    config = make_config("denoising")
    teacher, gammas = make_params(config, "denoiser"), jnp.linspace(LOW, HIGH, 100)
    difference, pulls = compiled(distribution_matching.difference, config), []
    for variance in (C / 2, C, 2 * C):
        fake = fitted(config, lambda g, v=variance: v / (v + jnp.exp(g)), gammas)
        x = variance**0.5 * jax.random.normal(jax.random.key(0), (64, 8, 8, 1))
        eps = jax.random.normal(jax.random.key(1), x.shape)
        given = Conditions(jnp.linspace(LOW, HIGH, 64))
        change = difference(fake, teacher, x, eps, given)
        pulls.append(float(jnp.mean(change * x)))
    assert pulls[0] < -0.01 and pulls[2] > 0.01 and abs(pulls[1]) < 1e-4


@pytest.mark.slow
def test_a_generator_finds_the_variance_of_the_data():
    """It has one parameter and begins with a tenth of the variance; the fake network follows."""
    config = make_config("distribution_matching", **SMOOTH)
    teacher = make_params(make_config("denoising", **SMOOTH), "denoiser")
    keys = jax.random.split(jax.random.key(0), 3)
    params = diffusion.init(config, keys[0])
    params["generator"]["denoiser"] += 1.0
    free = {"generator": "denoiser", "fake": "learned"}
    own = {name: params[name][key] for name, key in free.items()}
    batch, steps = make_batch(64), 300
    optimizer = optax.adam(optax.cosine_decay_schedule(0.02, steps))

    def whole(own):
        return {name: params[name] | {key: own[name]} for name, key in free.items()}

    def body(carry, step):
        own, state = carry
        key = jax.random.fold_in(keys[1], step)
        gradient = jax.grad(
            lambda own: diffusion.loss(config, whole(own), batch, key, step, teacher)[0]
        )(own)
        update, state = optimizer.update(gradient, state)
        return (optax.apply_updates(own, update), state), None

    start = (own, optimizer.init(own))
    (found, _), _ = jax.jit(lambda: jax.lax.scan(body, start, jnp.arange(steps)))()
    noise = jax.random.normal(keys[2], (64, 8, 8, 1))
    before, after = (
        distribution_matching.sample(config, whole(p)["generator"], noise, keys[2], NOWHERE, 1)
        for p in (own, found)
    )
    assert float(before.var()) < C / 8 and float(after.var()) == pytest.approx(C, rel=0.08)


def test_energy_distance():
    """It is the mean over pairs, unbiased, and knows nothing of rows that do not count."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 5, 2, 2, 1))
    rows = np.array([1, 1, 0, 1, 1.0])
    found = energy_distance.between(jnp.asarray(x), jnp.asarray(y), jnp.asarray(rows))
    used = [0, 1, 3, 4]

    def mean(a, b):
        pairs = [(i, j) for i in used for j in used if i != j]
        return np.mean([np.sqrt(np.mean((a[i] - b[j]) ** 2)) for i, j in pairs])

    expected = 2 * mean(x, y) - mean(x, x) - mean(y, y)
    assert float(found["total"] / found["count"]) == pytest.approx(expected, rel=1e-5)
    assert float(found["count"]) == 4
    one = energy_distance.between(jnp.asarray(x), jnp.asarray(y), jnp.eye(5)[0])
    assert float(one["total"]) == float(one["count"]) == 0
    # Two normal distributions of one dimension, the second shifted by d: 2 E|N(d, 2)| - 4/sqrt(pi).
    shift = 1.5
    a, b = rng.normal(size=(2, 3000, 1, 1, 1)) + np.array([0, shift]).reshape(2, 1, 1, 1, 1)
    a, b = jnp.asarray(a, jnp.float32), jnp.asarray(b, jnp.float32)
    far = energy_distance.between(a, b, jnp.ones(3000))
    folded = 2 / np.pi**0.5 * np.exp(-(shift**2) / 4) + shift * (
        1 - 2 * 0.5 * (1 + _erf(-shift / 2))
    )
    value = float(far["total"] / far["count"])
    assert value == pytest.approx(2 * folded - 4 / np.pi**0.5, rel=0.1)


def _erf(x: float) -> float:
    return float(jax.scipy.special.erf(x))


FLOW = {"process": "flow", "prediction": "velocity"}
STUDENT = {"objective": "progressive"}
REFUSED = [
    (STUDENT, {}, None, "reference is empty: objective 'progressive' needs"),
    ({"objective": "distribution_matching"}, {}, None, "reference is empty"),
    ({"objective": "consistency"}, {}, {}, "is set to learn of no teacher"),
    ({"objective": "denoising"}, {}, {}, "objective 'denoising' keeps no reference"),
    ({"objective": "consistency"}, {"teacher_solver": "hein"}, {}, "did you mean 'heun'"),
    ({"objective": "consistency"}, {"first_intervals": 2000}, None, "first_intervals=2000"),
    ({"objective": "consistency"}, {"huber": -1.0}, None, "huber=-1.0"),
    ({"objective": "mean_flow"}, {}, None, "process='vp' must be 'flow'"),
    ({"objective": "mean_flow"}, {"process": "flow"}, None, "prediction='eps' must be 'velocity'"),
    ({"objective": "mean_flow"}, {**FLOW, "jumps": 0.0}, None, "jumps=0.0 must be above 0"),
    (STUDENT, {"student_steps": 0}, {}, "student_steps=0"),
    (STUDENT, {"self_conditioning": True}, {}, "self_conditioning=True: objective 'progressive'"),
    (STUDENT, {"learned_variance": True}, {}, "learned_variance=True"),
    (STUDENT, {}, {"width": 32}, "width=16 must be 32"),
    (STUDENT, {}, {"prediction": "v"}, "prediction='eps' must be 'v'"),
    (STUDENT, {}, {"gamma_max": 9.0}, "gamma_max=5.0 must be 9.0"),
    (STUDENT, {}, {"schedule": "cosine", "gamma_max": 4.0}, "gamma_max=5.0 must be 4.0"),
    (STUDENT, {}, {"schedule": "normal"}, "schedule='log_linear' must be 'normal'"),
    (STUDENT, {}, {"objective": "progressive", "student_steps": 4}, "must be half of the 4"),
    ({"objective": "reflow"}, {"teacher_steps": 0}, {}, "teacher_steps=0"),
    ({"objective": "sliced_score_matching"}, {"projections": 0}, None, "projections=0"),
    ({"objective": "sliced_score_matching", "channel": "moe"}, {}, None, "channel='moe' must be"),
]


@pytest.mark.parametrize("named, changes, teacher, said", REFUSED)
def test_what_does_not_fit_is_refused(tmp_path, named, changes, teacher, said):
    config = shapes.diffusion(**named)
    config.model.update(changes)
    if teacher is not None:
        other = shapes.diffusion(objective=teacher.get("objective", "denoising"))
        other.model.update(teacher)
        record.write_json(tmp_path / "config.json", configs.to_plain(other))
        config.init_from.reference = str(tmp_path)
    with pytest.raises(UserError, match=said) as raised:
        families.check(config, data.outline(config.data))
    assert "\n" not in str(raised.value)


def test_a_teacher_of_another_family_or_kernel_is_refused(tmp_path):
    config = shapes.diffusion(objective="progressive")
    record.write_json(tmp_path / "config.json", configs.to_plain(shapes.autoregressive()))
    config.init_from.reference = str(tmp_path)
    with pytest.raises(UserError, match="of family 'autoregressive'"):
        families.check(config, data.outline(config.data))
    config = shapes.diffusion(objective="mean_flow")
    config.hardware.attention = "chunked"
    with pytest.raises(UserError, match="attention='chunked' must be 'dense'"):
        mean_flow.check_hardware(config, None)


def test_both_networks_begin_as_the_teacher():
    config = make_config("distribution_matching")
    teacher = make_params(make_config("denoising"), "denoiser")
    both = diffusion.adopted(config, teacher)
    assert both == {"generator": teacher, "fake": teacher}
    assert diffusion.adopted(config, both) is both
    shape = jax.tree.structure(diffusion.init(config, jax.random.key(0)))
    assert jax.tree.structure(both) == shape
    assert denoiser.objective_keys("progressive") >= {"student_steps", "loss_weighting"}


RUNS = {
    "progressive": dict(student_steps=2),
    "consistency": dict(teacher_solver="heun"),
    "mean_flow": dict(velocity_teacher=True),
    "reflow": dict(teacher_steps=2),
    "distribution_matching": {},
}


@pytest.mark.slow
@pytest.mark.parametrize("objective", RUNS)
def test_a_student_from_end_to_end(tmp_path, data_folder, objective):
    """It begins as its teacher, which stays as it was, bit for bit, and it draws images."""

    def run(name, objective, **model):
        config = shapes.diffusion(objective=objective)
        config.model.update(FLOW | model)
        config.data.folder = str(data_folder)
        config.train.update(steps=3, warmup_steps=1, decay_steps=1)
        return config, tmp_path / name

    config, teacher = run("teacher", "denoising")
    train(config, teacher)
    config, student = run("student", objective, **RUNS[objective])
    config.init_from.run = config.init_from.reference = str(teacher)
    families.check(config, data.outline(config.data))
    result = train(config, student)
    assert result["score"]["kind"] == "estimate" and np.isfinite(result["score"]["value"])
    frozen = checkpoint.reader(student / "reference").restore(0)["state"]
    for kept, own in zip(
        jax.tree.leaves(frozen), jax.tree.leaves(trained.load(teacher)[1]), strict=True
    ):
        np.testing.assert_array_equal(kept, own)
    found, params = trained.load(student)
    images = diffusion.sample(found, params, jax.random.key(0), 3)
    assert images.shape == (3, 8, 8, 1) and np.isfinite(images).all()
