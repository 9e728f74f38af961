"""The ladder, the profiles and the price of a size say what the law lab says."""

import numpy as np
import pytest

from research.report import doubts, law_figures
from research.scaling.doubt import intervals


def test_the_planted_law_tops_the_ladder(runs):
    rows = doubts.ladder(runs)
    assert rows.error.is_monotonic_increasing and rows.law.iloc[0] in ("chinchilla", "supervised")
    assert rows[rows.baseline].law.tolist() == ["last value"]
    assert rows.error.iloc[0] < 0.5 < rows[rows.baseline].error.item()


def test_few_runs_have_no_ladder(runs):
    assert not len(doubts.ladder(runs.select(np.arange(len(runs)) < 14)))


def test_profiles_cross_one_where_the_interval_of_the_profile_ends(fit):
    rows = doubts.profiles(fit)
    alpha = rows[rows.parameter == "alpha"].sort_values("value")
    assert list(dict.fromkeys(rows.parameter)) == list(fit.law.names)
    seen = fit.profiles["alpha"]
    inside = alpha[(alpha.value > seen.low) & (alpha.value < seen.high)]
    assert (inside.ratio <= 1).all() and (alpha.drop(inside.index).ratio >= 1).all()
    error = intervals.spread(fit.draws[:, fit.law.names.index("alpha")])
    expected = (alpha.value - fit.parameters["alpha"]) / error
    np.testing.assert_allclose(alpha.errors, expected, rtol=1e-9, atol=1e-12)
    assert not len(doubts.profiles(None))


def test_the_price_of_a_size_is_the_law_s_own(fit):
    rows = doubts.trade_off(fit, 1e21)
    best = fit.optimal(1e21)
    middle = rows.iloc[len(rows) // 2]
    assert middle.multiple == pytest.approx(1) and middle.excess == pytest.approx(0, abs=1e-9)
    half = rows.iloc[np.abs(rows.multiple - 0.5).argmin()]
    loss = fit.predict(N=half.N, D=fit.flops_model.data(np.asarray(1e21), half.N))
    assert half.excess == pytest.approx(100 * (float(loss) / best.loss - 1), rel=1e-9)
    assert half.low < half.excess < half.high and (rows.low >= -1e-9).all()
    assert not len(doubts.trade_off(None, 1e21))


def test_coverage_is_in_percent(runs):
    rows = doubts.covered(runs)
    assert rows.level.iloc[0] == 50 and rows.level.iloc[-1] == 99
    assert rows["share"].between(rows.low, rows.high).all() and rows.high.max() <= 100
    law_figures.coverage(rows).to_dict()
    assert not len(doubts.covered(runs.select(np.arange(len(runs)) < 14)))
