"""The tpu-vm scripts, run whole against a stand-in for gcloud, whose words gcloud itself checks."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from launch import job, tpu_vm
from launch.job import JobSpec
from launch.tpu_vm import TpuVm
from research.errors import UserError
from research.run import record
from tests.launch import fake_gcloud

SPEC = JobSpec(
    "lm-0a1b",
    ("-m", "launch.run", "--config", "study.py", "--workdir", "gs://b/runs", "--group"),
    env=("LIBTPU_INIT_ARGS",),
    accelerator="v5e",
    topology="4x4",
    hosts=4,
    timeout=60,
    restarts=1,
    array=("text-size64-trunk",),
)
ENV = {"LIBTPU_INIT_ARGS": "--a='b c' $HOME"}
NAME = "lm-0a1b-0"


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository with one study, as the project's own."""
    folder = tmp_path / "repository"
    folder.mkdir()
    (folder / "study.py").write_text("PARTS = {}\n")
    me = ["-c", "user.name=t", "-c", "user.email=t@t"]
    for words in (["init", "-q"], ["add", "."], [*me, "commit", "-qm", "Begin"]):
        subprocess.run(["git", *words], cwd=folder, check=True)
    monkeypatch.setattr(tpu_vm, "ROOT", folder)
    return folder


@pytest.fixture
def cloud(tmp_path, monkeypatch):
    """The stand-in's folder, with the stand-in on the path."""
    folder = tmp_path / "cloud"
    (folder / "home/.local/bin").mkdir(parents=True)
    (folder / "bin").mkdir()
    (folder / "state").write_text("")
    (folder / "name").write_text(NAME)
    stand_in = f'exec {sys.executable} {fake_gcloud.__file__} "$@"'
    for path, text in {
        "bin/gcloud": stand_in.replace('"$@"', 'gcloud "$@"'),
        "bin/python3": "exit 0",  # pip install uv
        "home/.local/bin/uv": stand_in.replace('"$@"', 'uv "$@"'),
    }.items():
        (folder / path).write_text(f"#!/usr/bin/env bash\n{text}\n")
        (folder / path).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}/bin:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_GCLOUD", str(folder))
    return folder


def backend(**options) -> TpuVm:
    return TpuVm("lab", "us-west4-a", poll=0, **options).pinned()


def calls(cloud: Path) -> list[list[str]]:
    return [json.loads(line) for line in (cloud / "calls").read_text().splitlines()]


def verbs(cloud: Path) -> str:
    """What was asked of gcloud, but for looking: creations, runs and deletions."""
    said = [words[3] for words in calls(cloud)]
    return " ".join(verb for verb in said if verb in ("create", "delete"))


def wait(ready: Callable[[], bool], id: str) -> None:
    """Wait until `ready`; a script that never comes so far is killed."""
    limit = time.monotonic() + 60
    while not ready():
        if time.monotonic() > limit:
            os.killpg(int(id.rpartition(":")[2]), signal.SIGKILL)
            raise AssertionError(backend().logs(id)[-2000:])
        time.sleep(0.02)


def end(id: str) -> int:
    """Wait for the script of `id`, a child of this process; return its exit code."""
    ended = []

    def reaped() -> bool:
        number, status = os.waitpid(int(id.rpartition(":")[2]), os.WNOHANG)
        ended.extend([status] if number else [])
        return bool(ended)

    wait(reaped, id)
    return os.waitstatus_to_exitcode(ended[0])


@pytest.mark.parametrize(
    ("plan", "creates", "code", "asked", "starts"),
    [
        (["0"], [], 0, "create delete", 1),
        (["75", "75", "75", "0"], [], 0, "create delete", 4),  # stopped with its state saved
        (["1", "0"], [], 0, "create delete", 2),
        (["1", "3"], [], 1, "create delete", 2),  # as often as --restarts says
        (["2"], [], 2, "create delete", 1),  # a mistake of the user's
        (["124"], [], 1, "create delete", 1),  # the time limit
        (["255 SUSPENDED"] * 3 + ["0"], [], 0, "create delete " * 4, 4),  # preempted
        (["0"], ["FAILED", "ACTIVE"], 0, "create delete " * 2, 1),
        ([], ["FAILED", "FAILED"], 1, "create delete create delete delete", 0),
    ],
)
def test_an_element_from_queue_to_end(repository, cloud, plan, creates, code, asked, starts):
    (cloud / "plan").write_text("\n".join(plan))
    (cloud / "creates").write_text("\n".join(creates))
    (id,) = backend().submit(SPEC, ENV)
    assert end(id) == code, backend().logs(id)
    assert (verbs(cloud), (cloud / "state").read_text()) == (asked.strip(), "")
    trained = (cloud / "trained").read_text().splitlines() if starts else []
    assert trained == [" ".join(SPEC.command(0))] * starts
    if starts:
        revision = backend().revision
        assert set((cloud / "env").read_text().splitlines()) == {f"{revision} --a='b c' $HOME"}
        assert (cloud / f"home/isoflop-{revision[:12]}/study.py").read_text() == "PARTS = {}\n"
    # The value went by a file, which is gone from here and from there, and by nothing else.
    logs = repository / ".cache/launch"
    kept = [*logs.iterdir(), cloud / "calls", *(cloud / "home").glob("*.*")]
    assert not [path for path in kept if path.is_file() and b"--a=" in path.read_bytes()]


def test_values_of_variables_are_their_owners(repository, cloud):
    """While the script runs they are in a file of mode 0600, here and on the machine."""
    (cloud / "creates").write_text("WAITING_FOR_RESOURCES\n")
    (id,) = backend().submit(SPEC, ENV)
    try:
        (file,) = (repository / ".cache/launch").glob("*.env")
        assert file.stat().st_mode & 0o777 == 0o600
        assert shlex.split(file.read_text()) == ["export", *(f"{k}={v}" for k, v in ENV.items())]
        command = Path(f"/proc/{id.rpartition(':')[2]}/cmdline").read_text()
        assert "--a=" not in command + file.with_suffix(".sh").read_text()
        assert "--a=" not in backend().render(SPEC)
    finally:
        backend().cancel([id])
        end(id)
    assert not file.exists()


def test_cancelling_deletes_what_costs(repository, cloud):
    (cloud / "plan").write_text("wait")
    (id,) = backend().submit(SPEC, ENV)
    wait((cloud / "waits").exists, id)
    assert backend().states([id]) == {id: (job.RUNNING, "ACTIVE")}
    backend().cancel([id])
    assert end(id) == 143
    assert (verbs(cloud), (cloud / "state").read_text()) == ("create delete", "")


def test_slices_that_nobody_drives_are_said_and_cancelled(repository, cloud):
    (cloud / "state").write_text("ACTIVE")
    ids = [f"{NAME}@elsewhere:1", "lm-0a1b-1@elsewhere:2"]
    found = backend().states(ids)
    assert list(found) == ids[:1] and found[ids[0]][0] == job.FAILED
    assert "no script of this machine drives it" in found[ids[0]][1]
    backend().cancel(ids[:1])
    assert verbs(cloud) == "delete" and "--force" in calls(cloud)[-1]


def test_only_what_a_revision_holds_is_shipped(repository, monkeypatch):
    assert len(backend().revision) == 40
    with pytest.raises(UserError, match="--revision nowhere: git knows no such commit"):
        backend(revision="nowhere")
    lost = JobSpec(**{**SPEC.__dict__, "argv": ("-m", "launch.run", "--config", "other.py")})
    with pytest.raises(UserError, match="--config other.py: not in revision"):
        backend().check(lost)
    (repository / "study.py").write_text("changed")
    with pytest.raises(UserError, match="study.py has changes that no revision holds; commit"):
        backend()
    backend(dirty=True).check(SPEC)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"accelerator": "tpu7x", "topology": "2x2x1"}, "TPU VMs have none; --backend gke does"),
        ({"accelerator": "h100", "topology": "8"}, "--topology h100: not a TPU"),
        ({"image": "here"}, "--image: the tpu-vm backend ships this code"),
    ],
)
def test_what_it_has_not(repository, changes, message):
    with pytest.raises(UserError, match=message):
        backend().check(JobSpec(**{**SPEC.__dict__, **changes}))


@pytest.mark.skipif(not shutil.which("gcloud"), reason="no gcloud here to parse its options")
def test_gcloud_takes_every_command(repository, tmp_path, monkeypatch):
    """Without an account the real one ends with 1 after parsing, and with 2 at a bad option."""
    several = JobSpec(**{**SPEC.__dict__, "slices": 2})
    one, two = backend(spot=True), backend(reserved=True, service_account="a@b")
    commands = [
        *(one.create(SPEC, NAME), two.create(several, NAME), one.look(NAME), one.delete(NAME)),
        *(
            one.copy(NAME, "study.py", "other.py"),
            one.ssh(NAME, "exit"),
            (*one.delete(NAME), "--async"),
        ),
        *([*tpu_vm.GCLOUD, "list", *one._place, "--format=json"], [*one.look(NAME), "--lok"]),
    ]
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path / "gcloud"))
    started = [
        subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for words in commands
    ]
    said = [process.communicate()[1] for process in started]
    assert [process.returncode for process in started] == [1] * (len(commands) - 1) + [2], said
    assert all("account" in text for text in said[:-1])


@pytest.mark.parametrize(
    ("told", "dirty"), [("true", True), ("false", False), ("", None), ("no", None)]
)
def test_shipped_code_knows_what_it_was_told(tmp_path, monkeypatch, told, dirty):
    """Where there is no repository, nor git, as on TPU VMs and in containers."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("ISOFLOP_REVISION", "0" * 40)
    monkeypatch.setenv("ISOFLOP_DIRTY", told)
    assert record.code() == {"git_revision": "0" * 40, "dirty": dirty}
    monkeypatch.delenv("ISOFLOP_DIRTY")
    assert record.code()["dirty"] is None  # what nobody said is not known


def test_a_repository_around_the_code_is_not_its_own(repository, monkeypatch):
    """As where an archive was unpacked in somebody's repository, or git may not read ours."""
    monkeypatch.setenv("ISOFLOP_REVISION", "0" * 40)
    monkeypatch.setenv("ISOFLOP_DIRTY", "true")
    shipped = repository / "record.py"
    shipped.write_text("")
    monkeypatch.setattr(record, "__file__", str(shipped))
    assert record.code() == {"git_revision": "0" * 40, "dirty": True}
    subprocess.run(["git", "add", "record.py"], cwd=repository, check=True)
    found = record.code()
    assert found["dirty"] is True and found["git_revision"] not in ("", "0" * 40)
