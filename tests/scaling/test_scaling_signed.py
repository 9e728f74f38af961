"""Losses of zero or less through every verb: where zero lies makes no difference."""

import json

import numpy as np
import pandas as pd
import pytest

from research.__main__ import main
from research.scaling import laws
from research.scaling.backtest import backtest
from research.scaling.doubt.signs import odd_signs
from research.scaling.engine.objective import L2
from research.scaling.fit import fit_law
from research.scaling.isoflop.fit import isoflop
from research.scaling.next.runs import next_runs
from research.scaling.overview import overview
from research.scaling.plan.budget import plan
from research.scaling.plan.prediction import predict
from research.scaling.table import from_frame
from tests.scaling.planted import grid, losses, result, valleys, write_study

SHIFTS = (4.2, 9.0)  # the first leaves losses on both sides of zero, the second none above
SIGNED = laws.SIGNED_LAWS["signed_chinchilla"]


def runs(params, data, loss):
    frame = pd.DataFrame({"N": params, "D": data, "L": loss, "C": 6 * params * data})
    return from_frame(frame, params="N", data="D", loss="L", flops="C", signed_loss=True)


@pytest.fixture(scope="module")
def surface():
    """Sizes, data and their losses, with noise of the loss itself."""
    params, data = grid(6, 5, 2.5)
    noise = 0.003 * np.random.default_rng(0).standard_normal(len(params))
    return params, data, losses(params, data) + noise


@pytest.fixture(scope="module")
def fits(surface):
    params, data, loss = surface
    tables = [runs(params, data, loss - shift) for shift in SHIFTS]
    return [fit_law(each, SIGNED, objective=L2, bootstrap=100) for each in tables]


def test_a_floor_of_either_sign_is_the_positive_laws_less_the_shift(surface, fits):
    params, data, loss = surface
    plain = fit_law(runs(params, data, loss), objective=L2, bootstrap=100)
    assert plain.parameters is not None
    for fit, shift in zip(fits, SHIFTS, strict=True):
        assert fit.refused is None and not fit.log
        moved = {**plain.parameters, "E": plain.parameters["E"] - shift}
        assert fit.parameters == pytest.approx(moved, rel=1e-5)
        assert fit.noise == pytest.approx(0.003, rel=0.3), "of the loss itself"


def test_plans_and_predictions_move_with_zero(fits):
    contents = [json.loads(json.dumps(fit.to_json())) for fit in fits]
    apart = SHIFTS[1] - SHIFTS[0]
    first, second = (plan(content, 1e20) for content in contents)
    assert first.best.params == pytest.approx(second.best.params, rel=1e-4)
    assert first.best.loss - second.best.loss == pytest.approx(apart, abs=1e-4)
    assert not first.relative and first.curve[0].excess == pytest.approx(
        second.curve[0].excess, rel=1e-3
    )
    low, high = first.best.run_interval or (np.nan, np.nan)
    assert low < first.best.loss < high and high - low < 0.05
    served = plan(contents[1], 1e20, inference=1e11)
    assert served.serving and served.serving.params < served.best.params
    for content, fit in zip(contents, fits, strict=True):
        found = predict(content, {"N": 1e8, "D": 1e10})
        ends = fit.predict_interval(noise=True, N=1e8, D=1e10)
        np.testing.assert_array_equal(found.run_interval, ends)


def test_backtests_are_of_the_loss_itself(surface):
    params, data, loss = surface
    tested = [backtest(runs(params, data, loss - s), "flops:1decade", objective=L2) for s in SHIFTS]
    for found in tested:
        assert not found.log and [each.law for each in found.laws] == ["signed_chinchilla"]
        assert found["signed_chinchilla"].rmse < 0.01 < found["last value"].rmse
        assert found.to_json()["errors"] == "loss"
    for name in ("last value", "signed_chinchilla"):
        np.testing.assert_allclose(tested[0][name].error, tested[1][name].error, atol=1e-5)


def test_valleys_move_with_zero():
    params, data = valleys()
    noise = 0.002 * np.random.default_rng(1).standard_normal(len(params))
    loss = losses(params, data) + noise
    first, second = (isoflop(runs(params, data, loss - s), bootstrap=200) for s in SHIFTS)
    plain = isoflop(runs(params, data, loss), bootstrap=200)
    assert first.params_exponent == pytest.approx(second.params_exponent, rel=1e-9)
    assert first.params_exponent == pytest.approx(plain.params_exponent, abs=0.03)
    assert first.noise == pytest.approx(0.002, rel=0.5) and not first.log and plain.log
    for one, other in zip(first.kept, second.kept, strict=True):
        assert one.loss == pytest.approx((other.loss or 0.0) + SHIFTS[1] - SHIFTS[0], abs=1e-9)


def test_next_predicts_losses_of_either_sign():
    params, data = grid(8, 5, 2.5)
    pool, loss = {"N": params, "D": data}, losses(params, data, noise=0.002)
    target = {"N": np.array([1e10, 3e10]), "D": np.array([3e11, 6e11])}
    found = [
        next_runs(pool, params * data, lambda row, s=s: loss[row] - s, target, budget=0.2)
        for s in SHIFTS
    ]
    assert found[0].rows == found[1].rows and not found[0].log
    np.testing.assert_allclose(
        np.array(found[0].prediction) - np.array(found[1].prediction), 4.8, atol=1e-9
    )
    truth = losses(target["N"], target["D"]) - SHIFTS[0]
    np.testing.assert_allclose(np.array(found[0].prediction), truth, atol=0.03)
    low, high = np.array(found[0].low), np.array(found[0].high)
    assert ((low < truth) & (truth < high)).all()


@pytest.mark.parametrize(
    ("loss", "odd"),
    [
        ([2.9, 2.8, 2.7, 2.6, 2.5, 0.0], [5]),
        ([2.9, 2.8, 2.7, 2.6, 2.5, -1.0, -1.0], [5, 6]),
        ([2.9, 2.8, 2.7, 2.6, -2.5, 2.4], [4]),
        ([0.4, 0.2, 0.1, 0.05, 0.02, -0.1, -0.2], []),
        ([-1.35, -1.5, -1.6], []),
        ([0.4, -1.2], []),
        ([2.9, 2.8, 2.7, 2.6, 2.5, 2.4], []),
    ],
)
def test_a_few_losses_far_below_the_others_are_mistakes(loss, odd):
    assert np.flatnonzero(odd_signs(np.array(loss))).tolist() == odd


def run(words: str) -> int:
    return main(words.split())


TABLE = "table.csv --params N --data D --loss L"


@pytest.mark.parametrize("verb", ["fit", "backtest", "isoflop", "next"])
def test_a_missing_loss_written_as_zero_is_named(verb, surface, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    params, data, loss = surface
    # In every row of one size, so that a choice of rows comes upon it.
    frame = pd.DataFrame({"N": params, "D": data, "L": np.where(data == data.max(), 0.0, loss)})
    frame.to_csv("table.csv", index=False)
    words = f"{verb} {TABLE}"
    if verb == "next":
        words = f"next --pool {TABLE} --cost N --target table.csv --budget 1"
    assert run(words) == 2
    said = capsys.readouterr()
    assert said.err.count("\n") == 1 and "column 'L' is not positive in row" in said.err
    assert said.out == ""


@pytest.mark.slow
def test_the_commands_say_in_a_line_what_errors_are_of(surface, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    params, data, loss = surface
    pd.DataFrame({"N": params, "D": data, "L": loss - 9}).to_csv("table.csv", index=False)
    for words in (
        f"fit {TABLE} --law signed_frontier --bootstrap 100",
        f"backtest {TABLE} --law signed_frontier --bootstrap 100",
        f"isoflop {TABLE} --bootstrap 100",
        f"next --pool {TABLE} --cost N*D --target table.csv --law additive",
    ):
        assert run(words) == 0
        assert "losses of zero or less: errors are of the loss itself" in capsys.readouterr().out
    assert run(f"fit {TABLE}") == 2
    assert "give --law signed_chinchilla" in capsys.readouterr().err
    assert run(f"fit {TABLE} --objective huber:1e-3") == 2
    assert "'L' is not positive in rows 1, 2" in capsys.readouterr().err


def test_a_run_folder_of_negative_scores_is_summarised(tmp_path):
    params, data = valleys()
    budgets = np.repeat(np.logspace(17, 21, 5), 7)
    rows = zip(np.round(params), data, losses(params, data, noise=1e-3) - 9, budgets, strict=True)
    text = overview(write_study(tmp_path / "study", [result(*row) for row in rows]), bootstrap=100)
    assert "isoFLOP: N_opt ~ C^0.4" in text and "diverged" not in text
    assert text.count("E of either sign") == 2 and "not fitted" not in text
    assert "mean error 0.0" in text  # of the loss itself, no share of it
