"""Checkpoints through Orbax: asynchronous, atomic, checked by content when they come back."""

import contextlib
import logging
import shutil
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as policies

from research.errors import UserError

SPARE_BYTES = 2**20  # on disk beside the arrays: metadata, indices, partly filled blocks
log = logging.getLogger("research")


def reader(folder: Path) -> ocp.CheckpointManager:
    """Return a manager of `folder` to restore from; it changes nothing there."""
    options = ocp.CheckpointManagerOptions(create=False)
    return ocp.CheckpointManager(folder.absolute(), options=options)


@contextlib.contextmanager
def writer(
    folder: Path, permanent: tuple[int, ...] = (), keep: int = 2
) -> Iterator[ocp.CheckpointManager]:
    """Open the manager of `folder`: it keeps the newest `keep` steps and the `permanent` ones.

    On leaving, what is being written is finished; what cannot be, or was left by a process that
    was killed, is removed. The caller holds the run's lock.

    Raises:
        UserError: when a checkpoint cannot be written.
    """
    _discard_unfinished(folder)
    policy = policies.AnyPreservationPolicy(
        [policies.LatestN(keep), policies.CustomSteps(steps=permanent)]
    )
    options = ocp.CheckpointManagerOptions(preservation_policy=policy, create=True)
    with _one_line(folder):
        checkpoints = ocp.CheckpointManager(folder.absolute(), options=options)
    try:
        yield checkpoints
        with _one_line(folder):
            checkpoints.close()
    except BaseException:
        with contextlib.suppress(Exception):  # the first error is the one to report
            checkpoints.close()
        _discard_unfinished(folder)
        raise


def _discard_unfinished(folder: Path) -> None:
    for unfinished in folder.glob("*.orbax-checkpoint-tmp"):
        shutil.rmtree(unfinished, ignore_errors=True)


@contextlib.contextmanager
def _one_line(folder: str | Path) -> Iterator[None]:
    """Turn what Orbax and TensorStore raise for a full or broken disk into a UserError."""
    try:
        yield
    except (OSError, ValueError) as error:  # TensorStore says ValueError
        full = "No space left on device" in str(error)
        reason = "No space left on device" if full else str(error).partition("\n")[0][:200]
        raise UserError(f"cannot write {folder}: {reason}") from error


def checksum(state: Any) -> int:
    """CRC-32 of every leaf's bytes, in tree order; None of it leaves this process.

    Returns 0 when some array is not wholly on this process's devices.
    """
    leaves = jax.tree.leaves(state)
    if not all(leaf.is_fully_addressable for leaf in leaves):
        return 0
    crc = 0
    for leaf in leaves:
        crc = zlib.crc32(np.ascontiguousarray(leaf).view(np.uint8).data, crc)
    return crc


def save(checkpoints: ocp.CheckpointManager, step: int, state: Any, meta: dict) -> None:
    """Start saving `state` and the JSON `meta` as `step`; returns before the write is done.

    Raises:
        UserError: when this one, or the one before, cannot be written.
    """
    content = {**meta, "checksum": checksum(state)}
    items = ocp.args.Composite(state=ocp.args.StandardSave(state), meta=ocp.args.JsonSave(content))
    with _one_line(checkpoints.directory):
        # TensorStore's threads fail noisily on a full disk, so they are not let on one.
        needed = sum(leaf.nbytes for leaf in jax.tree.leaves(state)) + SPARE_BYTES
        if shutil.disk_usage(checkpoints.directory).free < needed:
            raise OSError("No space left on device")
        checkpoints.save(step, args=items, force=True)


def wait(checkpoints: ocp.CheckpointManager) -> None:
    """Return once every save is on disk.

    Raises:
        UserError: when one cannot be written.
    """
    with _one_line(checkpoints.directory):
        checkpoints.wait_until_finished()


def restore(checkpoints: ocp.CheckpointManager, step: int, shapes: Any) -> tuple[Any, dict]:
    """Return (state, meta) of `step`, laid out as `shapes` (ShapeDtypeStructs with shardings).

    Raises:
        ValueError: when the content is not what was saved; Orbax raises its own for broken files.
    """
    items = ocp.args.Composite(state=ocp.args.StandardRestore(shapes), meta=ocp.args.JsonRestore())
    restored = checkpoints.restore(step, args=items)
    state, meta = restored["state"], restored["meta"]
    if meta["checksum"] and meta["checksum"] != checksum(state):
        raise ValueError("its content does not match its checksum")
    return state, meta


def restore_newest(
    checkpoints: ocp.CheckpointManager, shapes: Any, last: int | None = None
) -> tuple[int, Any, dict] | None:
    """Return (step, state, meta) of the newest sound checkpoint, or None when there is none.

    Those after step `last` are passed over; one that cannot be read is reported in one warning.
    """
    steps = [step for step in checkpoints.all_steps() if last is None or step <= last]
    for step in sorted(steps, reverse=True):
        try:
            state, meta = restore(checkpoints, step, shapes)
            return step, state, meta
        except Exception as error:  # Orbax and TensorStore raise many kinds for broken files
            reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
            log.warning(
                "checkpoint %s/%d is damaged (%s); using the one before",
                checkpoints.directory, step, reason,
            )  # fmt: skip
    return None


def forget_after(checkpoints: ocp.CheckpointManager, step: int) -> None:
    """Delete the checkpoints after `step`: damaged ones, whose steps will be saved again."""
    for later in [each for each in checkpoints.all_steps() if each > step]:
        checkpoints.delete(later)
