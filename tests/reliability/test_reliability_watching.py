"""What a run says of itself is right after kills and stops, and gone when it is over."""

import json

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from research import train as training
from research.__main__ import main
from research.errors import Interrupted
from research.run import heartbeat, profiling, progress, watch
from research.train import train
from tests import tiny
from tests.reliability.interrupt import stop_at


class Killed(BaseException):
    """Ends a run as a kill does: nothing of ours is written after it."""


def kill_at(monkeypatch, step):
    original = training.optim.learning_rate

    def poisoned(settings, at):
        if at == step:
            monkeypatch.setattr(training.optim, "learning_rate", original)
            raise Killed
        return original(settings, at)

    monkeypatch.setattr(training.optim, "learning_rate", poisoned)


def points(folder):
    """The points of every curve that does not tell of time, by TensorBoard's own reader."""
    found = EventAccumulator(str(folder)).Reload()
    tags = [tag for tag in found.Tags()["scalars"] if not tag.startswith("speed/")]
    return {tag: [(e.step, e.value) for e in found.Scalars(tag)] for tag in tags}


def test_a_run_killed_and_stopped_on_the_way(config, tmp_path, monkeypatch):
    train(config, tmp_path / "whole")
    run = tmp_path / "run"
    monkeypatch.setattr(progress, "SECONDS", 0.0)
    monkeypatch.setattr(progress, "COST", 1e9)
    kill_at(monkeypatch, 11)  # the newest checkpoint is of step 8
    with pytest.raises(Killed):
        train(config, run)
    said = watch.read_run(run).beat
    assert (said.state, said.step, said.steps, said.unit) == ("training", 11, 25, "tokens")
    row = tiny.rows(run)[-1]
    assert (row["step"], row["loss"]) == (10, said.loss) and said.per_second and said.left
    stop_at(monkeypatch, 17)
    with pytest.raises(Interrupted):
        train(config, run)
    said = watch.read_run(run).beat
    assert (said.state, said.step) == ("stopped", 18)
    result = train(config, run)
    assert not (run / heartbeat.FILE).exists()
    assert watch.read_run(run).beat.state == "finished"
    assert points(run) == points(tmp_path / "whole")
    assert [step for step, _ in points(run)["train/loss"]] == [*range(2, 25, 2), 25]
    seconds = dict(result["goodput"]["seconds"])
    assert seconds.pop("total") == pytest.approx(sum(seconds.values()), rel=1e-12)
    assert all(value > 0 for value in seconds.values())
    assert result["goodput"]["share"] == seconds["useful"] / sum(seconds.values())
    whole = json.loads((tmp_path / "whole" / "result.json").read_text())["goodput"]["seconds"]
    assert whole["lost"] == whole["away"] == 0 < whole["useful"]


def test_progress_stays_out_of_the_way(config, whole, tmp_path, monkeypatch):
    """A heartbeat that cannot be written stops nothing."""
    write = progress.record.write_json

    def refuse(path, *args, **words):
        if path.name == heartbeat.FILE:
            raise progress.UserError("cannot write")
        write(path, *args, **words)

    monkeypatch.setattr(progress.record, "write_json", refuse)
    train(config, tmp_path / "run")
    assert tiny.left(tmp_path)["run"] == whole


def test_a_live_line_on_a_terminal(config, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(progress, "SECONDS", 0.0)
    monkeypatch.setattr(progress, "COST", 1e9)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "60")
    train(config, tmp_path / "run")
    out, err = capsys.readouterr()
    lines = err.split("\r\x1b[2K")
    assert lines[1].startswith("run  step 0/25") and lines[-1] == ""
    assert any(line.startswith("run  step 20/25  loss ") and "tokens/s" in line for line in lines)
    assert max(map(len, lines)) == 59
    assert len(out.splitlines()) == 1 and "\x1b" not in out


# A profile.


def command(folder, steps, run="run"):
    words = ["train", "--config", str(folder / "tiny.py"), "--workdir", str(folder / run)]
    return main([*words, "--profile_steps", steps])


def test_a_profile(config, tmp_path):
    """Of the steps asked for; a run that goes on behind them says so.

    In processes of its own: the profiler dies where the compiler of TPUs was loaded without one.
    """
    run = tmp_path / "run"

    def train(steps, poison=""):
        spec = tiny.write(tmp_path, poison=poison)
        words = ["train", "--config", spec, "--workdir", str(run), "--profile_steps", steps]
        return tiny.research(*words)

    act = "os.kill(os.getpid(), signal.SIGINT)"
    stop = tiny.poison("research.optim.learning_rate", "args[1] == 14", act)
    assert train("10:12", stop)[0] == 130
    (trace,) = (run / "profile").rglob("*.xplane.pb")
    assert trace.stat().st_size > 0
    code, _, err = train("10:20")
    note = f"WARNING: {run / 'profile'}: no profile of steps 10:20, at 15 already"
    assert (code, err) == (0, [note])
    assert len(list((run / "profile").rglob("*.xplane.pb"))) == 1


def test_a_sweep_traces_the_runs_that_take_the_steps(config, tmp_path, monkeypatch):
    monkeypatch.setenv(profiling.VARIABLE, "15:17")
    for own, taken in ((range(0, 25), True), (range(0, 17), True), (range(0, 16), False),
                       (range(16, 25), False)):  # fmt: skip
        assert bool(profiling.Trace(tmp_path, own).steps) == taken
    monkeypatch.delenv(profiling.VARIABLE)
    assert not profiling.Trace(tmp_path, range(25)).steps


@pytest.mark.parametrize("steps", ["5", "5:", ":5", "7:7", "9:3", "a:b", "1:2:3", "20:26"])
def test_a_profile_of_no_such_steps(config, tmp_path, monkeypatch, capsys, steps):
    monkeypatch.delenv(profiling.VARIABLE, raising=False)
    monkeypatch.setattr(training.programs, "build", None)  # said before any compile
    assert command(tmp_path, steps) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: --profile_steps '{steps}': ")
    assert not (tmp_path / "run").exists()
