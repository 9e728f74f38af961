"""A study's folder as rows, whatever is in it, and the table that a terminal shows of them."""

import dataclasses
import json
import os
import time
from argparse import Namespace

import pytest

from research.__main__ import main
from research.errors import UserError
from research.run import watch
from research.run.goodput import State
from research.run.heartbeat import Beat
from tests.scaling import planted


def beat(state, **more):
    silent = more.pop("silent", 0.0)
    clock = State(began=time.time() - 90, at=time.time() - silent, spent={})
    return Beat(state, clock=clock, unit="tokens", steps=2000, **more)


def beats():
    return {
        "trunk": beat(
            "training", step=1500, loss=2.5, per_second=12_345.6, share=0.384, left=200.0
        ),
        "quick": beat("compiling", step=0),
        "gone": beat("training", step=3, loss=7.0, per_second=1.0, left=9.0, silent=7300.0),
        "paused": beat("stopped", step=10, silent=7300.0),
    }


RESULTS = {"good": ("finished", 1.25), "bad": ("diverged", None)}


def finish(folder, name):
    status, loss = RESULTS[name]
    more = {"status": status, "steps": 2000, "train_loss": 2.25}
    result = planted.result(1e6, 1e8, loss, 1e15, part="", **more)
    (folder / name).mkdir(exist_ok=True)
    (folder / name / "progress.json").unlink(missing_ok=True)
    (folder / name / "result.json").write_text(json.dumps(result))


@pytest.fixture
def study(tmp_path):
    trials = ["good", "bad", "quick", "gone", "paused", "later"]
    (tmp_path / "study.json").write_text(json.dumps({"trials": trials}))
    for name, said in beats().items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
        (tmp_path / name / "progress.json").write_text(json.dumps(dataclasses.asdict(said)))
    for name in RESULTS:
        finish(tmp_path, name)
    return tmp_path


def test_rows(study):
    """Trunks are among them; a damaged heartbeat or result costs its own row alone."""
    rows = {row.id: row for row in watch.read(study)}
    assert list(rows) == ["trunk", "good", "bad", "quick", "gone", "paused", "later"]
    for name, said in beats().items():
        assert dataclasses.replace(rows[name].beat, clock=said.clock) == said
    assert rows["later"].beat == Beat("waiting")
    assert rows["good"].score == "1.2500 bits/byte" and rows["bad"].beat.state == "diverged"
    assert rows["gone"].silent > 7299 and rows["paused"].silent == 0
    (study / "quick" / "progress.json").write_text('{"state": "train')
    (study / "good" / "result.json").write_text("5")
    watch._ended.cache_clear()
    rows = {row.id: row for row in watch.read(study)}
    assert [id for id, row in rows.items() if row.beat.state == "unreadable"] == ["good", "quick"]
    assert "progress.json is not JSON" in rows["quick"].score
    assert "good/result.json: expected an object, got 5" in rows["good"].score


def test_what_is_printed(study, capsys):
    assert main(["watch", str(study)]) == 0
    head, *lines, last = capsys.readouterr().out.splitlines()
    assert head.split() == ["run", "step", "loss", "speed", "of", "peak", "left", "state"]
    assert [" ".join(each.split()) for each in lines] == [
        "trunk 1,500/2,000 2.5000 12.3k tokens/s 38% 3 min 20 s training",
        "gone 3/2,000 7.0000 1 tokens/s training, silent 2 h 1 min",
        "quick 0/2,000 compiling",
        "paused 10/2,000 stopped",
        "good 2,000/2,000 2.2500 finished 1.2500 bits/byte",
        "bad 2,000/2,000 2.2500 diverged",
        "later waiting",
    ]
    assert last == ("7 runs: 2 training, 1 compiling, 1 stopped, 1 finished, 1 diverged, 1 waiting")


def test_one_run(study, capsys):
    assert [row.id for row in watch.read(study / "trunk")] == ["trunk"]
    with pytest.raises(UserError, match="neither a study nor a run"):
        watch.read(study / "later")
    assert main(["watch", str(study / "nothing")]) == 2
    assert capsys.readouterr().err.startswith(f"error: {study / 'nothing'}: neither")


def on_a_terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(f"sys.{name}.isatty", lambda: True)


def test_a_live_table_follows_to_the_end(study, capsys, monkeypatch):
    """Ended runs pass by above it, once each; it goes when all have ended."""
    on_a_terminal(monkeypatch)
    (study / "study.json").write_text(json.dumps({"trials": ["good", "bad"]}))
    for name in beats():
        (study / name / "config.json").unlink()
    for name in RESULTS:
        (study / name / "result.json").unlink()
        said = beat("training", step=7, loss=1.5)
        (study / name / "progress.json").write_text(json.dumps(dataclasses.asdict(said)))
    left = list(RESULTS)
    monkeypatch.setattr(watch.time, "sleep", lambda _: finish(study, left.pop()))
    assert watch.run(Namespace(folder=study)) == 0
    assert not left
    seen = capsys.readouterr().out
    assert "7/2,000" in seen and "2 runs: 2 training" in seen
    assert seen.count("good  step 2,000/2,000  loss 2.2500  finished 1.2500 bits/byte") == 1
    assert seen.count("bad  step 2,000/2,000") == 1
    assert seen.splitlines()[-1] == "2 runs: 1 finished, 1 diverged"


def test_ctrl_c_leaves_the_runs_alone(study, capsys, monkeypatch):
    on_a_terminal(monkeypatch)

    def interrupt(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(watch.time, "sleep", interrupt)
    before = sorted(path for path in study.rglob("*"))
    assert watch.run(Namespace(folder=study)) == 0
    assert sorted(path for path in study.rglob("*")) == before


def test_lines_of_workers_go_above_the_table(study, capsys, monkeypatch):
    on_a_terminal(monkeypatch)
    with watch.screen(study) as output:
        assert output is not None
        os.write(output, b"[bold]a worker's line, as it is[/]\n")
    seen = capsys.readouterr().out
    assert "[bold]a worker's line, as it is[/]\n" in seen
    assert "7 runs: 2 training" in seen


def test_no_table_in_a_log(study, capsys):
    with watch.screen(study) as output:
        assert output is None
    assert capsys.readouterr() == ("", "")
