"""A run trained by several processes is the run that one process trains."""

import subprocess
import sys

import numpy as np
import pytest

from launch import processes
from research.errors import AGAIN
from tests import tiny

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    monkeypatch.setenv("PYTHONPATH", str(tiny.ROOT))
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")


def train(folder, *words):
    """Run `train` to its end; return its exit code and the lines of its stderr."""
    command = [sys.executable, "-m", "research", "train", "--config", str(folder / "tiny.py")]
    done = subprocess.run(
        [*command, "--workdir", str(folder / "run"), *words],
        capture_output=True,
        text=True,
        check=False,
        cwd=tiny.ROOT,
    )
    return done.returncode, done.stderr.splitlines()


def said(lines):
    """Without the line of whoever finds the data being prepared by another process."""
    return [line for line in lines if not line.startswith("waiting for another process, ")]


def same(left, whole):
    """Whether two runs have the same rows, state and score, to 1e-6."""
    assert [row.keys() for row in left["rows"]] == [row.keys() for row in whole["rows"]]
    for key in ("loss", "grad_norm"):
        ours, theirs = ([row[key] for row in run["rows"]] for run in (left, whole))
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)
    for name, content in whole["state"].items():
        if "count" not in name:
            ours, theirs = (np.frombuffer(x, np.float32) for x in (left["state"][name], content))
            np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    scores = [run["result"]["score"] for run in (left, whole)]
    np.testing.assert_allclose(*(score["value"] for score in scores), rtol=1e-6)
    assert scores[0].keys() == scores[1].keys() and scores[0]["examples"] == scores[1]["examples"]
    assert left["checkpoints"] == whole["checkpoints"]


def test_every_layout_of_a_batch():
    team = processes.start(["tests.reliability.layouts"], [[], [], [], []], devices=2)
    index, code = processes.watch(team)
    if complaints := team[index].complaints:
        complaints.seek(0)
        print(complaints.read().decode())
    assert code == 0


def test_a_run_moves_from_layout_to_layout(whole, tmp_path):
    """Stopped by SIGTERM and resumed: 1 device, 8 as data x fsdp, 2 processes of 4, then 1 of 8.

    In the third life only the second of two processes hears the signal.
    """
    lives = [
        (4, ["--devices", "1"], 5),
        (9, ["--devices", "8", "--config.hardware.mesh.fsdp=4"], 10),
        (13, ["--processes", "2", "--devices", "4"], 15),
    ]
    for at, words, saved in lives:
        heard = f"args[1] == {at} and os.environ.get('JAX_PROCESS_ID', '1') == '1'"
        act = "os.kill(os.getpid(), signal.SIGTERM)"
        tiny.write(tmp_path, poison=tiny.poison("research.optim.learning_rate", heard, act))
        code, err = train(tmp_path, *words)
        line = f"{tmp_path}/run: stopped at step {saved} of 25, saved; run the same command again"
        assert code == AGAIN and said(err) == [f"{line} to go on"], err
        assert max(tiny.steps(tmp_path / "run")) == saved
    tiny.write(tmp_path)
    assert train(tmp_path, "--devices", "8") == (0, [])
    same(tiny.left(tmp_path)["run"], whole)


@pytest.mark.parametrize("victim", [0, 2])
def test_one_process_of_four_is_killed(whole, tmp_path, victim):
    """The others end with one line; started again, the run goes on to the same end."""
    when = f"args[1] == 9 and os.environ['JAX_PROCESS_ID'] == '{victim}'"
    tiny.write(tmp_path, poison=tiny.poison("research.optim.learning_rate", when))
    words = ["--processes", "4", "--devices", "2"]
    code, err = train(tmp_path, *words)
    line = f"process {victim} of 4 was ended by SIGKILL; the others were stopped; run the same"
    assert code == AGAIN and err[-1] == f"{line} command again to go on", err
    assert max(tiny.steps(tmp_path / "run")) <= 8
    if victim:
        return
    tiny.write(tmp_path)
    assert train(tmp_path, *words) == (0, [])
    same(tiny.left(tmp_path)["run"], whole)
