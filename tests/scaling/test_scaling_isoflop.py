"""IsoFLOP valleys: planted exponents come back, budgets without a minimum are dropped by name."""

import json
from dataclasses import replace

import numpy as np
import pytest

from research.errors import UserError
from research.scaling.isoflop import budgets, disagreement, has_budgets, isoflop
from tests.scaling.planted import grid, losses, table, valleys


def planted(exponent=0.5, noise=0.0, keep=lambda budget, offset: True, seed=0, lean=0.0):
    """Exact parabolas in log N about 0.1 C^exponent; `keep` chooses the runs that were made."""
    params, data = valleys(exponent=exponent)
    flops = 6 * params * data
    offset = np.log10(params / (0.1 * flops**exponent))
    loss = (1 + 40 * flops**-0.1) * (1 + 0.05 * offset**2 + lean * np.abs(offset) * offset)
    loss = loss * np.exp(noise * np.random.default_rng(seed).standard_normal(len(loss)))
    chosen = np.array([keep(*pair) for pair in zip(flops, offset, strict=True)])
    return table(params[chosen], data[chosen], loss[chosen])


@pytest.mark.parametrize("method", ["parabola", "akima"])
@pytest.mark.parametrize("exponent", [0.35, 0.5, 0.73])
def test_planted_exponent_and_coefficient(method, exponent):
    fit = isoflop(planted(exponent), method, bootstrap=200)
    tolerance = 1e-9 if method == "parabola" else 1e-3
    assert fit.params_exponent == pytest.approx(exponent, abs=tolerance)
    assert fit.data_exponent == pytest.approx(1 - exponent, abs=tolerance)
    assert fit.params_coefficient == pytest.approx(0.1, rel=0.05 if method == "akima" else 1e-6)
    assert len(fit.kept) == 5 and fit.findings == [] and fit.refused is None
    assert fit.params_interval is not None
    low, high = fit.params_interval
    assert high - low < 0.02, "no noise, little width"


def test_intervals_cover_the_planted_exponent():
    inside = []
    for seed in range(100):
        fit = isoflop(planted(noise=0.003, seed=seed), bootstrap=300)
        assert fit.params_interval is not None
        inside.append(fit.params_interval[0] <= 0.5 <= fit.params_interval[1])
    assert 0.90 <= np.mean(inside) <= 1.0


@pytest.mark.parametrize(
    ("keep", "why"),
    [
        (lambda c, o: c < 3e20 or o < 0.1, "at the largest size"),
        (lambda c, o: c < 3e20 or o > -0.1, "at the smallest size"),
        (lambda c, o: c < 3e20 or o < 0.3, "one run only on the larger side"),
        (lambda c, o: c < 3e20 or o > -0.3, "one run only on the smaller side"),
        (lambda c, o: c < 3e20 or abs(o) < 0.1, "1 sizes"),
    ],
)
def test_budget_without_a_minimum_inside_is_dropped_and_why(keep, why):
    runs = planted(keep=keep)
    fit = isoflop(runs, bootstrap=200)
    (dropped,) = [valley for valley in fit.valleys if not valley.kept]
    assert dropped.flops == pytest.approx(1e21) and why in dropped.why
    assert dropped.params is None
    assert [finding.code for finding in fit.findings] == [6]
    assert why in fit.findings[0].message
    assert fit.params_exponent == pytest.approx(0.5, abs=1e-9), "the rest still tells"


def test_concave_losses_are_dropped():
    runs = planted()
    flops = runs["C"]
    offset = np.log10(runs["N"] / (0.1 * flops**0.5))
    # Lowest in the middle by one lucky run, on losses that fall off on both sides.
    hill = 2 - 0.2 * offset**2 - np.where(np.abs(offset) < 0.1, 0.13, 0)
    fit = isoflop(replace(runs, frame=runs.frame.assign(L=hill)))
    assert fit.refused is not None and "0 of 5" in fit.refused
    assert fit.params_exponent is None and fit.params_interval is None
    assert all("concave" in str(valley.why) for valley in fit.valleys)
    json.dumps(fit.to_json(), allow_nan=False)


def test_budgets_are_the_nominal_ones_or_clusters_of_flops():
    runs = planted()
    jitter = np.exp(np.random.default_rng(0).uniform(-0.02, 0.02, len(runs)))
    uneven = replace(runs, frame=runs.frame.assign(C=runs["C"] * jitter))
    assert len(np.unique(budgets(uneven))) == 5 and has_budgets(uneven)
    named = replace(uneven, frame=uneven.frame.assign(budget=np.arange(35) % 5))
    np.testing.assert_array_equal(budgets(named), np.arange(35) % 5)
    assert not has_budgets(named), "runs named alike that differ 10,000 times in FLOPs"
    params, data = grid(8, 6, 3.0)
    assert not has_budgets(table(params * 1.3 ** np.arange(48), data, losses(params, data)))


def test_seeds_of_a_size_count_once():
    runs = planted()
    twice = replace(runs, frame=runs.frame.loc[np.repeat(runs.frame.index, 2)].reset_index())
    once, doubled = isoflop(runs, bootstrap=100), isoflop(twice, bootstrap=100)
    assert doubled.params_exponent == pytest.approx(once.params_exponent, abs=1e-12)
    assert all(len(valley.rows) == 14 for valley in doubled.valleys)


def test_7_methods_that_disagree():
    fit = isoflop(planted(noise=0.002), bootstrap=300)
    assert fit.params_exponent is not None
    assert disagreement(fit, fit.params_exponent + 1e-4, 0.01) is None
    found = disagreement(fit, fit.params_exponent + 0.3, 0.01)
    assert found is not None and found.code == 7 and "standard errors" in found.message


def test_unknown_method():
    with pytest.raises(UserError, match="parabola, akima"):
        isoflop(planted(), "spline")
