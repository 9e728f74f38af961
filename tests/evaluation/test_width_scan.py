"""Every length of average by its score: the table, the best, and what its interval is made of."""

import csv
import math
import sys
import types

import numpy as np
import pytest

from research import evaluate, evaluation, study, trained, width_scan
from research.__main__ import main
from research.run import record
from research.train import train
from tests import tiny

FLAGS = (
    "--config.checkpoint.snapshots=1",
    "--config.train.ema_widths=0.05,0.1",
    "--config.evaluation.examples=24",
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    config = study.load_config(tiny.write(folder, [{"train.steps": 25}]), FLAGS)
    train(config, folder / "run")
    return folder / "run"


@pytest.mark.slow
def test_the_best_width_is_found_and_scored(run, tmp_path, capsys):
    words = ["evaluate", "--run", str(run), "--ema"]
    assert main([*words, "best", "--out", str(tmp_path / "best.json")]) == 0
    *table, head, row = capsys.readouterr().out.splitlines()
    assert table[0].startswith("width   gamma   off   likelihood")
    assert table[1].split()[:3] == ["last", "inf", "0.0%"]
    assert head.split()[0] == "name" and row.split()[0] == "likelihood"
    with (run / "ema.csv").open() as file:
        points = [{k: float(v) for k, v in each.items()} for each in csv.DictReader(file)]
    assert len(points) == 1 + width_scan.WIDTHS and len(table) == len(points) + 3
    # A row is what `--ema` of its width gives, and of the last weights what those do.
    found = trained.newest(run)
    config = evaluate.judged(run, (), None)
    last = evaluation.scores(config, found.state["params"])["likelihood"]["value"]
    assert points[0]["likelihood"] == pytest.approx(last, rel=1e-6)
    assert main([*words, str(points[5]["width"]), "--out", str(tmp_path / "one.json")]) == 0
    one = record.read_json(tmp_path / "one.json")["likelihood"]["value"]
    assert points[5]["likelihood"] == pytest.approx(one, rel=1e-6)
    best = min(points[1:], key=lambda each: each["likelihood"])
    assert best["low"] == best["high"] == 0
    for each in points:
        above = each["likelihood"] - best["likelihood"]
        assert each["low"] - 1e-6 <= above <= each["high"] + 1e-6
    value = record.read_json(tmp_path / "best.json")["likelihood"]["value"]
    assert value <= best["likelihood"] + 1e-4
    assert main(["sample", "--run", str(run), "--num", "2", "--ema", "0.07"]) == 0
    assert main(["sample", "--run", str(run), "--num", "2", "--ema", "0.9"]) == 2


def test_the_interval_is_of_differences(run, monkeypatch):
    """Batches differ far more than widths do: no difference of means is beyond all differences."""
    monkeypatch.setattr(width_scan, "WIDTHS", 4)
    config = evaluate.judged(run, (), None)
    points = width_scan.scan(run, config).points[1:]
    module = evaluation.load("validation")

    def by_batch(params):
        batches = evaluation.statistics(config, params, module)
        return np.array([module.finish(config, found)["likelihood"] for found, _ in batches])

    widths = [point.width for point in points]
    scores_WxB = np.array([*map(by_batch, trained.averages(trained.newest(run), widths))])
    assert scores_WxB.shape == (4, 3)
    for point, scores_B in zip(points, scores_WxB, strict=True):
        assert point.score == pytest.approx(scores_B.mean(), rel=1e-6)
        above_B = scores_B - scores_WxB[np.argmin(scores_WxB.mean(1))]
        assert above_B.min() - 1e-6 <= point.low <= point.high <= above_B.max() + 1e-6
        assert np.ptp(above_B) < 0.5 * np.ptp(scores_B)


def test_the_vertex_of_a_parabola():
    widths = np.geomspace(0.03, 0.2, 12)
    values = 2 + (np.log(widths) - math.log(0.08)) ** 2
    assert width_scan.vertex(widths.tolist(), values) == pytest.approx(0.08, rel=1e-9)
    assert width_scan.vertex(widths.tolist(), widths) == widths[0]
    assert width_scan.vertex(widths.tolist(), -widths) == widths[-1]


def test_what_scores_no_batches_is_refused(run, monkeypatch, capsys):
    module = types.ModuleType("shown_measured")
    kind = {"unit": "1", "kind": "estimate", "better": "higher"}
    module.score_kinds = lambda config: {"measured": kind}  # type: ignore[attr-defined]
    module.measure = lambda config, params: {"measured": 0.0}  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "shown.measured", module)
    words = ["evaluate", "--run", str(run), "--ema", "best", "--evaluators", "shown.measured"]
    assert main(words) == 2
    assert "evaluator 'shown.measured' scores no batches" in capsys.readouterr().err
