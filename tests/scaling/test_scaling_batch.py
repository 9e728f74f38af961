"""The critical batch: exact on planted curves, inside its interval with noise, told in one line."""

import json

import numpy as np
import pandas as pd
import pytest

from research.__main__ import main
from research.errors import UserError
from research.scaling import critical_batch
from research.scaling.critical_batch import steps_to
from tests.scaling.planted import batches_study, planted_batches


def test_the_step_at_a_loss_is_between_rows():
    curve = pd.DataFrame({"step": [10, 20, 40, 80], "loss": [4.0, 3.0, 2.0, 2.5]})
    assert steps_to(curve, 2.5) == pytest.approx(20 * 2**0.5)
    assert steps_to(curve, 4.5) == pytest.approx(10) and np.isnan(steps_to(curve, 1.9))


def test_curves_give_what_was_planted():
    found = critical_batch(planted_batches(), target=3.0)
    assert found.batch == pytest.approx([16.0] * 3, rel=1e-3)
    assert found.fewest_steps == pytest.approx([100.0] * 3, rel=1e-3)
    assert list(found.steps.rate) == [0.02] * 12  # of three rates
    assert found.noise_scale == pytest.approx(8.0)
    assert critical_batch(planted_batches()).batch.value == pytest.approx(16, rel=1e-3)


@pytest.mark.slow
def test_intervals_hold_the_planted_batch():
    inside = []
    for draw in range(200):
        found = critical_batch(planted_batches(noise=0.1, draw=draw, rates=(0.02,)), target=3.0)
        inside.append(found.batch.low <= 16 <= found.batch.high)
    assert 0.92 <= np.mean(inside) <= 0.97


def test_what_cannot_be_fitted_is_refused():
    rows = planted_batches()
    with pytest.raises(UserError, match="2 batch sizes; a critical one takes 3"):
        critical_batch(rows[rows.batch <= 4])
    with pytest.raises(UserError, match=r"batch 2 reaches a loss of .*, not 0.5"):
        critical_batch(rows, target=0.5)


def test_from_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    batches_study(tmp_path / "runs")
    assert main(["batch", "runs", "--target", "3", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["networks"]
    assert found["critical_batch"]["value"] == pytest.approx(16, rel=1e-3) and found["size"] == 32
    assert main(["batch", "runs"]) == 0
    assert "B_crit 16 [16, 16]" in capsys.readouterr().out
    curves = planted_batches().assign(size=32)
    curves.to_csv("curves.csv", index=False)
    assert main(["batch", "curves.csv", "--target", "3", "--json"]) == 0
    (same,) = json.loads(capsys.readouterr().out)["networks"]
    assert same["critical_batch"] == pytest.approx(found["critical_batch"], rel=1e-6)
    curves.drop(columns="rate").to_csv("bare.csv", index=False)
    for words, said in (
        (["nowhere"], "nowhere"),
        (["bare.csv"], "batch: no column 'rate' in bare.csv"),
        (["runs", "--target", "1"], "not 1"),
    ):
        assert main(["batch", *words]) == 2
        assert said in capsys.readouterr().err
