"""One holder at a time, whatever becomes of holders, clocks, files and rights."""

import json
import multiprocessing
import os
import subprocess
import threading
import time

import pytest

from launch import local
from research import evaluation, study
from research import train as training
from research.__main__ import main
from research.errors import UserError
from research.run import lease, record, storage
from research.train import train
from tests import tiny


class Clock:
    """Stands for `time` in the module: its monotonic clock moves when told to."""

    def __init__(self):
        self.now = 1e6

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(lease, "time", clock)
    monkeypatch.setattr(lease, "_seen", {})
    return clock


def elsewhere(folder, number, **content):
    """A lease that another machine wrote, whose clock says whatever it says."""
    holder = {"host": "far", "space": "far", "pid": 1, "born": "1", "user": "ada", "beats": 0}
    path = folder / ".lease" / str(number)
    record.write_json(path, holder | content)
    return path


def taken(folder):
    """Whether `folder` can be taken; it is let go of again."""
    try:
        lease.take(folder).release()
        return True
    except lease.Held:
        return False


def test_a_holder_elsewhere_is_replaced_when_its_counter_stands_still(tmp_path, clock):
    elsewhere(tmp_path, 1)
    for beats in range(5):  # it beats, however slowly: nobody takes it
        elsewhere(tmp_path, 1, beats=beats)
        assert not taken(tmp_path)
        clock.now += lease.EXPIRY_SECONDS - 1
        assert not taken(tmp_path)
    clock.now += 1
    assert taken(tmp_path)
    assert sorted(storage.names(tmp_path / ".lease")) == ["1", "2"]


def test_the_clocks_of_machines_do_not_matter(tmp_path, clock, monkeypatch):
    """Nothing in a lease is a time, and no time of the wall is read."""
    monkeypatch.setattr(lease, "time", clock)  # it has no `time.time`
    path = elsewhere(tmp_path, 1)
    for stamp in (0, 2**31):  # files of the past and of the future
        os.utime(path, (stamp, stamp))
        assert not taken(tmp_path)
    clock.now += lease.EXPIRY_SECONDS
    assert taken(tmp_path)


def test_what_a_holder_let_go_of_is_free(tmp_path, clock):
    elsewhere(tmp_path, 7, released=True)
    assert taken(tmp_path)
    assert sorted(storage.names(tmp_path / ".lease")) == ["7", "8"]


@pytest.mark.parametrize("content", [b"", b'{"host": "far', b"\0" * 99, b"[1]", b"\xff"])
def test_a_half_written_lease_expires(tmp_path, clock, content):
    path = elsewhere(tmp_path, 1)
    path.write_bytes(content)
    with pytest.raises(lease.Held, match="in use by another process"):
        lease.take(tmp_path)
    clock.now += lease.EXPIRY_SECONDS
    assert taken(tmp_path)


def test_a_process_of_this_machine_that_is_gone_is_gone_at_once(tmp_path, clock):
    script = "import sys, pathlib, time; from research.run import lease; "
    script += "lease.take(pathlib.Path(sys.argv[1])); print('held', flush=True); time.sleep(600)"
    command = [tiny.sys.executable, "-c", script, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=tiny.ROOT) as process:
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(lease.Held, match=f"in use by process {process.pid} of "):
            lease.take(tmp_path)
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # dead, its code not collected
        assert taken(tmp_path)


def test_a_number_used_again_by_another_process_is_not_the_holder(tmp_path, clock):
    mine = lease._myself()
    elsewhere(tmp_path, 1, **mine)
    assert not taken(tmp_path)
    elsewhere(tmp_path, 1, **mine | {"born": "0"})
    assert taken(tmp_path)


def race(folder, barrier, won):
    barrier.wait()
    try:
        held = lease.take(folder)
    except lease.Held:
        return
    with won.get_lock():
        won.value += 1
    held.ended.wait(0)


def test_of_many_who_try_one_gets_it(tmp_path):
    """Threads and processes at once, on a new folder and on one that was let go of."""
    fork = multiprocessing.get_context("forkserver")
    for round in range(3):
        folder, won = tmp_path / str(round), fork.Value("i", 0)
        elsewhere(folder, 3, released=True) if round else None
        barrier = threading.Barrier(8)
        threads = [threading.Thread(target=race, args=(folder, barrier, won)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert won.value == 1


def test_a_holder_that_slept_stops_before_it_writes(config, tmp_path, monkeypatch):
    """Taken over in the middle: no row, no checkpoint and no result of the first one after that."""
    folder, original, rows = tmp_path / "run", training.optim.learning_rate, []

    def poisoned(settings, at):
        if at == 9 and not rows:
            elsewhere(folder, 2)
            rows.append((folder / "metrics.jsonl").read_bytes())
        return original(settings, at)

    monkeypatch.setattr(training.optim, "learning_rate", poisoned)
    with pytest.raises(lease.Held, match="silent for too long; another has taken it"):
        train(config, folder)
    assert rows == [(folder / "metrics.jsonl").read_bytes()]
    # What was being saved when the folder was taken is given up.
    assert tiny.steps(folder) in ({4}, {4, 8}) and not (folder / "result.json").exists()


def test_a_holder_that_slept_through_the_end_writes_no_result(config, tmp_path, monkeypatch):
    original = evaluation.final

    def late(*args):
        elsewhere(tmp_path / "run", 2)
        return original(*args)

    monkeypatch.setattr(evaluation, "final", late)
    with pytest.raises(lease.Held):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run" / "result.json").exists()


def test_a_worker_leaves_to_others_what_they_hold(config, tmp_path, clock, monkeypatch):
    """It trains the rest, and takes the last run when its holder's lease has expired."""
    loaded = study.load(tiny.write(tmp_path, tiny.TWO_SIZES), ["--config.sampling.num=0"])
    lone = next(group[0] for group in loaded.groups if len(group) == 1)
    elsewhere(tmp_path / "tiny" / lone.id, 1)
    finished = []

    def pause(seconds):
        finished.append([local.finished(tmp_path / "tiny", trial) for trial in loaded.trials])
        clock.now += lease.EXPIRY_SECONDS / 2

    monkeypatch.setattr(local.time, "sleep", pause)
    local.work(loaded, tmp_path / "tiny")
    assert finished and all(row.count(False) == 1 for row in finished)
    assert all(local.finished(tmp_path / "tiny", trial) for trial in loaded.trials)


def test_a_job_that_moved_waits_for_its_former_self(tmp_path, clock):
    elsewhere(tmp_path, 1)
    lease.wait(tmp_path)
    assert taken(tmp_path)
    elsewhere(tmp_path, 3)
    began = clock.now
    clock.sleep = lambda seconds: (elsewhere(tmp_path, 3, beats=1), Clock.sleep(clock, seconds))
    lease.wait(tmp_path)  # somebody is there: no use in waiting
    assert clock.now - began < lease.EXPIRY_SECONDS and not taken(tmp_path)


def test_it_beats_until_it_is_let_go(tmp_path, monkeypatch):
    monkeypatch.setattr(lease, "EXPIRY_SECONDS", 0.06)
    held, path = lease.take(tmp_path), tmp_path / ".lease" / "1"
    end = time.monotonic() + 60
    while json.loads(path.read_text())["beats"] < 3 and time.monotonic() < end:
        held.ended.wait(0.01)
    held.check()
    held.release()
    assert json.loads(path.read_text())["released"] and not held.thread.is_alive()


# Rights.


@pytest.fixture
def readonly(tmp_path):
    """A file system that cannot be written."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a file system")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_file_system_that_cannot_be_written(config, tmp_path, readonly, capsys):
    run = ["train", "--config", str(tmp_path / "tiny.py"), "--workdir", str(readonly / "run")]
    assert main(run) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: cannot write {readonly / 'run'}")
    assert line.endswith("Read-only file system")


def test_two_users_on_one_folder(config, tmp_path):
    """Who may not write where another has trained is told so in one line."""
    if os.geteuid():
        pytest.skip("needs the right to become another user")
    train(config, tmp_path / "run")
    (tmp_path / "run" / "result.json").unlink()
    for path in [tmp_path, *tmp_path.parents]:
        if path.stat().st_uid == 0 and path.name.startswith(("pytest", "test", "popen")):
            path.chmod(path.stat().st_mode | 0o055)
    os.seteuid(65534)
    try:
        with pytest.raises(UserError, match=r"cannot write .*/run/.*: Permission denied"):
            lease.take(tmp_path / "run")
    finally:
        os.seteuid(0)
