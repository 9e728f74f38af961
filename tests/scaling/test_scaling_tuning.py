"""Tuning curves: bands that hold as often as they say, and arms at the best of what was tried."""

import json
from itertools import combinations

import numpy as np
import pandas as pd
import pytest

from research.__main__ import main
from research.scaling import from_frame
from research.scaling.compare.tuning import cdf_band, held, tune, tuning_curve
from research.scaling.doubt.table_checks import table_findings, untuned
from tests.scaling.planted import codes, planted_arms


def test_the_chance_of_a_band_is_that_of_ordered_uniforms():
    one = held(np.array([0.1]), np.array([0.7]))
    assert one == pytest.approx(0.6, abs=1e-12)
    # Two ordered uniforms in [.1, .6] and [.3, .9]: 2 (.5 x .6) less what is not in order.
    two = held(np.array([0.1, 0.3]), np.array([0.6, 0.9]))
    assert two == pytest.approx(2 * (0.5 * 0.6) - 0.3**2, abs=1e-12)
    # Daniels 1945: the empirical F nowhere over F / x with probability 1 - x.
    n, x = 12, 0.3
    daniels = held(np.arange(1, n + 1) * x / n, np.ones(n))
    assert daniels == pytest.approx(1 - x, abs=1e-12)


@pytest.mark.parametrize("n", [1, 2, 7, 60])
@pytest.mark.parametrize("level", [0.5, 0.95])
def test_a_band_holds_with_exactly_its_level(n, level):
    low, high = cdf_band(n, level)
    assert held(low, high) == pytest.approx(level, abs=1e-9)
    assert np.allclose(low, 1 - high[::-1])


def test_a_curve_says_the_best_of_k():
    losses = [3.0, 1.0, 2.0, 5.0, 4.0]
    curve = tuning_curve(losses, 0.8)
    best = [np.mean([min(each) for each in combinations(losses, k)]) for k in range(1, 6)]
    assert curve.expected == pytest.approx(best)
    assert curve.median[0] == 3 and (np.diff(curve.median) <= 0).all()
    assert (curve.low <= curve.median).all() and (curve.median <= curve.high).all()
    worse = tuning_curve([*losses, np.nan, np.inf], 0.8)  # two that diverged
    assert np.isinf(worse.expected[0]) and worse.expected[2] < np.inf


def test_bands_hold_the_median_of_the_best_of_k():
    generator, inside = np.random.default_rng(0), []
    truth = -np.log1p(-(1 - 0.5 ** (1 / np.arange(1, 16))))  # of exponential losses
    for _ in range(400):
        curve = tuning_curve(generator.standard_exponential(15), 0.9)
        inside.append(((curve.low <= truth) & (truth <= curve.high)).all())
    assert 0.87 <= np.mean(inside) <= 0.97  # a step of the band may hold more


def swept(multiplier: float, decay=(0.01, 0.03, 0.1, 0.3, 1.0), best=0.1, arm=0) -> pd.DataFrame:
    rows = planted_arms(multiplier, noise=0.001)[arm]
    tried = [
        rows.assign(weight_decay=value, L=rows["L"] * (1 + 0.02 * np.log10(value / best) ** 2))
        for value in decay
    ]
    return pd.concat(tried, ignore_index=True)


def table(frame):
    return from_frame(frame, params="N", data="D", flops="C", loss="L")


def test_23_best_value_at_the_edge_of_its_sweep():
    # Dodge 2019: which of two models is the better changes with the number of tries.
    assert 23 not in codes(table_findings(table(swept(1.0))))
    (found,) = untuned(table(swept(1.0, best=3.0)))
    assert found.code == 23 and found.numbers == {
        "column": "weight_decay",
        "edges": 12,
        "sweeps": 12,
    }
    measured = swept(1.0).assign(train_loss=lambda rows: rows["L"] - 0.01)
    assert not untuned(table(measured))


def test_cells_count_at_their_best():
    arms = {"a": table(swept(2.0)), "b": table(swept(2.0, best=0.5, arm=1))}
    found = tune(arms, ["weight_decay"])
    assert set(found.arms["a"]["weight_decay"]) == {0.1}
    assert [each.name for each in found.findings["a"]] == ["picked"]
    assert set(found.arms["b"]["weight_decay"]) == {0.3} and len(found.arms["b"]) == 24
    assert len(found.curves) == 12 and all(len(c["a"].tries) == 5 for c in found.curves.values())
    few = tune(
        arms | {"b": table(swept(2.0, decay=(0.1, 0.3, 1.0), best=1.0, arm=1))}, ["weight_decay"]
    )
    _, edge, count = few.findings["b"]
    assert "first or last tried in 12 of 12" in edge.message
    assert "a was tried at 5 settings a cell, b at 3" in count.message


def test_many_tries_show_which_arm_is_better():
    generator = np.random.default_rng(0)
    frame = pd.DataFrame(
        {"N": 1e6, "D": 1e8, "C": 6e14, "learning_rate": np.geomspace(1e-4, 1, 80)}
    )
    arms = {
        name: table(frame.assign(L=best + generator.gamma(2, 0.1, 80)))
        for name, best in (("a", 2.5), ("b", 2.0))
    }
    ((helps,),) = [each.values() for each in tune(arms, ["learning_rate"]).helps.values()]
    assert helps[0] == 1 and len(helps) > 5
    back = tune(dict(reversed(arms.items())), ["learning_rate"]).helps
    assert list(back.values()) == [{"a": []}]


def test_tuned_from_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    swept(2.0).to_csv("a.csv")
    swept(2.0, best=0.3, arm=1).to_csv("b.csv")
    command = ["compare", "a.csv", "b.csv", "--flops", "C", "--loss", "L", "--params", "N"]
    assert main([*command, "--tuned", "weight_decay", "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["multiplier"]["low"] < 2 < content["multiplier"]["high"] and content["paired"]
    (cell, *others), _ = content["tuning"].items(), None
    assert len(others) == 11 and set(cell[1]["curves"]) == {"a", "b"}
    assert main([*command, "--tuned", "weight_decay"]) == 0
    assert "untuned" in capsys.readouterr().out
    assert main([*command, "--tuned", "weight_deca"]) == 2
    assert "did you mean 'weight_decay'" in capsys.readouterr().err
