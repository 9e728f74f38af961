"""fit_law from end to end: planted laws, predictions, the compute optimum, laws.json."""

import json

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from research.errors import UserError
from research.scaling import laws
from research.scaling.fit import fit_law
from research.scaling.plan.optimal import FlopsModel, flops_model, optimum
from tests.scaling.planted import TRUTH, grid, losses, table


@pytest.fixture(scope="module")
def noisy():
    params, data = grid(8, 6, 3.0)
    return fit_law(table(params, data, losses(params, data, noise=0.003, seed=1)), bootstrap=400)


def test_planted_law_comes_back_with_intervals_that_hug_it():
    params, data = grid()
    fit = fit_law(table(params, data, losses(params, data)), bootstrap=200)
    assert fit.refused is None and fit.intervals is not None and fit.parameters is not None
    for name, value in TRUTH.items():
        assert fit.parameters[name] == pytest.approx(value, rel=1e-7)
        low, high = fit.intervals[name]
        assert low <= fit.parameters[name] * (1 + 1e-7) and high >= value * (1 - 1e-7)
        assert high - low < 1e-5 * value
    assert fit.noise < 1e-9


def test_intervals_hold_the_planted_truth(noisy):
    assert noisy.refused is None
    for name, value in TRUTH.items():
        low, high = noisy.intervals[name]
        assert low < value < high
        assert noisy.profiles[name].low < value < noisy.profiles[name].high
    assert 0.002 < noisy.noise < 0.004
    assert noisy.share_at_best > 0.5


def test_prediction_and_its_intervals(noisy):
    params, data = np.array([1e8, 1e11]), np.array([1e10, 1e13])
    truth = losses(params, data)
    low, high = noisy.predict_interval(N=params, D=data)
    assert ((low < truth) & (truth < high)).all()
    np.testing.assert_allclose(noisy.predict(N=params, D=data), truth, rtol=0.02)
    wide_low, wide_high = noisy.predict_interval(noise=True, N=params, D=data)
    assert ((wide_low < low) & (wide_high > high)).all(), "a new run adds its own noise"
    assert high[1] / low[1] > high[0] / low[0], "far out is less certain"


def test_same_seed_same_intervals_and_laws_json_keeps_every_digit(noisy):
    params, data = grid(8, 6, 3.0)
    again = fit_law(table(params, data, losses(params, data, noise=0.003, seed=1)), bootstrap=400)
    assert again.intervals == noisy.intervals
    other = fit_law(
        table(params, data, losses(params, data, noise=0.003, seed=1)), bootstrap=400, seed=1
    )
    assert other.parameters == noisy.parameters and other.intervals != noisy.intervals
    content = json.loads(json.dumps(noisy.to_json(), allow_nan=False))
    assert content["parameters"] == noisy.parameters
    assert set(content["intervals"]) == set(TRUTH) == set(content["parameters"])
    expected = "law parameters intervals level objective num_runs convention warnings refused"
    assert set(expected.split()) <= set(content)
    assert content["law"] == "chinchilla" and content["refused"] is None


def test_compute_optimum_is_the_minimum_along_the_budget(noisy):
    best = noisy.optimal(1e21)
    loss = lambda n: float(noisy.predict(N=np.exp(n), D=1e21 / (6 * np.exp(n))))  # noqa: E731
    found = minimize_scalar(loss, bounds=(np.log(1e6), np.log(1e13)), method="bounded")
    assert best.params == pytest.approx(np.exp(found.x), rel=1e-3)
    assert best.loss == pytest.approx(found.fun, rel=1e-9)
    assert 6 * best.params * best.data == pytest.approx(1e21)
    assert best.params_exponent + best.data_exponent == pytest.approx(1)
    assert best.params_interval[0] < best.params < best.params_interval[1]
    truth = optimum(np.array(list(TRUTH.values())), 1e21, FlopsModel())
    assert best.params_exponent_interval[0] < truth[3] < best.params_exponent_interval[1]


def test_optimum_follows_flops_that_are_not_6nd():
    params, data = grid()
    model = flops_model(params, data, 50 * params**0.8 * data)
    assert (model.factor, model.power) == (pytest.approx(50), pytest.approx(0.8))
    plain = flops_model(params, data, 6 * params * data)
    assert (plain.factor, plain.power) == (pytest.approx(6), 1.0)
    truth = np.array(list(TRUTH.values()))
    best = optimum(truth, 1e18, model)
    for step in (0.99, 1.01):
        near = best[0] * step
        other = laws.CHINCHILLA.loss(truth, N=near, D=model.data(np.array(1e18), near))
        assert other > best[2]
    bigger = optimum(truth, 1e19, model)
    assert np.log10(bigger[0] / best[0]) == pytest.approx(best[3])
    assert np.log10(bigger[1] / best[1]) == pytest.approx(best[4])


def test_frontier_law_is_recovered_and_has_no_optimum():
    flops = np.logspace(15, 21, 9)
    loss = 1.5 + 80 * flops**-0.12
    fit = fit_law(table(flops**0.5, flops**0.5 / 6, loss), laws.FRONTIER, bootstrap=200)
    assert fit.parameters == pytest.approx({"E": 1.5, "A": 80, "alpha": 0.12}, rel=1e-6)
    with pytest.raises(UserError, match="no compute-optimal size"):
        fit.optimal(1e21)


def test_group_is_what_the_bootstrap_resamples():
    params, data = grid(8, 6, 3.0)
    loss = losses(params, data, noise=0.005)
    runs = table(params, data, loss)
    grouped = runs.select(np.ones(len(runs), bool))
    grouped.frame["group"] = [str(int(value)) for value in params]
    by_run, by_size = fit_law(runs, bootstrap=300), fit_law(grouped, bootstrap=300)
    assert (by_run.num_groups, by_size.num_groups) == (48, 8)
    assert by_run.parameters == by_size.parameters and by_run.intervals != by_size.intervals
    assert "by run" in by_run.interval_method["alpha"]
    assert "by group" in by_size.interval_method["alpha"]


def test_a_refused_fit_predicts_nothing():
    params, data = grid(3, 2)
    fit = fit_law(table(params, data, losses(params, data, noise=0.01)), bootstrap=100)
    assert fit.refused is not None and "6 runs" in fit.refused
    assert fit.parameters is None and fit.intervals is None and fit.rejected is not None
    with pytest.raises(UserError, match="refused"):
        fit.predict(N=1e8, D=1e10)
    json.dumps(fit.to_json(), allow_nan=False)


def test_unknown_law_names_the_nearest():
    with pytest.raises(UserError, match="did you mean 'chinchilla'"):
        laws.get("chinchila")
