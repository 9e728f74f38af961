"""A run that is killed, stopped or started twice ends as an undisturbed one, bit for bit."""

import fcntl
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time

import pytest

from launch import local
from research import evaluation, study
from research.__main__ import main
from research.errors import AGAIN, Interrupted, UserError
from research.run import lease, stop
from research.train import train
from tests import tiny
from tests.reliability.interrupt import of_one_size, stop_at, until_free

# Kill -9.

KILLS = {
    "while preparing data": tiny.poison("os.replace", "'packed' in str(args[1])"),
    "during a step": tiny.poison("research.optim.learning_rate", "args[1] == 7"),
    "in the middle of a checkpoint": tiny.poison("os.rename", "'orbax' in str(args[0])"),
    "before a checkpoint gets its name": tiny.poison(
        "os.rename", "'/12.orbax-checkpoint-tmp-' in str(args[0])"
    ),
    "before a trunk's result gets its name": tiny.poison(
        "os.replace", "str(args[1]).endswith('trunk/result.json')"
    ),
    "before a trial's score": tiny.poison("research.evaluation.final", "True"),
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
            (half,) = folder.glob("*/checkpoints/*.orbax-checkpoint-tmp-*")
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


@pytest.mark.slow
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

from research.run import stop

asked = []


def wait():
    end = time.monotonic() + 60
    while not asked and time.monotonic() < end:
        time.sleep(0.01)


def ask(self, *args):
    asked.append(args)
    original_ask(self, *args)


original_ask = stop.Stop._ask
stop.Stop._ask = ask
"""


def signal_sweep(name: str, step: int) -> str:
    """Poison: at `step` a worker signals the sweep, and waits until it is asked to stop itself."""
    act = f"os.kill(os.getppid(), signal.{name}); wait()"
    return (
        tiny.poison("research.optim.learning_rate", f"args[1] == {step} and not asked", act) + ASKED
    )


ENDS = (("SIGINT", 5), ("SIGHUP", 7), ("SIGTERM", 9), ("SIGKILL", 12))


@pytest.mark.parametrize(
    "ends",
    [pytest.param(ENDS, marks=pytest.mark.slow, id="all"), pytest.param(ENDS[::3], id="two")],
)
def test_stopping_a_sweep(undisturbed, workdir, ends):
    """Ctrl-C, SIGTERM and the death of the sweep: the worker saves its state and ends."""
    folder = workdir / "tiny"
    trunk = folder / "chain-size16-trunk"

    def sweep(poison=""):
        spec = tiny.write(workdir, poison=poison)
        return tiny.research("sweep", "--config", spec, "--workdir", str(workdir), "--workers", "1")

    for name, step in ends:
        code, out, err = sweep(signal_sweep(name, step))
        if name == "SIGKILL":
            assert (code, err) == (-signal.SIGKILL, [])
        else:
            line = f"{folder}: stopped, every run saved; run the same command again to go on"
            assert (code, err) == (130 if name == "SIGINT" else AGAIN, [line])
        until_free(trunk)  # the worker is gone
        assert max(tiny.steps(trunk)) == step + 1
        assert not list(folder.glob("*/result.json"))
    code, out, err = sweep()
    assert (code, err) == (0, [])
    assert tiny.left(folder) == of_one_size(undisturbed)


@pytest.mark.parametrize("number", stop.SIGNALS)
def test_stopping_a_run(config, whole, tmp_path, monkeypatch, capsys, number):
    run = ["train", "--config", str(tmp_path / "tiny.py"), "--workdir", str(tmp_path / "run")]
    for step in (5, 6, 18):
        stop_at(monkeypatch, step, number)
        assert main(run) == (130 if number == signal.SIGINT else AGAIN)
        line = f"stopped at step {step + 1} of 25, saved; run the same command again to go on\n"
        assert capsys.readouterr().err == f"{tmp_path / 'run'}: {line}"
        assert max(tiny.steps(tmp_path / "run")) == step + 1
    assert main(run) == 0
    left = tiny.left(tmp_path)["run"]
    assert [row["step"] for row in left["rows"]] == [*range(2, 25, 2), 25]
    for key in ("id", "study", "part", "arm"):
        left["result"].pop(key)
    assert left == whole


@pytest.mark.parametrize("verb", ["train", "sweep"])
@pytest.mark.parametrize("number", stop.SIGNALS)
def test_a_signal_before_the_first_step(tmp_path, number, verb):
    """Here while the experiment is imported: one line and the code that asks for another start.

    It comes in a callback of the collector, where an exception would be printed and forgotten.
    """
    act = f"""
import gc, os

gc.callbacks.append(lambda *_: os.kill(os.getpid(), {int(number)}))
gc.collect()
gc.callbacks.pop()
"""
    spec = tiny.write(tmp_path, poison=act)
    code, out, err = tiny.research(verb, "--config", spec, "--workdir", str(tmp_path / "run"))
    assert code == (130 if number == signal.SIGINT else AGAIN), err
    assert (out, err) == ([], ["stopped; run the same command again to go on"])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_a_second_signal_changes_nothing(tmp_path, number):
    """As from a shell that passes its own SIGHUP on, or a person who presses Ctrl-C twice.

    The second one comes when all is said and the interpreter winds down.
    """
    ask = f"os.kill(os.getpid(), {int(number)})"
    act = f"__import__('atexit').register(lambda: {ask}); {ask}"
    poison = tiny.poison("research.optim.learning_rate", "args[1] == 5", act)
    run = tmp_path / "run"
    command = ["train", "--config", tiny.write(tmp_path, poison=poison), "--workdir", str(run)]
    ended = subprocess.run(
        [sys.executable, "-m", "research", *command], capture_output=True, text=True,
        cwd=tiny.ROOT, env=os.environ | {"JAX_PLATFORMS": "cpu"},
    )  # fmt: skip
    line = f"{run}: stopped at step 6 of 25, saved; run the same command again to go on\n"
    code = 130 if number == signal.SIGINT else AGAIN
    assert (ended.returncode, ended.stdout, ended.stderr) == (code, "", line)


def test_what_nohup_had_ignored_stays_ignored(config, whole, tmp_path, monkeypatch):
    former = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        stop_at(monkeypatch, 5, signal.SIGHUP)
        run = ["train", "--config", str(tmp_path / "tiny.py"), "--workdir", str(tmp_path / "run")]
        assert main(run) == 0
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, former)


@pytest.mark.slow
@pytest.mark.parametrize("words", [["train"], ["sweep", "--workers", "1"]])
def test_a_terminal_that_is_closed(workdir, words):
    """The run saves its state and ends, though nobody hears what it says."""
    verb, *options = words
    ours, theirs = pty.openpty()
    act = f"open({str(workdir / 'there')!r}, 'w').close(); time.sleep(2)"
    spec = tiny.write(
        workdir, poison=tiny.poison("research.optim.learning_rate", "args[1] == 5", act)
    )
    place = workdir / "run" if verb == "train" else workdir
    command = [sys.executable, "-m", "research", verb, "--config", spec, "--workdir", str(place)]
    process = subprocess.Popen(
        [*command, *options],
        stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True, cwd=tiny.ROOT,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        env=os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(tiny.ROOT)},
    )  # fmt: skip
    os.close(theirs)
    end = time.monotonic() + 100
    while not (workdir / "there").exists():
        assert process.poll() is None and time.monotonic() < end
        if select.select([ours], [], [], 0.05)[0]:
            os.read(ours, 65536)
    os.close(ours)
    assert process.wait(60) == AGAIN
    run = place if verb == "train" else workdir / "tiny" / "chain-size16-trunk"
    until_free(run)
    assert max(tiny.steps(run)) == 6


def test_a_signal_too_late_for_a_run_stops_what_comes_next(config, tmp_path, monkeypatch):
    original = evaluation.final

    def late(*args):
        os.kill(os.getpid(), signal.SIGINT)
        return original(*args)

    monkeypatch.setattr(evaluation, "final", late)
    with pytest.raises(Interrupted, match="^stopped$"):
        train(config, tmp_path / "run")
    assert tiny.result(tmp_path / "run")["status"] == "finished"


# Twice the same.


@pytest.mark.slow
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
    held = lease.take(tmp_path / "run")
    with pytest.raises(lease.Held, match="run is in use by process"):
        train(config, tmp_path / "run")
    assert [path.name for path in (tmp_path / "run").iterdir()] == [".lease"]
    held.release()
    assert train(config, tmp_path / "run")["status"] == "finished"


def test_a_branch_is_the_run_from_step_0(config, tmp_path):
    """Bit for bit: parameters, moments, average, score and metrics."""
    loaded = study.load(str(tmp_path / "tiny.py"), ["--config.sampling.num=0"])
    local.work(loaded, tmp_path / "tiny")
    apart = ("trunk", "branch_step", "flops_spent", "id", "study", "part", "arm", "rows")
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
