"""Coverage: a planted law keeps its word, a wrong one does not; shares carry an exact interval."""

import numpy as np
import pytest
from scipy import stats

from research.errors import UserError
from research.scaling.backtest import backtest
from research.scaling.choice import folds
from research.scaling.coverage import binomial, coverage
from research.scaling.laws import CHINCHILLA
from tests.scaling.planted import grid, losses, table, valleys


def test_intervals_of_the_planted_law_hold():
    inside, promised = [], []
    for seed in range(6):
        params, data = valleys(num_sizes=6)
        found = coverage(
            table(params, data, losses(params, data, noise=0.01, seed=seed)), bootstrap=150
        )
        inside.append(found.share)
        promised = found.levels
        assert (np.diff(found.share) >= 0).all()
        assert (found.low <= found.share).all() and (found.share <= found.high).all()
    share = np.mean(inside, 0)
    assert share[-1] > 0.95 and abs(share - promised).max() < 0.2


def test_intervals_of_a_wrong_law_are_too_short():
    params, data = grid()
    wrong = losses(params, data) * (1 + 0.05 * np.log10(params / 1e7) ** 2)
    found = coverage(table(params, data, wrong), bootstrap=150)
    assert found.high[found.levels == 0.99] < 0.99


def test_a_level_counts_what_the_backtest_counts():
    params, data = grid()
    runs = table(params, data, losses(params, data, noise=0.01))
    found = coverage(runs, levels=(0.9,), bootstrap=150)
    masks = folds(runs)
    assert found.folds == list(masks)
    assert found.num_predictions == sum(mask.sum() for mask in masks.values())
    assert found.num_runs == np.any(list(masks.values()), axis=0).sum() < found.num_predictions
    each = [
        backtest(runs, mask, [CHINCHILLA], bootstrap=150)[CHINCHILLA.name]
        for mask in masks.values()
    ]
    hits = sum(scored.coverage * len(scored.error) for scored in each)
    assert found.share[0] == pytest.approx(hits / found.num_predictions, abs=1e-12)


def test_the_binomial_interval_is_exact():
    low, high = binomial(np.array([0.0, 0.4, 1.0]), 10)
    assert low[0] == 0 and high[2] == 1
    assert stats.binom.sf(3, 10, low[1]) == pytest.approx(0.025)
    assert stats.binom.cdf(4, 10, high[1]) == pytest.approx(0.025)
    assert high[0] == pytest.approx(1 - 0.025**0.1) and low[2] == pytest.approx(0.025**0.1)


def test_few_rows_have_no_coverage():
    params, data = valleys(num_budgets=2, num_sizes=3)
    with pytest.raises(UserError, match="too few to hold some out"):
        coverage(table(params, data, losses(params, data)))
