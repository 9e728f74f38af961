"""`sweep --backend` and what follows it, on a backend that keeps its jobs in memory."""

import dataclasses
import json
import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import fsspec
import pandas as pd
import pytest

from launch import backends, job, journal, run, variables
from launch.job import JobSpec, option
from research.__main__ import main
from research.scaling.table import read_file, read_runs
from tests import bucket, tiny

QUEUE: dict[str, tuple[str, str]] = {}
SENT: list[dict[str, str]] = []  # the variables of each submission


@dataclasses.dataclass(frozen=True)
class Memory:
    """A queue that does nothing by itself."""

    shares_disk: ClassVar[bool] = True

    ID: ClassVar[job.Form] = job.Form(r"[a-z0-9-]+", "the name of an element")

    room: str = option("here", "a word", job.WORD)

    def pinned(self) -> "Memory":
        return self

    def check(self, spec: JobSpec) -> None:
        pass

    def render(self, spec: JobSpec) -> str:
        return "".join(f"{' '.join(spec.command(i))}\n" for i in range(len(spec.array)))

    def submit(self, spec: JobSpec, env: Mapping[str, str]) -> list[str]:
        SENT.append(dict(env))
        ids = [spec.element(index) for index in range(len(spec.array))]
        QUEUE.update(dict.fromkeys(ids, (job.WAITING, self.room)))
        return ids

    def states(self, ids: Sequence[str]) -> dict[str, tuple[str, str]]:
        return {id: QUEUE[id] for id in ids if id in QUEUE}

    def logs(self, id: str) -> str:
        return f"log of {id}\n"

    def cancel(self, ids: Sequence[str]) -> None:
        QUEUE.update(dict.fromkeys(ids, (job.CANCELLED, self.room)))


@pytest.fixture
def study(tmp_path, monkeypatch):
    """The folder of the tiny study, submitted: two groups, a trunk with three branches and one."""
    monkeypatch.setitem(backends.BACKENDS, "memory", Memory)
    monkeypatch.chdir(tiny.ROOT)
    QUEUE.clear()
    SENT.clear()
    assert sweep(tmp_path, "--room", "attic") == 0
    return tmp_path / "tiny"


def sweep(folder: Path, *words: str, backend: str = "memory") -> int:
    spec = tiny.write(folder, tiny.TWO_SIZES)
    on_one = [f"--config.data.folder={folder}/data"]
    command = ["sweep", "--config", spec, "--workdir", str(folder), "--backend", backend]
    return main([*command, *on_one, *words])


def said(capsys, *words: str) -> str:
    capsys.readouterr()
    assert main(["sweep", *words]) == 0
    return capsys.readouterr().out


def complaint(capsys, *words: str) -> str:
    capsys.readouterr()
    assert main(["sweep", *words]) == 2
    out, err = capsys.readouterr()
    assert err.startswith("error: ") and err.count("\n") == 1, err
    return err


def states(study: Path | str, capsys) -> dict[str, tuple[str, str]]:
    rows = json.loads(said(capsys, "status", str(study), "--json"))
    return {row["id"]: (row["state"], row["where"]) for row in rows}


TRUNK, SMALL = "chain-size16-trunk", "chain-size8-steps12"
BRANCHES = [f"chain-size16-steps{steps}" for steps in tiny.STEPS]


def finish(study: Path, name: str) -> None:
    """Run an element as its job would."""
    spec = journal.read(study).submissions[-1].spec
    words = list(spec.command(spec.array.index(name)))
    assert words[:2] == ["-m", "launch.run"]
    assert run.main(words[2:]) == 0


def test_submitted_once(study, capsys):
    content = json.loads((study / "jobs.json").read_text())
    (submission,) = content["submissions"]
    assert submission["backend"] == "memory" and submission["options"] == {"room": "attic"}
    assert submission["spec"]["array"] == [TRUNK, SMALL]
    assert content["groups"] == {TRUNK: [TRUNK, *BRANCHES], SMALL: [SMALL]}
    assert sweep(study.parent) == 0
    assert "nothing to submit: all is on its way" in capsys.readouterr().out
    assert len(QUEUE) == 2
    first, second = QUEUE
    QUEUE[second] = (job.FAILED, "")
    assert sweep(study.parent) == 0  # what is not on its way is submitted again
    assert len(QUEUE) == 3 and journal.read(study).submissions[-1].spec.array == (SMALL,)


def test_rendering_submits_nothing(study, capsys):
    before = (study / "jobs.json").read_bytes()
    capsys.readouterr()
    assert sweep(study.parent, "--render", "--config.train.clip_norm=0.5") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[-2:] for line in lines] == [["--group", TRUNK], ["--group", SMALL]]
    assert all("--config.train.clip_norm=0.5" in line for line in lines)
    assert len(QUEUE) == 2 and (study / "jobs.json").read_bytes() == before


def test_rendering_on_this_machine(study, capsys):
    """Each element is a command that could be run as it is printed."""
    capsys.readouterr()
    assert sweep(study.parent, "--render", backend="local") == 0
    lines = [shlex.split(line) for line in capsys.readouterr().out.splitlines()]
    assert [words[:3] for words in lines] == [["python", "-m", "launch.run"]] * 2
    assert [words[-1] for words in lines] == [TRUNK, SMALL]


@pytest.mark.slow
def test_status_logs_cancel_retry(study, capsys):
    waiting = ("waiting", "attic")
    runs = [TRUNK, *BRANCHES, SMALL]
    assert states(study, capsys) == dict.fromkeys(BRANCHES, waiting) | {SMALL: waiting}
    trunk, small = QUEUE
    assert said(capsys, "logs", str(study), BRANCHES[0]) == f"log of {trunk}\n"
    assert "0 elements submitted again" in said(capsys, "retry", str(study))  # all on their way
    assert "2 elements cancelled" in said(capsys, "cancel", str(study))
    assert set(states(study, capsys).values()) == {("cancelled", "attic")}
    assert "1 elements submitted again" in said(capsys, "retry", str(study), SMALL)
    assert len(QUEUE) == 3
    newest = list(QUEUE)[-1]
    QUEUE[newest] = (job.RUNNING, "cellar")
    assert states(study, capsys)[SMALL] == ("waiting", "cellar")  # it has not said a word yet
    finish(study, SMALL)
    del QUEUE[newest]
    assert states(study, capsys)[SMALL] == ("finished", "")
    QUEUE[trunk] = (job.FINISHED, "")  # and left nothing
    assert states(study, capsys)[BRANCHES[0]] == ("failed", "")
    assert "1 elements submitted again" in said(capsys, "retry", str(study), "--timeout", "3h")
    assert journal.read(study).submissions[-1].spec.timeout == 180
    finish(study, TRUNK)
    QUEUE.clear()
    assert states(study, capsys) == dict.fromkeys(runs, ("finished", ""))
    assert "0 elements submitted again" in said(capsys, "retry", str(study))
    table = said(capsys, "status", str(study)).splitlines()
    assert table[0].split() == [
        *("run", "step", "loss", "speed", "of", "peak", "left", "state", "where")
    ]
    assert table[-1] == "5 runs: 5 finished"
    assert [line.split()[0] for line in table[1:-1]] == [TRUNK, *BRANCHES, SMALL]
    # What was collected is the table that the law lab reads from the folder itself.
    for name in ("runs.csv", "runs.parquet"):
        out = study / name
        assert f"4 trials in {out}" in said(capsys, "collect", str(study), "--out", str(out))
        frame = pd.read_csv(out) if out.suffix == ".csv" else pd.read_parquet(out)
        assert list(frame["id"]) == sorted([*BRANCHES, SMALL])
        scores = [tiny.result(study / id)["score"]["value"] for id in frame["id"]]
        assert list(frame["loss"]) == scores
    columns = {"params": "params", "data": "data", "loss": "loss", "flops": "flops"}
    collected = read_file(study / "runs.csv", **columns)
    own = read_runs(study)["chain"]
    assert all(list(collected[name]) == list(own[name]) for name in "NDCL")


def test_a_study_in_a_bucket(study, capsys, monkeypatch):
    """Nothing of it is on this disk, and its address is all that is needed."""
    for name in ("gs", "gcs"):
        fsspec.register_implementation(name, bucket.Bucket, clobber=True)
    bucket.Bucket.store.clear()
    spec = tiny.write(study.parent, tiny.TWO_SIZES)
    command = ["sweep", "--config", spec, "--workdir", "gs://bucket/runs", "--backend", "memory"]
    assert main(command) == 0
    assert {name.rpartition("/")[2] for name in bucket.Bucket.store} == {"jobs.json", "study.json"}
    assert not Path("gs:").exists()
    there = "gs://bucket/runs/tiny"
    waiting = dict.fromkeys([*BRANCHES, SMALL], ("waiting", "here"))
    assert states(there, capsys) == waiting
    assert "1 elements cancelled" in said(capsys, "cancel", there, SMALL)
    assert "1 elements submitted again" in said(capsys, "retry", there)
    assert len(QUEUE) == 5 and states(there, capsys) == waiting


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["status", "nowhere"], "nowhere: no study is in it"),
        (["cancel", "STUDY", "chain-size8"], "'chain-size8': no such run was submitted (did you"),
        (["logs", "STUDY"], "the following arguments are required: TRIAL"),
        (["collect", "STUDY", "--out", "runs.xls"], "--out runs.xls: expected a name that ends in"),
        (["collect", "STUDY", "--out", "runs.csv"], "no finished trial in it"),
        (["retry", "STUDY", "--timeout", "long"], "--timeout 'long': expected minutes"),
    ],
)
def test_bad_subcommands(study, capsys, words, message):
    assert message in complaint(capsys, *[str(study) if w == "STUDY" else w for w in words])


def test_a_study_that_ran_here_has_no_jobs(study, capsys):
    (study / "jobs.json").unlink()
    assert set(states(study, capsys).values()) == {("waiting", "")}
    assert "nothing was submitted" in complaint(capsys, "cancel", str(study))
    (study / "jobs.json").write_text('{"study": "tiny"}')
    assert "jobs.json: not a record of jobs" in complaint(capsys, "cancel", str(study))


# Variables, and whose record it is.


def test_values_of_variables_are_in_no_record(study, capsys, monkeypatch):
    """They reach the backend, at first and at each retry; only their owner's file holds any."""
    monkeypatch.setenv("BY_NAME", "hunter2")
    before = os.umask(0)
    try:
        QUEUE.clear()
        words = ["--env", "BY_NAME", "--env", "GIVEN=hunter3"]
        assert sweep(study.parent, *words) == 0
        QUEUE.clear()
        said(capsys, "retry", str(study))
    finally:
        os.umask(before)
    values = {"BY_NAME": "hunter2", "GIVEN": "hunter3"}
    assert SENT[1:] == [values, values]
    assert "hunter" not in "".join(capsys.readouterr())
    holders = [p for p in study.parent.rglob("*") if p.is_file() and b"hunter" in p.read_bytes()]
    assert holders == [study / "env.json"] and "hunter2" not in holders[0].read_text()
    assert holders[0].stat().st_mode & 0o777 == 0o600
    assert (study / "jobs.json").stat().st_mode & 0o777 == 0o644
    newest = json.loads((study / "jobs.json").read_text())["submissions"][-1]
    assert newest["spec"]["env"] == list(values)
    QUEUE.clear()
    monkeypatch.setenv("BY_NAME", "new")
    said(capsys, "retry", str(study))
    assert SENT[-1] == {**values, "BY_NAME": "new"}
    QUEUE.clear()
    monkeypatch.delenv("BY_NAME")
    assert "--env BY_NAME: job tiny-" in complaint(capsys, "retry", str(study))
    monkeypatch.setenv("BY_NAME", "new")
    holders[0].chmod(0o640)
    assert "env.json: others may read it" in complaint(capsys, "retry", str(study))
    holders[0].chmod(0o600)
    monkeypatch.setattr(variables.os, "geteuid", lambda: 12345)  # another user of the group
    assert "--env GIVEN: job tiny-" in complaint(capsys, "retry", str(study), "--trust")
    assert not QUEUE


def test_rendering_shows_no_value(study, capsys):
    QUEUE.clear()
    capsys.readouterr()
    assert sweep(study.parent, "--render", "--env", "GIVEN=hunter2") == 0
    assert "hunter" not in "".join(capsys.readouterr())
    assert not (study / "env.json").exists()


def test_a_record_of_old_keeps_its_names(study, capsys, monkeypatch):
    """It held values; they are read no more, for others may have changed them."""
    content = json.loads((study / "jobs.json").read_text())
    content.pop("checksum", None)
    content["submissions"][0]["spec"]["env"] = {"OLD": "1"}
    (study / "jobs.json").write_text(json.dumps(content))
    assert set(states(study, capsys).values()) == {("waiting", "attic")}
    QUEUE.clear()
    assert "--env OLD: job tiny-" in complaint(capsys, "retry", str(study))
    monkeypatch.setenv("OLD", "2")
    said(capsys, "retry", str(study))
    assert SENT[-1] == {"OLD": "2"}


def test_a_retry_runs_what_its_user_wrote(study, capsys, monkeypatch):
    QUEUE.clear()
    (study / "jobs.json").chmod(0o664)
    message = "jobs.json: another user wrote it, or may have"
    assert message in complaint(capsys, "retry", str(study))
    (study / "jobs.json").chmod(0o644)
    monkeypatch.setattr(journal.os, "geteuid", lambda: 12345)
    assert message in complaint(capsys, "retry", str(study)) and not QUEUE
    assert set(states(study, capsys).values()) == {("failed", "")}  # who only reads may
    assert "2 elements submitted again" in said(capsys, "retry", str(study), "--trust")


def test_a_retry_of_a_study_that_moved(study, capsys):
    """Its jobs would write where it was."""
    QUEUE.clear()
    moved = study.rename(study.parent / "moved")
    assert "its jobs write into" in complaint(capsys, "retry", str(moved)) and not QUEUE
    study.symlink_to(moved)
    assert "2 elements submitted again" in said(capsys, "retry", str(study))


QUICK = ["--config", "experiments/quickstart.py:text"]
CLOUD = ["--workdir", "gs://bucket/runs"]
POD = [*QUICK, *CLOUD, "--backend", "gke", "--image", "registry/isoflop"]
SLURM = ["--backend", "slurm"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([*QUICK, "--backend", "slrum"], "--backend 'slrum' (did you mean 'slurm'?)"),
        ([*QUICK, "--backend"], "argument --backend: expected one argument"),
        (
            [*QUICK, "--backend", "slurm", "--partiton", "gpu"],
            "unknown argument '--partiton' (did you mean '--partition'?)",
        ),
        ([*QUICK, "--partition", "gpu"], "'--partition' (an option of --backend slurm)"),
        ([*QUICK, "--backend", "gke", "--workers", "2"], "(an option of --backend local)"),
        ([*QUICK, "--backend", "gke"], "do not see this disk; name a bucket"),
        ([*QUICK, *CLOUD, "--backend", "gke", "--topology", "v5e:4x4"], "--image is missing"),
        ([*QUICK, *CLOUD, "--backend", "tpu-vm"], "--project is missing"),
        ([*QUICK, "--backend", "slurm", "--slices", "2"], "--slices 2: slices are TPUs'"),
        ([*QUICK, "--backend", "slurm", "--topology", "v5e:4x4"], "no TPUs under SLURM"),
        ([*QUICK, "--backend", "slurm", "--topology", "h10:8"], "no chip 'h10' (did you mean"),
        (
            [*QUICK, "--backend", "slurm", "--topology", "h100:9", "--hosts", "2"],
            "--hosts 2 do not",
        ),
        ([*QUICK, *SLURM, "--topology", "cpu:8"], "leave it out for CPUs; --hosts says how many"),
        ([*POD, "--topology", "v5e:4x5"], "no v5e slice has this shape (nearest: v5e:4x4)"),
        ([*POD, "--topology", "v5e:4x4", "--hosts", "2"], "--hosts 2: v5e:4x4 is 4 machines"),
        ([*QUICK, "--topology", "v5e:4x4"], "--topology goes with --dry_run, or with a --backend"),
        ([*QUICK, "--backend", "slurm", "--timeout", "1m"], "not longer than --warning 90"),
        ([*QUICK, "--backend", "slurm", "--timeout", "soon"], "--timeout 'soon': expected minutes"),
        (
            [*QUICK, *SLURM, "--topology", "h100:16", "--config.hardware.mesh.tensor=3"],
            "config.hardware.mesh: {'data': 5, 'tensor': 3} needs devices in multiples of 3",
        ),
        (
            [*POD, "--topology", "v5e:4x4", "--slices", "2", "--config.train.batch_size=32"],
            "--slices 2, but config.hardware.mesh.slice=1; add --config.hardware.mesh.slice=2",
        ),
        (
            [*POD, "--topology", "v5e:16x16"],
            "is not divisible by 256 data-parallel devices",
        ),
        (
            [*QUICK, *SLURM, "--account", "lab\n#SBATCH --wrap=x"],
            r"--account 'lab\n#SBATCH --wrap=x': expected letters, digits and",
        ),
        ([*QUICK, *SLURM, "--partition=--wrap=x"], "--partition '--wrap=x': expected letters"),
        ([*QUICK, *SLURM, "--logs_folder", "$(x)"], "--logs_folder '$(x)': expected a folder"),
        ([*QUICK, *SLURM, "--parallel", "0"], "--parallel 0 must be at least 1"),
        ([*QUICK, *SLURM, "--memory", "-1"], "--memory -1 must be at least 0"),
        ([*POD, "--topology", "v5e:4x4", "--namespace=-x"], "--namespace '-x': expected"),
        ([*QUICK, "--env", "A=1"], "(the workers of this machine inherit your environment"),
        ([*QUICK, *SLURM, "--env", "A-B=1"], "--env 'A-B=***': expected NAME, set in your"),
        ([*QUICK, "--backend", "slurm", "--env", "A"], "--env A: not set here; export it first"),
    ],
)
def test_bad_options(capsys, monkeypatch, words, message):
    monkeypatch.chdir(tiny.ROOT)
    assert message in complaint(capsys, *words)
