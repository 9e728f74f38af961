"""The ladder, the profiles and the price of a size say what the law lab says."""

from types import SimpleNamespace

import numpy as np
import pytest

from research.report import doubts, law_figures, words
from research.scaling.doubt import intervals
from research.scaling.table import read_runs
from tests.scaling.planted import arms_study, planted_arms


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


def test_the_multiplier_of_each_arm_is_drawn_with_its_band(tmp_path):
    base, muon = planted_arms(2.0, noise=0.002)
    (table,) = read_runs(arms_study(tmp_path / "runs", {"base": base, "muon": muon})).values()
    rows = doubts.multiplier(table)
    assert set(rows.arm) == {"muon"} and set(rows["first"]) == {"base"}
    assert (rows.low < 2).all() and (rows.high > 2).all() and rows.C.is_monotonic_increasing
    assert law_figures.multiplier(rows).to_dict()["layer"]
    said = words.said("multiplier", None, SimpleNamespace(tables={"multiplier": rows}))
    assert "FLOPs of base" in said and "multiplier of muon stays as it is with compute" in said
    one = table.select(table["arm"] == "muon")
    assert not len(doubts.multiplier(one)) and not len(
        doubts.multiplier(table.select(table["D"] < 0))
    )
