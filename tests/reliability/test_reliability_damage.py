"""A run that is damaged, diverges or has no room ends as an undisturbed one, or says why not."""

import json
import logging
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from launch import local
from research import evaluation, study
from research.__main__ import main
from research.errors import Interrupted
from research.scaling.table import read_runs
from research.train import Branch, train
from tests import tiny
from tests.reliability.interrupt import of_one_size, stop_at

# Damage.


def truncate(folder: Path) -> None:
    file = max(folder.rglob("state/**/d/*"), key=lambda path: path.stat().st_size)
    os.truncate(file, file.stat().st_size // 2)


def flip(folder: Path) -> None:
    """Flip one bit of the largest file of arrays."""
    file = max(folder.rglob("state/**/d/*"), key=lambda path: path.stat().st_size)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def empty(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def change(folder: Path) -> None:
    """Content that reads well and is not what was saved."""
    file = folder / "meta" / "metadata"
    meta = json.loads(file.read_text())
    file.write_text(json.dumps({**meta, "checksum": meta["checksum"] ^ 1}))


@pytest.fixture
def stopped(config, whole, tmp_path, monkeypatch):
    """The folder of a run that was stopped at step 12 and has checkpoints at 8 and 12."""
    stop_at(monkeypatch, 11)
    with pytest.raises(Interrupted):
        train(config, tmp_path / "run")
    assert tiny.steps(tmp_path / "run") == {8, 12}
    return tmp_path / "run"


@pytest.mark.parametrize("damage", [truncate, flip, empty, change, shutil.rmtree])
def test_a_damaged_checkpoint(config, whole, stopped, caplog, damage):
    damage(stopped / "checkpoints" / "12")
    train(config, stopped)
    warned = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    if damage is shutil.rmtree:
        assert warned == []
    else:
        assert len(warned) == 1 and "\n" not in warned[0]
        assert warned[0].startswith(f"checkpoint {stopped}/checkpoints/12 is damaged (")
        assert warned[0].endswith("using the one before")
        shutil.rmtree(stopped / "checkpoints" / "12.damaged")  # it was set aside, not deleted
    assert tiny.left(stopped.parent)["run"] == whole


def test_no_sound_checkpoint_at_all(config, whole, stopped, caplog):
    for step in (8, 12):
        flip(stopped / "checkpoints" / str(step))
    train(config, stopped)
    assert len([r for r in caplog.records if "is damaged" in r.getMessage()]) == 2
    for step in (8, 12):
        shutil.rmtree(stopped / "checkpoints" / f"{step}.damaged")
    assert tiny.left(stopped.parent)["run"] == whole


def test_what_is_seen_of_a_damaged_checkpoint(config, tmp_path, monkeypatch):
    """At the front door: one warning, then the line of the finished run, nothing else."""
    run = ["train", "--config", str(tmp_path / "tiny.py"), "--workdir", str(tmp_path / "run")]
    stop_at(monkeypatch, 13)
    assert main(run) == 130
    truncate(tmp_path / "run" / "checkpoints" / "14")
    code, out, err = tiny.research(*run)
    assert code == 0 and len(out) == 1
    assert len(err) == 1 and err[0].startswith("WARNING: checkpoint ")


def test_a_damaged_trunk(config, tmp_path, caplog):
    """A branch starts from what is sound of its trunk, and is the same run."""
    folder = tmp_path / "tiny"
    loaded = study.load(str(tmp_path / "tiny.py"), ["--config.sampling.num=0"])
    trunk, _, _, last = loaded.groups[0]
    local.run_groups("tiny", loaded.groups[:1], folder)
    home = folder / last.id
    once, score = tiny.state(home), tiny.result(home)["score"]
    shutil.rmtree(folder / last.id)
    flip(folder / trunk.id / "checkpoints" / "20")
    train(last.config, folder / last.id, branch=Branch(folder / trunk.id, 20))
    assert [r.getMessage() for r in caplog.records if "is damaged" in r.getMessage()]
    assert tiny.state(home) == once and tiny.result(home)["score"] == score
    assert tiny.steps(folder / trunk.id) == {10, 14, 16, 20}  # a reader deletes nothing


def test_a_row_cut_short(config, whole, stopped):
    with (stopped / "metrics.jsonl").open("a") as file:
        file.write('{"step": 16, "amou')
    train(config, stopped)
    assert tiny.left(stopped.parent)["run"] == whole


# Divergence.


def test_a_diverged_trial(config, tmp_path, capsys):
    """It stops with its state kept, says so, and the sweep and the fit go on without it."""
    axes = [{"train.learning_rate": r, "train.steps": s} for r in (1e30, 0.01) for s in (12, 25)]
    axes += [{"train.learning_rate": 1e30, "train.steps": 1, "train.decay_steps": 0,
              "train.warmup_steps": 0}]  # fmt: skip
    loaded = study.load(tiny.write(tmp_path, axes))
    local.work(loaded, tmp_path / "tiny")
    left = tiny.left(tmp_path / "tiny")
    bad = {name: run for name, run in left.items() if "1e30" in name}
    assert len(left) == 7 and len(bad) == 4
    for name, run in bad.items():
        assert run["result"]["status"] == "diverged"
        spent = run["result"]["flops_spent"] / (run["result"]["flops"] / run["result"]["steps"])
        assert spent == (run["rows"][-1]["step"] if run["rows"] else 0)  # steps really made
        assert "NaN" not in (tmp_path / "tiny" / name / "result.json").read_text()
        if run["result"]["role"] == "trial":
            assert run["result"]["score"]["value"] is None
            assert run["result"]["score"]["unit"] == "bits/token"
    trunk = bad["chain-learning_rate1e30-trunk"]
    assert trunk["checkpoints"] and max(map(int, trunk["checkpoints"])) < 8
    assert trunk["rows"][-1]["loss"] != trunk["rows"][-1]["loss"]  # NaN, the row that shows it
    assert all(run["result"]["status"] == "finished" for n, run in left.items() if n not in bad)
    (table,) = read_runs(tmp_path / "tiny").values()
    assert len(table) == 2 and "3 of 5 trials diverged" in table.notes[0]
    assert "diverged" in capsys.readouterr().out
    out = tmp_path / "samples.txt"
    name = str(tmp_path / "tiny" / "chain-learning_rate1e30-trunk")
    assert main(["sample", "--run", name, "--out", str(out)]) == 2
    assert "diverged at step" in capsys.readouterr().err and not out.exists()


def test_a_diverged_run_that_was_killed(config, tmp_path, monkeypatch):
    with config.unlocked():
        config.train.learning_rate = 1e30
    result = train(config, tmp_path / "whole")
    assert (result["status"], result["train_loss"]) == ("diverged", None)

    def die(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(evaluation, "final", die)
        with pytest.raises(KeyboardInterrupt):
            train(config, tmp_path / "run")
    train(config, tmp_path / "run")
    left = tiny.left(tmp_path)
    assert left["run"] == left["whole"]


# No room.


NO_ROOM = {
    "for config.json": (os, "replace", "run/config.json"),
    "for the result": (os, "replace", "run/result.json"),
    "for a checkpoint": (shutil, "disk_usage", "run/checkpoints"),
    "in the middle of a checkpoint": (os, "rename", "run/checkpoints/12"),
}


@pytest.mark.parametrize("moment", NO_ROOM)
def test_a_full_disk(config, whole, tmp_path, monkeypatch, capsys, moment):
    """One line and exit code 2; nothing half-written; with room again the run goes on."""
    owner, name, path = NO_ROOM[moment]
    original, refused = getattr(owner, name), []

    def starved(*args):
        if not str(args[-1]).endswith(path):
            return original(*args)
        refused.append(args)
        raise OSError(28, "No space left on device")

    run = ["train", "--config", str(tmp_path / "tiny.py"), "--workdir", str(tmp_path / "run")]
    study.load_config(str(tmp_path / "tiny.py"))  # prepares the data, which writes files too
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, starved)
        assert main(run) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: cannot write {tmp_path / 'run'}")
    assert line.endswith("No space left on device")
    assert refused
    assert not [path for path in (tmp_path / "run").rglob("*tmp*")]
    assert not list((tmp_path / "run").glob(".*.*.*"))
    assert not (tmp_path / "run" / "result.json").exists()
    assert main(run) == 0
    left = tiny.left(tmp_path)["run"]
    left["result"] = {k: v for k, v in left["result"].items() if k in whole["result"]}
    assert left == whole


@pytest.mark.slow
def test_a_really_full_disk(undisturbed, workdir):
    """A sweep on a file system of 1.5 MB: one line; with room again it goes on to the same end."""
    disk = workdir / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1400k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a file system")
    try:
        (disk / ".cache").symlink_to(workdir / ".cache")
        sweep = ["sweep", "--config", tiny.write(workdir), "--workdir", str(disk), "--workers", "2"]
        code, out, err = tiny.research(*sweep)
        assert code == 2 and len(err) == 1
        assert err[0].startswith("error: cannot write") and err[0].endswith("left on device")
        subprocess.run(["mount", "-o", "remount,size=100m", str(disk)], check=True)
        assert not list(disk.rglob("*tmp*"))
        code, out, err = tiny.research(*sweep[:-1], "1")
        assert (code, err) == (0, [])
        assert tiny.left(disk / "tiny") == of_one_size(undisturbed)
    finally:
        subprocess.run(["umount", str(disk)], check=True)
