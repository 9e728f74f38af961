"""Backtests: what is held out, who is fair to whom, and the law that `auto` takes."""

import json
from typing import Any

import numpy as np
import pytest

from research.__main__ import main
from research.errors import UserError
from research.scaling import laws
from research.scaling.backtest import LAST_VALUE, Scored, backtest, candidates, held_out
from research.scaling.choice import _inflation, calibrated, choose, folds
from research.scaling.fit import fit_law
from research.scaling.plan.budget import plan
from tests.scaling.planted import TRUTH, grid, losses, table

FEW = [laws.CHINCHILLA, laws.get("kaplan")]


def runs(noise=0.003, **columns):
    params, data = grid(num_sizes=7, num_amounts=6, decades=2.5)
    return table(params, data, losses(params, data, noise=noise), **columns)


@pytest.mark.slow
def test_a_run_far_ahead_of_the_others_is_not_all_that_is_held_out():
    params, data = grid(num_sizes=5, num_amounts=5)
    params, data = np.append(params, 1e11), np.append(data, 1e12)
    ladder = table(params, data, losses(params, data, noise=0.002))
    assert held_out(ladder, "flops:1decade").sum() == 1
    assert {mask.sum() for mask in folds(ladder).values()} == {1}, "better than none"
    nearer = ladder.select(np.append(np.ones(25, bool), False))
    far = table(
        np.append(params[:-1], 8e9), np.append(data[:-1], 8e10), np.append(nearer["L"], 1.9)
    )
    assert set(folds(far)) == {"flops:1.5decade", "flops:2decade"}
    assert choose(ladder).law is not None


def test_what_a_holdout_selects():
    whole = runs()
    flops = whole["C"]
    assert (held_out(whole, "flops:0.5decade") == (flops > flops.max() / 10**0.5)).all()
    assert (held_out(whole, "params:largest") == (whole["N"] == whole["N"].max())).all()
    assert (held_out(whole, "data:largest") == (whole["D"] == whole["D"].max())).all()
    assert (held_out(whole, "N > 1e9") == (whole["N"] > 1e9)).all()
    tags: dict[str, Any] = {"group": ["a", "b"] * 21, "my tag": ["x", "x", "y"] * 14}
    own = runs(**tags)
    assert (held_out(own, "group == 'a'") == (np.arange(42) % 2 == 0)).all()
    assert held_out(own, "`my tag` == 'y'").sum() == 14
    with pytest.raises(UserError, match="--holdout: .*write `my tag`, in backticks"):
        held_out(own, "my tag == 'y'")


@pytest.mark.parametrize(
    "text",
    ["flops:many", "flops:9decade", "N", "N > 0", "N > 1e99", "colour == 'red'", "", "params:"],
)
def test_other_holdouts_are_refused_in_a_line(text):
    with pytest.raises(UserError, match="--holdout") as caught:
        held_out(runs(), text)
    assert "\n" not in str(caught.value)


def test_held_out_losses_are_not_read():
    whole = runs()
    mask = held_out(whole, "flops:0.5decade")
    spoilt = whole.frame.assign(L=np.where(mask, whole["L"] * 3, whole["L"]))
    other = table(spoilt["N"], spoilt["D"], spoilt["L"])
    honest, changed = (backtest(t, mask, FEW) for t in (whole, other))
    for law in ("chinchilla", "kaplan", LAST_VALUE):
        np.testing.assert_allclose(
            honest[law].error - np.log(3), changed[law].error, rtol=1e-12, atol=1e-12
        )


def test_the_planted_law_predicts_best_and_its_intervals_hold():
    result = backtest(runs(), "flops:1.3decade", FEW)
    assert [each.law for each in result.tested] == ["chinchilla", "kaplan", LAST_VALUE]
    assert result["chinchilla"].rmse < 0.01 and result["chinchilla"].coverage > 0.7
    assert result[LAST_VALUE].coverage is None and not result.findings


def test_the_last_value_is_the_best_loss_seen_of_that_size():
    whole = runs(noise=0.0)
    result = backtest(whole, "data:largest", [])
    seen = whole["D"] < whole["D"].max()
    expected = [
        np.log(whole["L"][seen & (whole["N"] == size)].min() / loss)
        for size, loss in zip(whole["N"][~seen], whole["L"][~seen], strict=True)
    ]
    np.testing.assert_allclose(result[LAST_VALUE].error, expected, rtol=1e-9)


def test_21_a_law_that_cannot_beat_the_last_value_says_so():
    params, data = grid()
    flat = 3.0 * np.exp(0.01 * np.random.default_rng(0).standard_normal(len(params)))
    loss = np.where(data == data.max(), flat.min(), flat + 2 * (data < 2e9))
    result = backtest(table(params, data, loss), "data:largest", [laws.CHINCHILLA])
    assert result.tested[0].law == LAST_VALUE
    assert [finding.code for finding in result.findings] == [21]


def test_a_law_with_too_few_rows_is_refused_and_last():
    result = backtest(runs(), "N > 1.1e7", FEW)
    assert result.tested[0].law == LAST_VALUE
    assert all(each.refused for each in result.tested[1:])


def test_candidates_read_what_varies_and_nothing_that_is_not_there():
    names = {law.name for law in candidates(runs())}
    assert {"chinchilla", "kaplan"} <= names and "muennighoff" not in names
    assert "frontier" not in names and "step_batch" not in names
    with_unique = {law.name for law in candidates(runs(U=np.full(42, 1e10)))}
    assert with_unique == names | {"muennighoff"}


def test_auto_takes_the_law_that_extrapolates_best_and_says_by_how_much():
    choice = choose(runs(), FEW)
    assert choice.law is laws.CHINCHILLA
    assert choice.scores["chinchilla"] < choice.scores["kaplan"] < choice.scores[LAST_VALUE]
    assert "chinchilla" in choice.line and f"{choice.scores['kaplan']:.4f}" in choice.line


def test_inflation_is_the_quantile_of_error_over_half_width():
    error = np.linspace(-1, 1, 101)
    each = Scored("a law", error, low=error - 0.5, high=error + 0.5)
    factor, count = _inflation([each], 0.9)
    assert count == 101
    assert np.mean(np.abs(error) <= 0.5 * factor) == pytest.approx(0.91, abs=0.011)
    assert _inflation([Scored("sure", error, error - 5, error + 5)], 0.9)[0] == 1.0


def test_backtests_widen_the_intervals_of_predictions_and_of_the_plan():
    # Sizes pay ever less: no law of powers, so that chinchilla's own intervals are too narrow.
    params, data = grid(num_sizes=7, num_amounts=6, decades=2.5)
    loss = losses(params, data, noise=0.001) + 0.05 * np.log10(params / 1e7) ** 2
    bent = table(params, data, loss)
    plain = fit_law(bent, bootstrap=100)
    wide = calibrated(plain, bent)
    assert wide.inflation > 1.2 and wide.num_tested > 10
    assert wide.intervals == plain.intervals, "the parameters' are those of the bootstrap"
    ahead: dict[str, Any] = {"N": 1e10, "D": 1e12}
    middle = np.log(plain.predict(**ahead))
    for noise in (False, True):
        narrow, wider = (np.log(f.predict_interval(noise, **ahead)) - middle for f in (plain, wide))
        np.testing.assert_allclose(wider, wide.inflation * narrow, rtol=1e-9)
    own, planned = (plan(f.to_json(), 1e19, anyway=True) for f in (plain, wide))
    assert f"x{wide.inflation:.2f}" in planned.prediction_method
    assert own.prediction_method == "bootstrap" and own.best.loss == planned.best.loss
    for name in ("loss_interval", "run_interval"):
        narrow, wider = (
            np.log(getattr(each.best, name)) - np.log(own.best.loss) for each in (own, planned)
        )
        np.testing.assert_allclose(wider, wide.inflation * narrow, rtol=1e-9)
    assert planned.best.params_interval == own.best.params_interval
    assert wide.optimal(1e19).loss_interval[1] > plain.optimal(1e19).loss_interval[1]
    few = table(params[:9], data[:9], loss[:9])
    assert calibrated(plain, few) is plain, "no fold, no calibration"


def test_the_command_prints_what_it_writes(tmp_path, capsys):
    whole = runs()
    whole.frame[["N", "D", "L"]].to_csv(tmp_path / "runs.csv", index=False)
    words = ["backtest", str(tmp_path / "runs.csv"), "--params", "N", "--data", "D"]
    words += ["--loss", "L", "--law", "chinchilla", "--bootstrap", "100"]
    assert main([*words, "--json", "--out", str(tmp_path / "out.json")]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((tmp_path / "out.json").read_text())
    assert [row["law"] for row in printed["laws"]] == ["chinchilla", LAST_VALUE]
    assert main(words) == 0
    assert "chinchilla errs least" in capsys.readouterr().out


@pytest.mark.slow
def test_fit_auto_writes_its_choice(tmp_path, capsys):
    whole = runs()
    frame = whole.frame[["N", "D", "L"]]
    frame.to_csv(tmp_path / "runs.csv", index=False)
    words = ["fit", str(tmp_path / "runs.csv"), "--params", "N", "--data", "D", "--loss", "L"]
    assert (
        main([*words, "--law", "auto", "--bootstrap", "100", "--out", str(tmp_path / "l.json")])
        == 0
    )
    written = json.loads((tmp_path / "l.json").read_text())
    assert written["choice"]["law"] == written["law"]
    assert written["inflation"] == written["choice"]["inflation"] and written["num_tested"] > 0
    said = f"bootstrap widened x{written['inflation']:.2f} by backtests"
    assert said in written["prediction_method"] and said in capsys.readouterr().out
    assert written["choice"]["rmse"][written["law"]] < written["choice"]["rmse"][LAST_VALUE]
    assert written["refused"] is None and written["draws"] and set(written["range"]) == set("NDC")
    assert TRUTH["E"] * 0.8 < written["parameters"].get("E", TRUTH["E"]) < TRUTH["E"] * 1.2
