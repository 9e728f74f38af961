"""Objectives: what each minimises, the vertex of absolute deviations, long tables, influence."""

import numpy as np
import pytest
from scipy.optimize import least_squares

from research.errors import UserError
from research.scaling import engine, laws
from research.scaling.doubt import intervals
from research.scaling.engine import vertex
from research.scaling.engine.design import make_design
from research.scaling.engine.objective import HUBER, LAD, Objective, parse
from research.scaling.fit import fit_law
from tests.scaling.planted import grid, losses, table


def _problem(noise=0.01, **shape):
    params, data = grid(**shape)
    loss = losses(params, data, noise=noise)
    return make_design(laws.CHINCHILLA, {"N": params, "D": data}), loss


def _fit(design, loss, objective):
    ones, limits = np.ones(len(loss)), design.bounds(loss)
    target = objective.target(loss)
    ends = engine.minimise(design, design.starts(loss, 36), target, ones, limits, objective)
    return ends.theta[ends.objective.argmin()], target, ones, limits


@pytest.mark.parametrize("text", ["huber:1e-3", "huber:0.5", "lad", "log-l2", "l2"])
def test_names_are_read_back(text):
    assert parse(parse(text).name) == parse(text)


@pytest.mark.parametrize("text", ["hubber", "huber:-1", "huber:x", "huber:inf", "l1", ""])
def test_other_names_are_refused(text):
    with pytest.raises(UserError, match="--objective"):
        parse(text)


@pytest.mark.parametrize("objective", [HUBER, LAD, parse("l2"), Objective(0.1)])
def test_derivatives_are_those_of_the_cost(objective):
    residual = np.array([-0.3, -2e-3, -4e-6, 5e-6, 3e-4, 0.02, 0.4])
    step = 1e-9
    slope, _ = objective.derivatives(residual, False)
    numeric = (objective.cost(residual + step) - objective.cost(residual - step)) / (2 * step)
    np.testing.assert_allclose(slope, numeric, rtol=1e-5, atol=1e-12)


@pytest.mark.parametrize("log", [True, False])
def test_least_squares_are_those_of_scipy(log):
    design, loss = _problem()
    theta, target, _, _ = _fit(design, loss, Objective(np.inf, log))
    residual = lambda t: design.predict(t[None], log)[0] - target  # noqa: E731
    other = least_squares(residual, theta + 0.05, xtol=1e-15, ftol=1e-15, gtol=1e-15)
    np.testing.assert_allclose(theta, other.x, rtol=1e-5, atol=1e-6)


def test_absolute_deviations_end_on_a_vertex_that_nothing_near_beats():
    design, loss = _problem()
    near, target, ones, limits = _fit(design, loss, LAD)
    theta = vertex.polish(design, near, target, ones, limits, LAD)
    residual = np.abs(design.predict(theta[None])[0] - target)
    assert np.sum(residual < 1e-12) == len(theta)  # as many rows as parameters are met exactly
    around = theta + 1e-4 * np.random.default_rng(0).standard_normal((500, len(theta)))
    assert residual.sum() <= np.abs(design.predict(around) - target).sum(1).min()
    fit = fit_law(table(*grid(), loss), objective=LAD, bootstrap=100)
    assert fit.objective == pytest.approx(residual.sum(), rel=1e-9)
    assert fit.refused is None and not [f for f in fit.findings if f.code == 8]


@pytest.mark.slow
def test_the_sandwich_is_what_the_bootstrap_tends_to():
    design, loss = _problem(noise=1e-3, num_sizes=40, num_amounts=50)
    theta, target, ones, limits = _fit(design, loss, HUBER)
    groups = np.arange(len(loss))
    weights = intervals.bootstrap_weights(groups, 2000, seed=0)
    resampled = engine.minimise_draws(design, theta[None], target, weights, limits).theta
    normal = intervals.sandwich_draws(design, theta, target, groups, limits, HUBER, 4000, 0)
    np.testing.assert_allclose(normal.std(0), resampled.std(0), rtol=0.15)
    np.testing.assert_allclose(np.corrcoef(normal.T), np.corrcoef(resampled.T), atol=0.1)


def test_a_table_too_long_to_resample_gives_the_same_fit():
    params, data = grid(num_sizes=150, num_amounts=150)
    loss = losses(params, data, noise=0.01)
    fit = fit_law(table(params, data, loss), bootstrap=4000)
    assert "too many rows" in fit.interval_method["E"]
    assert fit.parameters is not None and fit.intervals is not None
    # The best of all rows: no step from it gains.
    design = make_design(laws.CHINCHILLA, {"N": params, "D": data})
    theta = design.to_theta(np.array(list(fit.parameters.values())))
    ones, limits = np.ones(len(loss)), design.bounds(loss)
    again = engine.minimise(design, theta[None], np.log(loss), ones, limits)
    assert again.objective[0] == pytest.approx(fit.objective, rel=1e-12)
    low, high = fit.intervals["alpha"]
    assert low < 0.34 < high and high - low < 0.01


def test_influence_is_the_refit_without_that_run():
    params, data = grid()
    loss = losses(params, data, noise=0.002)
    loss[7] *= 1.15
    wide = Objective(0.1)
    fit = fit_law(table(params, data, loss), objective=wide, bootstrap=200)
    first = fit.influence[0]
    assert first.rows == (7,) and fit.influence[0].largest >= fit.influence[1].largest
    kept = np.arange(len(loss)) != 7
    without = fit_law(table(params[kept], data[kept], loss[kept]), objective=wide, bootstrap=200)
    assert fit.parameters is not None and without.parameters is not None
    moved = without.parameters["alpha"] - fit.parameters["alpha"]
    error = intervals.spread(fit.draws)[fit.law.names.index("alpha")]
    assert first.moves["alpha"] == pytest.approx(moved / error, rel=0.02)
