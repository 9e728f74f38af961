"""The frontier and the held-out budget: what lies on it, what it predicts, and against what."""

import numpy as np
import pytest

from research.scaling import laws
from research.scaling.frontier import fit_frontier, frontier_rows, lower_envelope
from research.scaling.holdout import holdout, largest_budget
from tests.scaling.planted import grid, losses, table, valleys


def test_envelope_is_the_lower_convex_hull():
    flops = np.array([1e1, 1e2, 1e3, 1e4, 1e2, 1e3, 1e5])
    loss = np.array([4.0, 3.0, 2.8, 2.0, 3.5, 2.2, 2.1])
    # 3.0 lies above the line from 4.0 to 2.2; 2.8 and 3.5 are beaten; 2.1 costs more than 2.0.
    np.testing.assert_array_equal(lower_envelope(flops, loss), [1, 0, 0, 1, 0, 1, 0])


def test_envelope_of_an_exact_law_keeps_every_point_and_only_the_best():
    flops = np.logspace(15, 21, 9)
    law = 1.5 + 80 * flops**-0.12
    mask = lower_envelope(np.tile(flops, 2), np.concatenate([law, law * 1.05]))
    np.testing.assert_array_equal(mask, np.arange(18) < 9)


def test_frontier_of_isoflop_groups_is_the_best_of_each():
    params, data = valleys()
    runs = table(params, data, losses(params, data, noise=0.002))
    mask = frontier_rows(runs)
    best = [k * 7 + int(np.argmin(runs["L"][k * 7 : k * 7 + 7])) for k in range(5)]
    np.testing.assert_array_equal(np.flatnonzero(mask), best)
    fit = fit_frontier(runs, bootstrap=200)
    assert fit.num_runs == 5 and fit.law is laws.FRONTIER


def test_largest_budget_is_what_is_held_out():
    params, data = valleys()
    runs = table(params, data, losses(params, data))
    np.testing.assert_array_equal(largest_budget(runs), np.arange(35) >= 28)
    params, data = grid(8, 6, 3.0)
    cloud = table(params * 1.31 ** np.arange(48), data, losses(params, data))
    top = largest_budget(cloud)
    assert 1 <= top.sum() < 10 and cloud["C"][top].min() > cloud["C"][~top].max()


def test_held_out_budget_is_not_read_and_is_predicted():
    params, data = valleys()
    loss = losses(params, data, noise=0.002)
    result = holdout(table(params, data, loss), bootstrap=400)
    assert result.refused is None and len(result.predictions) == 7
    assert result.fit is not None and result.fit.num_runs == 28
    assert result.num_inside >= 6 and result.mean_error < 0.01 < result.last_value_error
    assert result.findings == []
    spoilt = np.where(np.arange(35) >= 28, loss * 2, loss)
    blind = holdout(table(params, data, spoilt), bootstrap=400)
    assert [p.predicted for p in blind.predictions] == [p.predicted for p in result.predictions]
    assert [(p.low, p.high) for p in blind.predictions] == [
        (p.low, p.high) for p in result.predictions
    ]
    assert blind.num_inside == 0
    assert blind.predictions[0].error == pytest.approx(
        result.predictions[0].error - np.log(2), abs=1e-12
    )


def test_frontier_predicts_the_best_run_of_the_largest_budget():
    params, data = valleys(num_budgets=8)
    loss = losses(params, data, noise=0.001)
    result = holdout(table(params, data, loss), laws.FRONTIER, bootstrap=400)
    (prediction,) = result.predictions
    assert prediction.measured == loss[-7:].min()
    assert prediction.last_value == loss[:-7].min()
    assert prediction.inside and abs(prediction.error) < 0.01


@pytest.mark.slow
def test_predictive_intervals_hold_a_new_run_at_their_level():
    inside = []
    for seed in range(30):
        params, data = valleys()
        result = holdout(
            table(params, data, losses(params, data, noise=0.005, seed=seed)), bootstrap=200
        )
        inside += [prediction.inside for prediction in result.predictions]
    assert 0.90 <= np.mean(inside) <= 0.995


def test_21_a_law_that_does_not_beat_the_last_value_says_so():
    # Progress stops at the largest budget: the law predicts more of it, the last value none.
    params, data = valleys()
    loss = losses(params, data)
    frozen = losses(params / 10**0.5, data / 10**0.5)
    loss = np.where(np.arange(35) >= 28, frozen, loss)
    result = holdout(table(params, data, loss), laws.FRONTIER, bootstrap=200)
    assert [finding.code for finding in result.findings] == [21]
    assert result.mean_error > result.last_value_error


def test_too_few_runs_left_is_a_refusal_not_a_crash():
    params, data = valleys(num_budgets=3, num_sizes=3)
    result = holdout(table(params, data, losses(params, data, noise=0.001)), bootstrap=100)
    assert result.refused is not None and result.predictions == []
    assert np.isnan(result.mean_error)
