"""`python -m research evaluate`: scores of a run that has ended, which it leaves as it was."""

import sys
import types

import pytest

from research import evaluation, study
from research.__main__ import main
from research.evaluation.intervals import Estimate
from research.run import files, record
from research.train import train
from tests import tiny


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run's folder and its result."""
    folder = tmp_path_factory.mktemp("study")
    spec = tiny.write(folder, [{"train.steps": 12}])
    config = study.load_config(spec, ["--config.train.steps=12"])
    return folder / "run", train(config, folder / "run")


@pytest.fixture
def measured(monkeypatch):
    """An evaluator that sees no batches and gives an interval."""
    module = types.ModuleType("shown_measured")
    kind = {"unit": "share of words", "kind": "estimate", "better": "higher", "chance": 0.5}
    module.score_kinds = lambda config: {"measured": kind}  # type: ignore[attr-defined]
    value = Estimate(0.25, (0.125, 0.5), 7, "by hand")
    module.measure = lambda config, params: {"measured": value}  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "shown.measured", module)
    return "shown.measured"


def test_scores_of_a_run_are_those_of_its_end(run, measured, tmp_path, capsys):
    folder, result = run
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    words = ["--run", str(folder), "--evaluators", f"validation,{measured}"]
    assert main(["evaluate", *words, "--out", str(tmp_path / "scores.json")]) == 0
    head, likelihood, other = capsys.readouterr().out.splitlines()
    assert head.split()[:4] == ["name", "value", "95%", "interval"]
    assert likelihood.split()[:2] == ["likelihood", f"{result['score']['value']:.6g}"]
    shown = "measured 0.25 0.125 to 0.5 share of words, chance 0.5 estimate validation 7"
    assert other.split() == shown.split()
    scores = record.read_json(tmp_path / "scores.json")
    assert scores["likelihood"] == result["score"]
    assert scores["measured"]["interval"] == [0.125, 0.5]
    assert scores["measured"]["signature"] == "by hand"
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    held: files.Score = record.held_to(files.Score, scores["measured"], "scores.json")
    assert held.get("interval") == (0.125, 0.5)


def test_its_own_evaluators_and_fewer_examples(run, capsys):
    folder, _ = run
    assert main(["evaluate", "--run", str(folder), "--examples", "9"]) == 0
    head, row = capsys.readouterr().out.splitlines()
    assert "interval" not in head and row.split()[-1] == "9"


@pytest.mark.parametrize(
    "words, said",
    [
        (["--evaluators", "calibratoin"], "did you mean 'calibration'"),
        (
            ["--evaluators", "by_position"],
            "'by_position' needs cross_entropy, which config.family=",
        ),
        (["--evaluators", "validation,validation"], "two of them give 'likelihood'"),
        (["--examples", "0"], "--examples 0 must be at least 1"),
        (["--out", "scores.csv"], "--out scores.csv: scores need a name ending in .json"),
    ],
)
def test_bad_evaluations_are_one_line(run, capsys, words, said):
    assert main(["evaluate", "--run", str(run[0]), *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and said in line


def test_no_run(tmp_path, capsys):
    assert main(["evaluate", "--run", str(tmp_path)]) == 2
    assert "not a run folder" in capsys.readouterr().err


def test_an_evaluator_needs_a_way_to_judge(monkeypatch):
    module = types.ModuleType("shown_idle")
    module.score_kinds = dict  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "shown.idle", module)
    with pytest.raises(Exception, match="'shown.idle' lacks update, finish"):
        evaluation.load("shown.idle")
