"""What cannot be read is not damaged: the run stops with one line, and nothing is changed."""

import json
import os
import re
import stat
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from research import programs
from research.errors import Interrupted, UserError
from research.run import checkpoint
from research.run.rows import read_rows
from research.train import train
from tests import tiny
from tests.reliability.interrupt import stop_at


@pytest.fixture
def stopped(config, tmp_path, monkeypatch):
    """The folder of a run that was stopped at step 12 and has checkpoints at 8 and 12."""
    stop_at(monkeypatch, 11)
    with pytest.raises(Interrupted):
        train(config, tmp_path / "run")
    return tmp_path / "run"


def files(folder: Path) -> dict[str, bytes]:
    """Every file below `folder` but those of the lease."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink() and ".lease" not in path.parts
    }


def refused(config, folder: Path, match: str) -> None:
    """Training in `folder` ends with one line that says `match`, and changes nothing there."""
    before = files(folder)
    with pytest.raises(UserError, match=match) as error:
        train(config, folder)
    assert "\n" not in str(error.value) and len(str(error.value)) < 600
    changed = {"progress.json", "provenance.json"}  # when it was started, and what it said last
    after = files(folder)
    assert {k: v for k, v in after.items() if k not in changed} == {
        k: v for k, v in before.items() if k not in changed
    }


# Checkpoints.


def test_a_disk_that_fails_is_no_damage(config, stopped):
    """Each file that a restore reads, in turn, opens and cannot be read: EIO."""
    step = stopped / "checkpoints" / "12"
    read = [p for p in step.rglob("*") if p.is_file() and p.name not in ("commit_success.txt",)]
    read = [p for p in read if p.name not in ("_CHECKPOINT_METADATA", "_sharding")]
    stops, shapes = 0, programs.build(config).state
    for path in sorted(read):
        kept = path.with_name(path.name + ".kept")
        path.rename(kept)
        path.symlink_to("/proc/self/mem")  # reading it from the start is an input/output error
        try:
            restored = checkpoint.restore_newest(checkpoint.reader(stopped / "checkpoints"), shapes)
            assert restored is not None and restored[0] == 12, path  # the file was not needed
        except UserError as error:
            stops += 1
            assert re.search("cannot read checkpoint .*/12: .*nothing was changed", str(error))
        path.unlink()
        kept.rename(path)
    assert stops >= 4
    assert train(config, stopped)["status"] == "finished"


@pytest.mark.parametrize(
    "error",
    [
        PermissionError(13, "Permission denied"),
        OSError(116, "Stale file handle"),
        MemoryError("out of memory"),
        ValueError("RESOURCE_EXHAUSTED: Out of memory while reading"),
        ValueError('PERMISSION_DENIED: Error opening "zarr" driver: NOT_FOUND'),
        RuntimeError("what nobody thought of"),
    ],
    ids=lambda error: f"{type(error).__name__}: {str(error)[:20]}",
)
def test_what_proves_nothing_stops_the_run(config, stopped, monkeypatch, error):
    def fail(*_, **__):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(ocp.CheckpointManager, "restore", fail)
        refused(config, stopped, "cannot read checkpoint .*/12: .*; nothing was changed")
    assert train(config, stopped)["status"] == "finished"


@pytest.mark.parametrize("other", ["shape", "dtype", "tree"])
def test_a_state_of_another_network_stops_the_run(config, stopped, other):
    home = checkpoint.reader(stopped / "checkpoints")
    expected = jax.tree.map(lambda leaf: leaf, programs.build(config).state)
    kernel = expected["params"]["before"]["kernel"]
    if other == "tree":
        expected["params"]["more"] = kernel
    else:
        shape = (8, 4) if other == "shape" else kernel.shape
        dtype = np.float16 if other == "dtype" else kernel.dtype
        expected["params"]["before"]["kernel"] = jax.ShapeDtypeStruct(
            shape, dtype, sharding=kernel.sharding
        )
    with pytest.raises(UserError, match=r"not of this network \(.*params.*\); nothing was changed"):
        checkpoint.restore_newest(home, expected)
    assert tiny.steps(stopped) == {8, 12}


def test_the_meta_is_held_to_its_checksum(config, stopped):
    """One digit of the clock: it is no part of the state, and was believed."""
    file = stopped / "checkpoints" / "12" / "meta" / "metadata"
    meta = json.loads(file.read_text())
    meta["clock"]["began"] += 1000.0
    file.write_text(json.dumps(meta))
    with pytest.raises(checkpoint.Damaged, match="description does not match its checksum"):
        checkpoint.restore(
            checkpoint.reader(stopped / "checkpoints"), 12, programs.build(config).state
        )


def test_two_damaged_ones_of_one_step_are_both_kept(config, stopped):
    for number in range(2):
        file = stopped / "checkpoints" / "12" / "meta" / "metadata"
        file.write_text("{}")
        with checkpoint.writer(stopped / "checkpoints") as checkpoints:
            found = checkpoint.restore_newest(checkpoints, programs.build(config).state)
            assert found is not None
            step, state, meta = found
            assert step == 8
            checkpoint.tidy(checkpoints, step)
            if number == 0:
                checkpoint.save(checkpoints, 12, state, meta)
    names = {path.name for path in (stopped / "checkpoints").iterdir()}
    assert names == {"8", "12.damaged", "12.damaged1"}


# metrics.jsonl.


def delete(path: Path) -> None:
    path.unlink()


def cut(path: Path) -> None:
    """The last two rows go: what a lost page of a disk leaves."""
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-2]))


def drop(path: Path) -> None:
    """A row in the middle goes."""
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:2] + lines[3:]))


def flip(path: Path) -> None:
    """One digit of a loss."""
    content = path.read_bytes()
    at = content.index(b'"loss": ', len(content) // 2) + len(b'"loss": ')
    path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("damage", [delete, cut, drop, flip, folder])
def test_rows_that_are_lost_are_said(config, stopped, damage):
    damage(stopped / "metrics.jsonl")
    refused(config, stopped, "metrics.jsonl.*")


def test_every_bit_of_a_row_counts(config, stopped):
    """No flipped bit of metrics.jsonl gives other rows without a word."""
    path = stopped / "metrics.jsonl"
    content = path.read_bytes()
    rows = read_rows(path)
    start = content.index(b"\n") + 1
    for at in range(start, content.index(b"\n", start)):
        path.write_bytes(content[:at] + bytes([content[at] ^ (1 << at % 8)]) + content[at + 1 :])
        try:
            assert read_rows(path) == rows, at  # a blank between two keys
        except UserError as error:
            assert "was changed since it was written" in str(error)


# Rights.


def test_files_follow_the_umask_and_keep_the_rights_they_have(config, tmp_path):
    former = os.umask(0o002)
    try:
        train(config, tmp_path / "shared")
    finally:
        os.umask(former)

    def mode(path: Path) -> int:
        return stat.S_IMODE(path.stat().st_mode)

    names = ("config.json", "metrics.jsonl", "result.json", "events.out.tfevents.metrics")
    assert {mode(tmp_path / "shared" / name) for name in names} == {0o664}
    assert {mode(p) for p in (tmp_path / "shared" / ".lease").iterdir()} == {0o664}


def test_another_user_of_the_group_goes_on(config, stopped):
    """No file that a resume makes anew is opened in place: all may belong to somebody else."""
    names = ("config.json", "metrics.jsonl", "events.out.tfevents.metrics", "provenance.json")
    theirs = {}
    for name in names:
        theirs[name] = (stopped / name).open("rb")
        (stopped / name).chmod(0o444)
    before = {name: file.read() for name, file in theirs.items()}
    assert train(config, stopped)["status"] == "finished"
    for name, file in theirs.items():
        file.seek(0)
        assert file.read() == before[name], name  # the other's file itself is as it was
        file.close()
