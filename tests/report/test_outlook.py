"""The plan curve is the law's own optimum; exponents stand beside the published ones."""

import math

import numpy as np
import pytest

from research.report import law_figures, outlook
from research.scaling.frontier import fit_frontier
from research.scaling.isoflop.fit import isoflop
from research.scaling.laws.published import EXPONENTS, PUBLISHED
from tests.scaling.planted import TRUTH

TITLES = {"loss": "Loss", "N": "Parameters N (total)", "D": "Data D (tokens)"}


def test_the_plan_is_the_law_s_own_optimum(fit):
    rows = outlook.plan_curve(fit, 1e17, 1e21)
    assert rows.C.iloc[0] == pytest.approx(1e17) and rows.C.iloc[-1] == pytest.approx(1e22)
    assert (rows.C[rows.extrapolated] >= 1e21 * (1 - 1e-12)).all()
    last, best = rows.iloc[-1], fit.optimal(1e22)
    for name, value, ends in (
        ("N", best.params, best.params_interval),
        ("D", best.data, best.data_interval),
        ("loss", best.loss, best.loss_interval),
    ):
        found = [last[name], last[f"{name}_low"], last[f"{name}_high"]]
        np.testing.assert_allclose(found, [value, *ends], rtol=1e-9)
    law_figures.plan_loss(rows, TITLES).to_dict()
    law_figures.plan_allocation(rows, TITLES).to_dict()
    assert not len(outlook.plan_curve(None, 1e17, 1e21))


def test_both_pieces_of_a_plan_meet_at_the_largest_budget(fit):
    rows = outlook.plan_curve(fit, 1e17, 1e21)
    inside, beyond = rows[~rows.extrapolated].iloc[-1], rows[rows.extrapolated].iloc[0]
    assert inside.C == pytest.approx(beyond.C) and inside.loss == pytest.approx(beyond.loss)


def test_exponents_of_size_hold_ours_and_every_published_one(fit, runs):
    rows = outlook.size_exponents(fit, isoflop(runs, bootstrap=200))
    ours, published = rows[rows.ours], rows[~rows.ours]
    truth = TRUTH["beta"] / (TRUTH["alpha"] + TRUTH["beta"])
    assert len(ours) == 2 and ((ours.low < truth) & (truth < ours.high)).all()
    assert published.value.tolist() == [each.value for each in EXPONENTS.values()]
    assert rows.label.is_unique
    law_figures.exponents(rows, "a").to_dict()


def test_exponents_of_loss_are_those_of_the_optimum(fit, runs):
    rows = outlook.loss_exponents(fit_frontier(runs, bootstrap=200), fit).set_index("label")
    flops = 1e22
    for name, label in outlook.LOSS_LABELS.items():
        law = PUBLISHED[name]
        if "C" in law.law.variables:
            floor = law.parameters.get("E", 0.0)
            gap = [float(law.predict(C=c)) - floor for c in (flops, 10 * flops)]
            expected = math.log10(gap[0] / gap[1])
        else:
            a, b = law.parameters["alpha"], law.parameters["beta"]
            expected = a * b / (a + b)
        assert rows.value[label] == pytest.approx(expected, rel=1e-9)
    ours = rows.loc["ours, L(N, D)"]
    truth = TRUTH["alpha"] * TRUTH["beta"] / (TRUTH["alpha"] + TRUTH["beta"])
    assert ours.low < truth < ours.high


def test_without_a_law_of_ours_nothing_stands_beside():
    assert not len(outlook.loss_exponents(None, None))
