"""Best rates along an axis: exact without noise, inside intervals with it, none at an edge."""

import json

import numpy as np
import pandas as pd
import pytest

from research.__main__ import main
from research.errors import UserError
from research.scaling import from_frame, transfer
from research.scaling.transfer import power_law
from tests.scaling.planted import planted_rates, rates_study


def found(frame: pd.DataFrame, **options):
    return transfer(from_frame(frame, loss="L"), "width", "lr", **options)


def test_without_noise_it_is_what_was_planted():
    each = found(planted_rates(exponent=-0.3))
    assert each.exponent == pytest.approx([-0.3] * 3) and each.moved == pytest.approx([-1.2] * 3)
    assert each.regret == pytest.approx([np.expm1(0.03 * 1.2**2)] * 3)
    assert not each.at_least and each.says == "moves"
    rates = [best.rate.value for best in each.best if best.rate]
    assert rates == pytest.approx(2.0 ** (-5 - 0.3 * np.arange(5)))
    assert found(planted_rates(exponent=-0.2)).says == "stays"  # within a factor of two


def test_a_rate_that_no_run_reaches_costs_at_least_that_of_the_nearest():
    each = found(planted_rates(exponent=-1.0))  # 2^-5 at first; 2^-6 is the highest tried at last
    assert each.at_least and each.regret
    assert each.regret.value == pytest.approx(np.expm1(0.03 * 3**2))


@pytest.mark.slow
@pytest.mark.parametrize("lopsided", [0.0, 0.003])
def test_intervals_hold_planted_drifts(lopsided):
    drifts, costs, rates, truth = [], [], [], 2.0 ** (-5.2 - 0.4 * np.arange(5))
    for draw in range(200):
        each = found(planted_rates(-0.4, 0.01, lopsided, first=-5.2, draw=draw))
        assert each.exponent and each.regret
        drifts.append(each.exponent.low <= -0.4 <= each.exponent.high)
        costs.append(each.regret.low <= np.expm1(0.03 * 1.6**2) <= each.regret.high)
        ends = [best.rate for best in each.best if best.rate]
        rates += [low <= value <= high for value, (_, low, high) in zip(truth, ends, strict=True)]
    assert 0.92 <= np.mean(drifts) <= 0.97
    if not lopsided:
        assert 0.92 <= np.mean(costs) <= 0.97 and 0.92 <= np.mean(rates) <= 0.97


def test_a_best_rate_at_the_edge_is_none():
    frame = planted_rates(exponent=-0.5)
    last = frame[(frame.width < 256) | (frame.lr <= 2.0**-7)]
    *others, edge = found(last).best
    assert edge.why == "edge: the highest rate tried, 0.0078125, is best" and edge.rate is None
    assert all(best.why is None for best in others)
    few = found(last[last.width > 32])
    assert (
        few.refused
        == f"2 of 3 values of width have a best rate; it takes 3 (width 256: {edge.why})"
    )
    assert few.exponent is few.moved is few.regret is None and few.says == "unknown"
    rising = found(frame.assign(L=lambda rows: 3 * np.exp(-0.1 * np.abs(np.log2(rows.lr) + 6))))
    assert all(best.why for best in rising.best)


@pytest.mark.parametrize(
    "change, said",
    [
        (lambda f: pd.concat([f, f]), "two runs at width 16, lr 0.00390625 and seed 0"),
        (lambda f: f.rename(columns={"width": "widht"}), "did you mean 'widht'"),
        (lambda f: f.assign(lr=-f.lr), "--rate lr: expected positive numbers"),
        (lambda f: f.assign(width="wide"), "--over width: expected positive numbers"),
    ],
)
def test_tables_that_cannot_be(change, said):
    with pytest.raises(UserError, match=said):
        found(change(planted_rates()))


def test_a_law_of_rates_and_batches():
    """Li et al. 2025: rate = c N^a D^b, with what is planted inside in 92 to 97% of tables."""
    generator = np.random.default_rng(0)
    n, d = (
        each.ravel() for each in np.meshgrid(np.geomspace(1e5, 1e8, 4), np.geomspace(1e7, 1e9, 4))
    )
    exact = 1.79 * n**-0.713 * d**0.307
    law = power_law(exact, {"N": n, "D": d})
    assert [law[name].value for name in ("c", "N", "D")] == pytest.approx([1.79, -0.713, 0.307])
    inside = []
    for _ in range(400):
        law = power_law(exact * np.exp(0.1 * generator.standard_normal(16)), {"N": n, "D": d})
        truth = {"c": 1.79, "N": -0.713, "D": 0.307}
        inside.append([law[k].low <= value <= law[k].high for k, value in truth.items()])
    assert (0.92 <= np.mean(inside, 0)).all() and (np.mean(inside, 0) <= 0.975).all()
    with pytest.raises(UserError, match="16 best values do not tell a power of N and of D"):
        power_law(exact, {"N": n, "D": 20 * n})
    assert np.isinf(power_law(exact[:2], {"N": n[:2]})["N"].high)


def test_from_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rates_study(tmp_path / "runs" / "depths", part="text_depth", key="depth", noise=0.003)
    command = ["transfer", "runs/depths", "--over", "model.depth"]
    assert main([*command, "--figure", "depth.png", "--json"]) == 0
    arms = json.loads(capsys.readouterr().out)["arms"]
    assert [(row["arm"], row["says"]) for row in arms] == [("adamw", "moves"), ("mup", "stays")]
    assert all((tmp_path / name).stat().st_size > 1000 for name in ("depth.png", "depth.svg"))
    assert main(command) == 0
    assert "text_depth mup, best rate at model.depth 16: 0.03" in capsys.readouterr().out
    for words, said in (
        (["--figure", "depth.pdf"], "expected a name that ends in .png or .svg"),
        (["--rate", "learning_rat"], "--rate: no column 'learning_rat' in runs/depths"),
        (["--over", "model.dept"], "--over: no column 'model.dept'"),
        (["--over", "size"], "--over size: fewer than 3 values"),
        (["--over", "batch_size"], "--over batch_size: fewer than 3 values"),
    ):
        assert main([*command, *words]) == 2
        printed = capsys.readouterr().err
        assert printed.startswith("error: ") and printed.count("\n") == 1 and said in printed


def test_powers_from_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    n, d = np.meshgrid(np.geomspace(32, 1024, 6), np.geomspace(1e7, 1e9, 4))
    rows = [
        pd.DataFrame({"width": n.ravel(), "D": d.ravel(), "y": 2 * n.ravel() ** power, "arm": arm})
        for arm, power in (("standard", 0.5), ("mup", 0.0))
    ]
    pd.concat(rows).assign(y=lambda f: f.y * f.D**-0.25).to_csv("rates.csv", index=False)
    command = ["power", "rates.csv", "--loss", "y", "--over", "width"]
    assert main([*command, "--data", "D", "--over", "D", "--json"]) == 0
    standard, mup = json.loads(capsys.readouterr().out)["arms"]
    assert standard["width"]["value"] == pytest.approx(0.5) and standard["arm"] == "standard"
    assert mup["width"]["value"] == pytest.approx(0, abs=1e-9)
    assert standard["D"]["value"] == pytest.approx(-0.25) and mup["c"]["value"] == pytest.approx(2)
    assert main([*command, "--figure", "growth.png"]) == 0
    assert "  standard          +0.500  [" in capsys.readouterr().out
    assert all((tmp_path / name).stat().st_size > 1000 for name in ("growth.png", "growth.svg"))
    for words, said in (
        (["--figure", "growth.pdf"], "expected a name that ends in .png or .svg"),
        (
            ["--data", "D", "--over", "D", "--figure", "growth.png"],
            "--figure draws against one column",
        ),
        (["--over", "widht"], "--over: no column 'widht' in rates.csv (did you mean 'width'?)"),
        (["--over", "arm"], "--over arm: expected positive numbers"),
        (["--over", "width"], "do not tell a power of width: vary each apart"),
    ):
        if words == ["--over", "width"]:
            pd.concat(rows).query("width == 32").to_csv("rates.csv", index=False)
            words = []
        assert main([*command, *words]) == 2
        printed = capsys.readouterr().err
        assert printed.startswith("error: ") and printed.count("\n") == 1 and said in printed
