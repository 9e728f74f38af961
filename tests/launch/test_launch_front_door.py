"""What the front door says of mistakes, from wherever it is opened, and what it promises."""

import os
import subprocess
import sys

import pytest

from launch import processes
from research import sample, study, terminal
from research.__main__ import main
from research.dryrun import laptop
from research.errors import UserError
from tests import tiny


def complaint(capsys, *words: str) -> str:
    assert main([*words]) == 2
    out, err = capsys.readouterr()
    assert err.startswith("error: ") and err.count("\n") == 1, err
    return err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("version", "unknown verb 'version' (did you mean '--version'?)"),
        ("sweep stats runs", "sweep 'stats' (did you mean 'status'?)"),
        ("sweep Collect", "sweep 'Collect' (did you mean 'collect'?)"),
        ("sweep --confg x", "required: --config; '--confg' is none (did you mean '--config'?)"),
        ("sample --rnu x", "required: --run; '--rnu' is none (did you mean '--run'?)"),
        ("dryrun --config x.py --topolgy y", "'--topolgy' is none (did you mean '--topology'?)"),
        ("watch --foldr x runs", "unrecognized arguments: --foldr"),
        ("train --config x.py", "the following arguments are required: --workdir\n"),
        ("sweep --config x.py --workers 0", "--workers 0 must be at least 1"),
        ("sweep --config x.py --workers=-1", "--workers -1 must be at least 1"),
        ("sweep --config x.py --workers 1e9", "--workers: invalid int value: '1e9'"),
        ("sweep --config x.py --workers 1000000000", "at most 1024"),
        ("train --config x.py --workdir r --processes 5000", "--processes 5000: more than one"),
        ("train --config x.py --workdir r --devices 5000", "--devices 5000: more than one"),
    ],
)
def test_mistakes(capsys, words, message):
    assert message in complaint(capsys, *words.split())


def test_the_help_of_a_report_loads_no_statistics():
    command = [sys.executable, "-X", "importtime", "-m", "research", "report", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tiny.ROOT)
    assert " scipy.stats." not in done.stderr  # which does not list what SciPy loads by attribute


def test_the_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("isoflop ")


def test_from_another_folder(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = complaint(capsys, "sweep", "--config", "experiments/quickstart.py", "--dry_run")
    assert f"no such file here; there is {tiny.ROOT}/experiments/quickstart.py" in said


def test_one_bad_trial_is_named(tmp_path):
    spec = tiny.write(tmp_path, [{"size": 16}, {"size": 8, "train.clip_norm": -1.0}])
    with pytest.raises(UserError, match=r"the trial of chain with size=8, train.clip_norm=-1.0"):
        study.load(spec)


@pytest.mark.parametrize(
    ("workers", "cores", "line"),
    [
        (1, 4, "5.0 minutes with 1 workers"),
        (2, 4, "2.5 minutes with 2 workers"),
        (999, 2, "2.5 minutes with 999 workers (no faster than with 2: 2 cores)"),
        (999, 8, "2.0 minutes with 999 workers (no faster than with 3: 3 groups of trials)"),
    ],
)
def test_predictions_are_bounded(monkeypatch, workers, cores, line):
    """By cores, by the trials there are, and by the longest of them."""
    monkeypatch.setattr(laptop.os, "sched_getaffinity", lambda _: set(range(cores)))
    assert laptop._minutes([120.0, 90.0, 90.0], workers) == line


def test_too_many_samples_are_refused(tmp_path, monkeypatch):
    """Before anything is drawn or read; the largest number that the line names is not."""
    config = study.load_config(tiny.write(tmp_path))
    with pytest.raises(UserError, match=r"--num 100000000000: about .* at most \d+") as caught:
        sample._check_memory(10**11, config)
    most = int(str(caught.value).partition("at most ")[2].partition(",")[0])
    monkeypatch.setattr(sample, "_free_bytes", lambda: 2**40)
    sample._check_memory(most, config)


def test_a_sweep_whose_workers_are_killed_says_so(tmp_path):
    """One line, and the exit code that asks for another start."""
    spec = tiny.write(tmp_path, poison=tiny.poison("research.optim.learning_rate", "args[1] == 3"))
    command = ["sweep", "--config", spec, "--workdir", str(tmp_path), "--workers", "1"]
    code, _, err = tiny.research(*command)
    assert code == processes.AGAIN
    said = "3 trials did not finish, chain-size16-steps12 first: a worker was ended by SIGKILL"
    assert err == [f"{tmp_path}/tiny: {said}; run the same command again to go on"]


@pytest.mark.parametrize("words", [["fit", "--help"], ["sweep", "status", "STUDY"], ["--help"]])
def test_a_reader_that_goes_away(tmp_path, words):
    """As `| head -1` does: nothing is said of it."""
    environment = os.environ | {"PYTHONPATH": str(tiny.ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-m", "research", *words], env=environment, cwd=tmp_path,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    process.stdout.close()
    assert process.stderr.read().decode().count("\n") <= ("status" in words)
    process.wait()


def test_a_sweep_whose_reader_goes_away(tmp_path):
    """Runs are worth more than lines that nobody reads: all are trained, and nothing is said."""
    command = ["sweep", "--config", tiny.write(tmp_path), "--workdir", str(tmp_path)]
    process = subprocess.Popen(
        [sys.executable, "-m", "research", *command], cwd=tiny.ROOT,
        env=os.environ | {"JAX_PLATFORMS": "cpu"}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert b"3 trials" in process.stdout.readline()
    process.stdout.close()
    assert (process.stderr.read(), process.wait()) == (b"", terminal.CLOSED)
    assert len(list(tmp_path.glob("tiny/*-steps*/result.json"))) == 3
