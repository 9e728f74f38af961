"""Intervals: what the draws weigh, how wide they are, and how often they hold the truth."""

import numpy as np
import pytest
from scipy import stats

from research.scaling import engine, laws
from research.scaling.doubt import intervals
from research.scaling.engine.design import make_design
from research.scaling.engine.objective import Objective
from tests.scaling.coverage import Study, answer
from tests.scaling.planted import TRUTH, losses


def test_rows_of_a_group_share_their_weight_and_the_seed_decides():
    groups = np.array(["a", "b", "a", "c"])
    weights = intervals.bootstrap_weights(groups, 50, seed=3)
    assert weights.shape == (50, 4)
    np.testing.assert_array_equal(weights[:, 0], weights[:, 2])
    np.testing.assert_allclose(weights[:, [0, 1, 3]].mean(1), 1)
    np.testing.assert_array_equal(weights, intervals.bootstrap_weights(groups, 50, seed=3))
    assert not np.array_equal(weights, intervals.bootstrap_weights(groups, 50, seed=4))


def test_percentiles_are_those_of_t():
    draws = stats.norm.ppf((np.arange(100_000) + 0.5) / 100_000)
    for degrees in (3, 10, 1000):
        low, high = intervals.percentile(draws, 0.9, degrees)
        np.testing.assert_allclose([-low, high], stats.t.ppf(0.95, degrees), rtol=1e-3)


def test_spread_and_noise_are_standard_deviations():
    draws = np.random.default_rng(0).standard_normal((20_000, 2)) * [1, 5]
    np.testing.assert_allclose(intervals.spread(draws), [1, 5], rtol=0.02)
    np.testing.assert_allclose(intervals.noise_scale(draws[:, 1], 5), 5, rtol=0.02)


def test_huber_scale_makes_the_ratio_chi_squared():
    # One location parameter: 2 (objective at the truth - at the fit) / tau has mean about 1.
    generator = np.random.default_rng(0)
    for delta in (0.1, 5.0):
        ratios = []
        for _ in range(300):
            sample = generator.standard_normal(60)
            cost = lambda x, s=sample, d=delta: _huber(s - x, d)  # noqa: E731
            best = min(np.linspace(-0.6, 0.6, 241), key=cost)
            scale = intervals.huber_scale(sample - best, 1, Objective(delta))
            ratios.append(2 * (cost(0.0) - cost(best)) / scale)
        assert 0.75 < np.mean(ratios) < 1.25


def _huber(residual, delta):
    size = np.abs(residual)
    clipped = np.minimum(size, delta)
    return np.sum(clipped * (size - clipped / 2))


@pytest.mark.slow
def test_intervals_cover_the_truth():
    """95% intervals hold the truth on 90 to 98% of 200 noisy surfaces, for every parameter."""
    surfaces, num_draws, noise = 200, 200, 0.003
    generator = np.random.default_rng(1)
    params, data = 10 ** (7 + 2.5 * generator.random(24)), 10 ** (9 + 2 * generator.random(24))
    exact = np.log(losses(params, data))
    log_loss = exact + noise * generator.standard_normal((surfaces, len(exact)))
    design = make_design(laws.CHINCHILLA, {"N": params, "D": data})
    limits, ones = design.bounds(np.exp(exact)), np.ones(len(exact))
    starts = design.starts(np.exp(exact), 9)
    best = engine.minimise(
        design,
        np.tile(starts, (surfaces, 1)),
        np.repeat(log_loss, len(starts), 0),
        ones,
        limits,
    ).best_of(len(starts))
    covered = []
    truth = np.array(list(TRUTH.values()))
    degrees = intervals.degrees_of_freedom(len(exact), len(truth))
    for k in range(surfaces):
        weights = intervals.bootstrap_weights(np.arange(len(exact)), num_draws, seed=k)
        start = best.theta[k : k + 1]
        draws = engine.minimise_draws(design, start, log_loss[k], weights, limits, rounds=0)
        found = design.to_parameters(draws.theta)
        low, high = intervals.percentile(found, 0.95, degrees)
        covered.append((low <= truth) & (truth <= high))
    share = np.mean(covered, axis=0)
    assert ((share >= 0.90) & (share <= 0.98)).all(), share


@pytest.mark.slow
def test_coverage_measures_what_intervals_hold():
    study = Study(laws.CHINCHILLA, "random", runs=24, decades=1.5, noise=0.003)
    found = [answer(study, seed, bootstrap=100, level=0.95) for seed in range(4)]
    assert not any(each.refused for each in found)
    for name in ("held", "ahead", "new_run"):
        assert np.mean([getattr(each, name) for each in found]) > 0.6, name
    hidden = Study(laws.CHINCHILLA, "random", runs=24, decades=2.5, noise=0.01, hidden="size")
    lost = answer(hidden, 0, bootstrap=100, level=0.95)
    assert lost.refused or not lost.identified.all()
