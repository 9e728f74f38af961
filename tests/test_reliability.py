"""A run that is killed, stopped, damaged or starved ends as an undisturbed one, bit for bit."""

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import filelock
import pytest

from launch import local
from research import progress, runtime, study
from research import train as training
from research.__main__ import main
from research.errors import Interrupted, UserError
from research.scaling.table import read_runs
from research.train import Branch, train
from tests import tiny


@pytest.fixture(autouse=True)
def as_at_the_front_door(monkeypatch):
    """Runs inside this process log as `main` does, and keep the tests' compilation cache."""
    monkeypatch.setattr(runtime, "prepare", lambda folder: None)
    loggers = [logging.getLogger(name) for name in ("absl", "asyncio")]
    levels, hook = [logger.level for logger in loggers], sys.unraisablehook
    progress.set_up_logging()
    yield
    sys.unraisablehook = hook
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A folder for all tests of this file, whichever pytest worker runs them."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    folder /= "reliability"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def undisturbed(base):
    """What the tiny study leaves when nobody disturbs it."""
    with filelock.FileLock(base / ".lock"):
        code, out, err = tiny.research(
            "sweep", "--config", tiny.write(base, tiny.TWO_SIZES), "--workdir", str(base)
        )
    assert (code, err) == (0, []), err
    return tiny.left(base / "tiny")


def of_one_size(undisturbed: dict) -> dict:
    return {name: run for name, run in undisturbed.items() if "size16" in name}


@pytest.fixture
def workdir(base, tmp_path):
    """A folder for studies that shares the compiled programs of the others."""
    (tmp_path / ".cache").symlink_to(base / ".cache")
    return tmp_path


# Kill -9.

KILLS = {
    "while preparing data": tiny.poison("os.replace", "'packed' in str(args[1])"),
    "during a step": tiny.poison("research.optim.learning_rate", "args[1] == 7"),
    "in the middle of a checkpoint": tiny.poison("os.rename", "'orbax' in str(args[0])"),
    "before a checkpoint gets its name": tiny.poison(
        "os.rename", "str(args[0]).endswith('12.orbax-checkpoint-tmp')"
    ),
    "before a trunk's result gets its name": tiny.poison(
        "os.replace", "str(args[1]).endswith('trunk/result.json')"
    ),
    "before a trial's score": tiny.poison("research.train.evaluate", "True"),
    "before a trial's result gets its name": tiny.poison(
        "os.replace", "str(args[1]).endswith('steps18/result.json')"
    ),
    "between two trials": tiny.poison(
        "os.replace",
        "str(args[1]).endswith('steps18/result.json')",
        "original(*args);" + tiny.DIE,
    ),
    "before the samples are written": tiny.poison(
        "os.replace", "str(args[1]).endswith('samples.txt')"
    ),
}


def test_kill_9_at_every_moment(undisturbed, workdir):
    """One study is killed at each moment in turn; what had finished is never touched again."""
    folder, finished = workdir / "tiny", {}
    for moment, poison in KILLS.items():
        code, out, err = tiny.worker(tiny.write(workdir, poison=poison), folder)
        assert (code, err) == (-signal.SIGKILL, []), (moment, err)
        if moment == "in the middle of a checkpoint":
            (half,) = folder.glob("*/checkpoints/*.orbax-checkpoint-tmp")
            assert list(half.iterdir())
        if moment.endswith("result gets its name"):
            assert len(list(folder.glob("*/.result.json.*"))) == 1, moment
        for path, content in finished.items():
            assert path.read_bytes() == content, (moment, path)
        finished |= {path: path.read_bytes() for path in folder.glob("*/result.json")}
    assert len(finished) == 4
    command = ["sweep", "--config", tiny.write(workdir), "--workdir", str(workdir)]
    code, out, err = tiny.research(*command, "--workers", "1")
    assert (code, err) == (0, [])
    assert out[0] == "tiny: 3 trials, 0 to run"  # only samples are missing
    assert not any(" params " in line for line in out)
    for path, content in finished.items():
        assert path.read_bytes() == content, path
    assert tiny.left(folder) == of_one_size(undisturbed)


def test_kill_9_of_a_transformer(base, workdir):
    """The same for a real network, through `train`."""

    def run(name, poison=""):
        spec = tiny.write(workdir, [{"size": 16}], "autoregressive", poison)
        return tiny.research("train", "--config", spec, "--workdir", str(workdir / name))

    assert run("undisturbed")[0] == 0
    step = tiny.poison("research.optim.learning_rate", "args[1] == 14")
    assert run("run", step)[0] == -signal.SIGKILL
    assert 12 >= max(tiny.steps(workdir / "run")) > 0
    assert run("run")[0] == 0
    left = tiny.left(workdir)
    (left["run"]["result"]["id"],) = ["undisturbed"]
    assert left["run"] == left["undisturbed"]


def test_kill_9_of_one_worker(undisturbed, workdir):
    """The other worker takes up what it was doing; the sweep ends well."""
    once = f"open({str(workdir / 'dead')!r}, 'x') and os.kill(os.getpid(), signal.SIGKILL)"
    poison = tiny.poison(
        "research.optim.learning_rate",
        f"args[1] == 9 and not os.path.exists({str(workdir / 'dead')!r})",
        once,
    )
    command = ["sweep", "--config", tiny.write(workdir, poison=poison), "--workdir", str(workdir)]
    code, out, err = tiny.research(*command, "--workers", "2")
    assert (code, err) == (0, []), err
    assert (workdir / "dead").exists()
    assert tiny.left(workdir / "tiny") == of_one_size(undisturbed)


# Ctrl-C, and the end of the sweep above its workers.

ASKED = """

from research import train

asked = []


def wait():
    end = time.monotonic() + 60
    while not asked and time.monotonic() < end:
        time.sleep(0.01)


def ask(self, *args):
    asked.append(args)
    original_ask(self, *args)


original_ask = train._Stop._ask
train._Stop._ask = ask
"""


def signal_sweep(name: str, step: int) -> str:
    """Poison: at `step` a worker signals the sweep, and waits until it is asked to stop itself."""
    act = f"os.kill(os.getppid(), signal.{name}); wait()"
    return (
        tiny.poison("research.optim.learning_rate", f"args[1] == {step} and not asked", act) + ASKED
    )


def test_stopping_a_sweep(undisturbed, workdir):
    """Ctrl-C, SIGTERM and the death of the sweep: the worker saves its state and ends."""
    folder = workdir / "tiny"
    trunk = folder / "chain-size16-trunk"

    def sweep(poison=""):
        spec = tiny.write(workdir, poison=poison)
        return tiny.research("sweep", "--config", spec, "--workdir", str(workdir), "--workers", "1")

    for name, step in (("SIGINT", 5), ("SIGTERM", 9), ("SIGKILL", 12)):
        code, out, err = sweep(signal_sweep(name, step))
        if name == "SIGKILL":
            assert (code, err) == (-signal.SIGKILL, [])
        else:
            line = f"{folder}: stopped, every run saved; run the same command again to go on"
            assert (code, err) == (130, [line])
        with filelock.FileLock(trunk / ".lock", timeout=120):  # the worker is gone
            assert max(tiny.steps(trunk)) == step + 1
        assert not list(folder.glob("*/result.json"))
    code, out, err = sweep()
    assert (code, err) == (0, [])
    assert tiny.left(folder) == of_one_size(undisturbed)


def stop_at(monkeypatch, step: int, number: int = signal.SIGINT) -> None:
    """Signal this process itself at `step` of the next run."""
    original = training.optim.learning_rate

    def poisoned(settings, at):
        if at == step:
            monkeypatch.setattr(training.optim, "learning_rate", original)
            os.kill(os.getpid(), number)
        return original(settings, at)

    monkeypatch.setattr(training.optim, "learning_rate", poisoned)


@pytest.fixture
def config(tmp_path):
    """The config of one run of 25 steps."""
    return study.load_config(tiny.write(tmp_path))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What that run leaves when nobody disturbs it."""
    folder = tmp_path_factory.mktemp("whole")
    train(study.load_config(tiny.write(folder)), folder / "run")
    return tiny.left(folder)["run"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopping_a_run(config, whole, tmp_path, monkeypatch, capsys, number):
    run = ["train", "--config", str(tmp_path / "tiny.py"), "--workdir", str(tmp_path / "run")]
    for step in (5, 6, 18):
        stop_at(monkeypatch, step, number)
        assert main(run) == 130
        line = f"stopped at step {step + 1} of 25, saved; run the same command again to go on\n"
        assert capsys.readouterr().err == f"{tmp_path / 'run'}: {line}"
        assert max(tiny.steps(tmp_path / "run")) == step + 1
    assert main(run) == 0
    left = tiny.left(tmp_path)["run"]
    assert [row["step"] for row in left["rows"]] == [*range(2, 25, 2), 25]
    for key in ("id", "study", "part"):
        left["result"].pop(key)
    assert left == whole


def test_a_signal_too_late_for_a_run_stops_what_comes_next(config, tmp_path, monkeypatch):
    original = training.evaluate

    def late(*args):
        os.kill(os.getpid(), signal.SIGINT)
        return original(*args)

    monkeypatch.setattr(training, "evaluate", late)
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / "run")
    assert tiny.result(tmp_path / "run")["status"] == "finished"


# Twice the same.


def test_two_sweeps_on_one_folder(undisturbed, workdir):
    """Every run is run by one of them; both end when all is done."""
    command = ["sweep", "--config", tiny.write(workdir, tiny.TWO_SIZES), "--workdir", str(workdir)]
    both = [tiny.Started(tiny.front_door, *command, "--workers", "1") for _ in range(2)]
    ended = [process.end() for process in both]
    assert [code for code, _, _ in ended] == [0, 0]
    runs = [line.split()[0] for _, out, _ in ended for line in out if " params " in line]
    assert sorted(runs) == sorted(undisturbed)
    assert tiny.left(workdir / "tiny") == undisturbed


def test_a_finished_run_is_left_alone(config, tmp_path):
    result = train(config, tmp_path / "run")
    files = {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in tmp_path.rglob("run/*.json*")}
    assert train(config, tmp_path / "run") == result
    assert files == {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in files}
    with config.unlocked():
        config.train.learning_rate = 0.5
    with pytest.raises(
        UserError, match=r"run of another config \(train.learning_rate: .*, now 0.5"
    ):
        train(config, tmp_path / "run")


def test_a_run_in_use_is_refused(config, tmp_path):
    (tmp_path / "run").mkdir()
    with filelock.FileLock(tmp_path / "run" / ".lock"):
        with pytest.raises(UserError, match="run is in use by another process"):
            train(config, tmp_path / "run")
    assert [path.name for path in (tmp_path / "run").iterdir()] == [".lock"]


def test_a_branch_is_the_run_from_step_0(config, tmp_path):
    """Bit for bit: parameters, moments, average, score and metrics."""
    loaded = study.load(str(tmp_path / "tiny.py"), ["--config.sampling.num=0"])
    local.work(loaded, tmp_path / "tiny")
    apart = ("trunk", "branch_step", "flops_spent", "id", "study", "part")
    for trial, start in zip(loaded.groups[0][1:], tiny.BRANCHES, strict=True):
        branch, alone = tmp_path / "tiny" / trial.id, tmp_path / "alone" / trial.id
        assert trial.trunk and trial.branch_step == start
        train(trial.config, alone)
        assert tiny.state(branch) == tiny.state(alone)
        assert tiny.rows(branch) == [row for row in tiny.rows(alone) if row["step"] > start]
        one, other = tiny.result(branch), tiny.result(alone)
        length = trial.config.train.steps
        assert one["flops_spent"] * length == other["flops_spent"] * (length - start)
        for key in apart:
            one.pop(key)
            other.pop(key, None)
        assert one == other
        assert one["score"]["value"] > 0


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
    assert tiny.left(stopped.parent)["run"] == whole


def test_no_sound_checkpoint_at_all(config, whole, stopped, caplog):
    for step in (8, 12):
        flip(stopped / "checkpoints" / str(step))
    train(config, stopped)
    assert len([r for r in caplog.records if "is damaged" in r.getMessage()]) == 2
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
    local.run_group("tiny", loaded.groups[0], folder)
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
        patch.setattr(training, "_score", die)
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
