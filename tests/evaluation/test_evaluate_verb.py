"""`python -m research evaluate`: scores of a run that has ended, which it leaves as it was."""

import sys
import types

import pandas as pd
import pytest

from launch import local
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
        (["--features", "glyps"], "config.evaluation.features='glyps' is not pixels, glyphs"),
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


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """The folder of a sweep of two runs."""
    folder = tmp_path_factory.mktemp("sweep")
    spec = tiny.write(folder, [{"train.steps": 12}, {"train.steps": 18}])
    loaded = study.load(spec)
    study.write_description(loaded, folder / "tiny")
    local.work(loaded, folder / "tiny")
    return folder / "tiny"


@pytest.fixture
def counting(monkeypatch):
    """An evaluator that gives what `config.sampling` says, and the configs that it saw."""
    module, seen = types.ModuleType("shown_counting"), []
    module.score_kinds = lambda config: {  # type: ignore[attr-defined]
        "asked": {"unit": "samples", "kind": "exact", "better": "higher"}
    }

    def measure(config, params):
        seen.append(config.sampling.num)
        return {"asked": Estimate(config.sampling.num, (0.0, 9.0), 7)}

    module.measure = measure  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "shown.counting", module)
    return "shown.counting", seen


def test_a_sweep_is_scored_at_every_setting_once(sweep, counting, tmp_path, capsys):
    name, seen = counting
    out = tmp_path / "scores.csv"
    words = ["evaluate", "--run", str(sweep), "--evaluators", name, "--out", str(out)]
    words += ["--over", "num=2,3"]
    assert main(words) == 0
    whole, table = out.read_bytes(), pd.read_csv(out)
    assert seen == [2, 3, 2, 3] and table.num.tolist() == seen and table.asked.tolist() == seen
    assert table.id.nunique() == 2 and set(table.asked_high) == {9.0}
    trials = {each["id"]: each for each in files.read_runs(sweep).trials}
    assert table.flops.tolist() == pytest.approx([trials[each]["flops"] for each in table.id])
    out.write_bytes(b"".join(whole.splitlines(keepends=True)[:-1]))  # the last row was not reached
    seen.clear()
    assert main(words) == 0
    assert seen == [3] and out.read_bytes() == whole


@pytest.mark.parametrize(
    "words, said",
    [
        (["--over", "nmu=2"], "did you mean 'num'"),
        (["--over", "num"], "expected KEY=A,B such as steps=8,16"),
        (["--over", "num=two"], "config.sampling.num"),
        (["--part", "chains"], "did you mean 'chain'"),
        (["--examples", "9"], "--examples and --ema are of one run"),
        (["--out", "scores.json"], "scores of a sweep need a name ending in .csv"),
    ],
)
def test_bad_scans_are_one_line_and_score_nothing(sweep, counting, capsys, words, said):
    name, seen = counting
    assert main(["evaluate", "--run", str(sweep), "--evaluators", name, *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and said in line and not seen


def test_another_table_is_not_written_over(sweep, counting, tmp_path, capsys):
    out = tmp_path / "other.csv"
    out.write_text("name,value\na,1\n")
    words = ["--run", str(sweep), "--evaluators", counting[0], "--over", "num=2"]
    assert main(["evaluate", *words, "--out", str(out)]) == 2
    assert "has no column 'id'" in capsys.readouterr().err
    assert out.read_text() == "name,value\na,1\n"


def test_a_setting_is_of_a_sweep(run, capsys):
    assert main(["evaluate", "--run", str(run[0]), "--over", "num=2"]) == 2
    assert "--over and --part are of a sweep" in capsys.readouterr().err
