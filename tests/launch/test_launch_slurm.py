"""A study swept through a real SLURM cluster ends as one swept here, whatever befalls its jobs."""

import dataclasses
import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from launch import backends, processes
from launch.slurm import Slurm
from research.__main__ import main
from tests import tiny
from tests.launch import cluster

# At one step of its first start, each job asks SLURM for trouble and waits until it comes.
TROUBLE = """

import os, signal, subprocess, time

from research import optim

calm, asked = optim.learning_rate, []


def troubled(settings, step):
    if step == 5 and os.environ.get("SLURM_RESTART_COUNT", "0") == "0" and not asked:
        def hear(number):
            calm_handler = signal.getsignal(number)

            def ask(*args):
                asked.append(args)
                calm_handler(*args)

            signal.signal(number, ask)

        for number in (signal.SIGTERM, signal.SIGUSR2):
            hear(number)
        trouble = TROUBLES[os.environ.get("SLURM_ARRAY_TASK_ID", "")]
        subprocess.run(trouble, shell=True, check=True)
        end = time.monotonic() + 100
        while not asked and time.monotonic() < end:
            time.sleep(0.01)
    return calm(settings, step)


if "SLURM_JOB_ID" in os.environ:
    optim.learning_rate = troubled
"""
TASK = "${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID"
TIME_IS_NEARLY_UP = f"scancel --signal=USR2 {TASK}"
PREEMPTED = "sbatch --quiet --partition=high --ntasks=2 --output=/dev/null --wrap true"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def slurm():
    if reason := cluster.missing():
        pytest.skip(f"no SLURM: {reason}")
    with cluster.started() as variables, pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        patch.setenv("JAX_PLATFORMS", "cpu")
        patch.setenv("PYTHONPATH", str(tiny.ROOT))
        yield


def sweep(
    folder: Path, troubles: dict[str, str], *words: str, trials: list[dict] = tiny.TWO_SIZES
) -> Path:
    """Submit the tiny study, one CPU an element, as the workers of a local sweep have."""
    spec = tiny.write(folder, trials, poison=f"{TROUBLE}\nTROUBLES = {troubles!r}\n")
    options = ["--logs_folder", str(folder / "logs"), "--env", f"XLA_FLAGS={processes.THREADS}"]
    submit = ["--config", spec, "--workdir", str(folder), "--backend", "slurm", *options, *words]
    assert main(["sweep", *submit]) == 0
    return folder / "tiny"


def states(study: Path, capsys) -> dict[str, str]:
    capsys.readouterr()
    assert main(["sweep", "status", str(study), "--json"]) == 0
    return {row["id"]: row["state"] for row in json.loads(capsys.readouterr().out)}


def wait(ready: Callable[[], bool], study: Path, seconds: float = 600) -> None:
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end, logs(study)
        time.sleep(0.2)


def idle() -> bool:
    """Whether no job waits or runs."""
    command = ["squeue", "--noheader"]
    return not subprocess.run(command, capture_output=True, text=True, check=True).stdout


def logs(study: Path) -> str:
    return "\n".join(path.read_text() for path in study.parent.glob("logs/*/*_log.out"))


def test_time_limit_and_preemption(slurm, tmp_path, capsys):
    """Both jobs are stopped in mid-run and come back by themselves; nothing is lost."""
    (tmp_path / "here").mkdir()
    spec = tiny.write(tmp_path / "here", tiny.TWO_SIZES)
    here = ["sweep", "--config", spec, "--workdir", str(tmp_path / "here"), "--workers", "2"]
    assert tiny.research(*here)[0] == 0
    there = tmp_path / "there"
    there.mkdir()
    study = sweep(there, {"0": TIME_IS_NEARLY_UP, "1": PREEMPTED}, "--parallel", "1")
    wait(idle, study)
    assert set(states(study, capsys).values()) == {"finished"}
    found, wanted = tiny.left(study), tiny.left(tmp_path / "here" / "tiny")
    assert set(found) == set(wanted)
    for run in wanted:
        for part in wanted[run]:
            assert found[run][part] == wanted[run][part], (run, part)
    assert logs(study).count("stopped at step 6 of") == 2


@dataclasses.dataclass(frozen=True)
class TwoTasks(Slurm):
    """The cluster has one machine, so the processes of two are two tasks of it."""

    def _parameters(self, spec):
        return super()._parameters(spec) | {"nodes": 1, "ntasks_per_node": spec.hosts}


def test_a_cancelled_job_stays_away(slurm, tmp_path, capsys, monkeypatch):
    """Two processes find each other, save together and stay away; `sweep retry` goes on."""
    monkeypatch.setitem(backends.BACKENDS, "slurm", TwoTasks)
    ready, one = tmp_path / "ready", [{"size": 8, "train.steps": 12}]
    study = sweep(tmp_path, {"": f"touch {ready}"}, "--hosts", "2", trials=one)
    wait(ready.exists, study)
    name = "chain-size8-steps12"
    # Five steps may take less than the second that is between two heartbeats.
    assert states(study, capsys)[name] in ("compiling", "training")
    assert main(["sweep", "cancel", str(study)]) == 0
    wait(idle, study)
    assert states(study, capsys) == {name: "cancelled"}
    (saved,) = tiny.steps(study / name) - {4}
    assert saved >= 6
    assert main(["sweep", "retry", str(study)]) == 0
    wait(idle, study)
    assert states(study, capsys) == {name: "finished"}, logs(study)
    assert [row["step"] for row in tiny.rows(study / name)] == [*range(2, 13, 2)]
