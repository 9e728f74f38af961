"""The engine: exact derivatives, planted laws, agreement with SciPy, bounds and batches."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from research.scaling import engine, laws
from research.scaling.engine.design import make_design
from research.scaling.engine.objective import Objective
from tests.scaling.planted import TRUTH, grid, losses


def _problem(noise=0.01, seed=0, law=laws.CHINCHILLA):
    params, data = grid()
    loss = losses(params, data, noise=noise, seed=seed)
    variables = {"N": params, "D": data, "C": 6 * params * data}
    return make_design(law, variables), loss


CLOSED = [law for law in laws.LAWS.values() if law.terms and set(law.variables) <= set("NDC")]


@pytest.mark.parametrize("law", CLOSED, ids=lambda law: law.name)
def test_gradient_and_hessian_are_those_of_finite_differences(law):
    design, loss = _problem(law=law)
    generator = np.random.default_rng(1)
    theta = design.starts(loss, 4)[:1] + 0.1 * generator.standard_normal(len(law.names))
    weights = generator.uniform(0.5, 2, len(loss))
    # A wide delta: away from Huber's kinks, where the second derivative does not exist.
    for delta in (0.5, 0.03):
        at = lambda t, d=delta: design.evaluate(t[None], np.log(loss), weights, Objective(d))  # noqa: E731
        _, gradient, hessian = at(theta[0])
        steps = 1e-6 * np.eye(len(law.names))
        numeric = [(at(theta[0] + s)[0] - at(theta[0] - s)[0])[0] / 2e-6 for s in steps]
        np.testing.assert_allclose(gradient[0], numeric, rtol=1e-6, atol=1e-8)
        rows = [(at(theta[0] + s)[1] - at(theta[0] - s)[1])[0] / 2e-6 for s in steps]
        np.testing.assert_allclose(hessian[0], rows, rtol=1e-5, atol=1e-7)


def test_jacobian_is_that_of_finite_differences():
    design, loss = _problem()
    theta = design.starts(loss, 4)[0]
    for j, step in enumerate(1e-6 * np.eye(5)):
        upper, lower = design.predict(np.stack([theta + step, theta - step]))
        np.testing.assert_allclose(
            design.jacobian(theta[None])[0, :, j], (upper - lower) / 2e-6, rtol=1e-6, atol=1e-9
        )


def test_published_parameters_and_theta_are_inverse_and_predict_the_law():
    design, _ = _problem()
    published = np.array([list(TRUTH.values())])
    theta = design.to_theta(published)
    np.testing.assert_allclose(design.to_parameters(theta), published, rtol=1e-12)
    params, data = grid()
    np.testing.assert_allclose(np.exp(design.predict(theta)[0]), losses(params, data), rtol=1e-12)


@settings(max_examples=20)
@given(
    st.floats(0.5, 3),
    st.floats(0.2, 1),
    st.floats(0.2, 1),
    st.floats(0.15, 0.7),
    st.floats(0.15, 0.7),
)
def test_noise_free_law_is_recovered(floor, by_size, by_data, alpha, beta):
    params, data = grid()
    truth = {
        "E": floor,
        "A": by_size * np.exp(alpha * np.log(params).mean()),
        "B": by_data * np.exp(beta * np.log(data).mean()),
        "alpha": alpha,
        "beta": beta,
    }
    loss = losses(params, data, truth)
    design = make_design(laws.CHINCHILLA, {"N": params, "D": data})
    limits = design.bounds(loss)
    ends = engine.minimise(
        design, design.starts(loss, 25), np.log(loss), np.ones(len(loss)), limits
    ).best_of(25)
    found = design.to_parameters(ends.theta[0])
    np.testing.assert_allclose(found, list(truth.values()), rtol=1e-7)


def _value_and_gradient(theta, design, log_loss, weights):
    value, gradient, _ = design.evaluate(theta[None], log_loss, weights)
    return float(value[0]), gradient[0]


def test_no_start_of_scipy_does_better():
    design, loss = _problem(noise=0.01, seed=3)
    limits = design.bounds(loss)
    ones = np.ones(len(loss))
    ends = engine.minimise(design, design.starts(loss, 64), np.log(loss), ones, limits)
    best = ends.objective.min()
    reference = [
        minimize(
            _value_and_gradient,
            start,
            args=(design, np.log(loss), ones),
            jac=True,
            method="L-BFGS-B",
            bounds=list(zip(*limits, strict=True)),
            options={"maxiter": 2000, "ftol": 1e-15, "gtol": 1e-12},
        ).fun
        for start in design.starts(loss, 9)
    ]
    assert best <= min(reference) * (1 + 1e-9)
    assert min(reference) <= best * 1.001, "and the reference gets there, so it is the same problem"


def test_a_batch_is_its_problems_one_by_one():
    design, loss = _problem(noise=0.001)
    weights = np.random.default_rng(0).standard_exponential((7, len(loss)))
    theta = np.tile(design.starts(loss, 4)[0], (7, 1))
    limits = design.bounds(loss)
    together = engine.minimise(design, theta, np.log(loss), weights, limits)
    for k in range(7):
        alone = engine.minimise(design, theta[k : k + 1], np.log(loss), weights[k : k + 1], limits)
        np.testing.assert_allclose(together.objective[k], alone.objective[0], rtol=1e-10)
        np.testing.assert_allclose(together.theta[k], alone.theta[0], rtol=1e-6)


def test_bounds_hold_and_frozen_columns_stay():
    design, loss = _problem(noise=0.0)
    low, high = design.bounds(loss)
    high = high.copy()
    high[3] = 0.2  # the truth is .34
    theta = design.starts(loss, 4)[:1]
    end = engine.minimise(design, theta, np.log(loss), np.ones(len(loss)), (low, high))
    assert end.theta[0, 3] == 0.2
    assert end.gradient[0, 3] == 0.0, "the gradient along a held bound is not counted"
    frozen = engine.minimise(
        design, theta, np.log(loss), np.ones(len(loss)), (low, high), frozen=[4]
    )
    assert frozen.theta[0, 4] == theta[0, 4]
    assert frozen.objective[0] >= end.objective[0]


def test_draws_are_no_worse_than_their_own_descent_from_the_fit():
    params, data = grid(4, 3)
    loss = losses(params, data, noise=0.03)
    design = make_design(laws.CHINCHILLA, {"N": params, "D": data})
    limits, ones = design.bounds(loss), np.ones(len(loss))
    ends = engine.minimise(design, design.starts(loss, 36), np.log(loss), ones, limits)
    theta = ends.theta[np.argsort(ends.objective)]
    weights = np.random.default_rng(0).standard_exponential((60, len(loss)))
    alone = engine.minimise(design, np.tile(theta[0], (60, 1)), np.log(loss), weights, limits)
    pooled = engine.minimise_draws(design, theta, np.log(loss), weights, limits)
    assert (pooled.objective <= alone.objective * (1 + 1e-12)).all()
    assert (pooled.objective < alone.objective * 0.999).any(), "this table has far misses"
    recomputed = engine.objectives(design, pooled.theta, np.log(loss), weights)
    np.testing.assert_allclose(np.diag(recomputed), pooled.objective, rtol=1e-10)


def test_no_draw_is_worse_than_that_of_scipy_but_one_in_forty():
    generator = np.random.default_rng(1)
    params, data = 10 ** (7 + 2.5 * generator.random(24)), 10 ** (9 + 2 * generator.random(24))
    loss = losses(params, data, noise=0.01, seed=1)
    design = make_design(laws.CHINCHILLA, {"N": params, "D": data})
    limits, ones = design.bounds(loss), np.ones(len(loss))
    ends = engine.minimise(design, design.starts(loss, 36), np.log(loss), ones, limits)
    pool = ends.theta[np.argsort(ends.objective)]
    weights = generator.standard_exponential((40, len(loss)))
    ours = engine.minimise_draws(design, pool, np.log(loss), weights, limits).objective
    reference = [
        minimize(
            _value_and_gradient,
            pool[0],
            args=(design, np.log(loss), weight),
            jac=True,
            method="L-BFGS-B",
            bounds=list(zip(*limits, strict=True)),
            options={"maxiter": 500, "ftol": 1e-15, "gtol": 1e-12},
        ).fun
        for weight in weights
    ]
    excess = ours / np.array(reference) - 1
    # The other has two minima, 3e-5 apart: no table this noisy is convex.
    assert np.mean(excess <= 1e-12) >= 39 / 40 and excess.max() < 1e-4


def test_flat_losses_do_not_break_the_step():
    # Two kinds of loss in one column: half the rows lie above any curve and half below, so that
    # the absolute loss is flat, with no curvature at all (a published table did this).
    params, data = grid()
    loss = np.where(np.arange(len(params)) % 2, 0.7, 2.5)
    design = make_design(laws.CHINCHILLA, {"N": params, "D": data})
    limits = design.bounds(loss)
    end = engine.minimise(design, design.starts(loss, 36), np.log(loss), np.ones(len(loss)), limits)
    assert np.isfinite(end.objective).all()
