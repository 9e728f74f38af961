"""Checkpoints through Orbax: asynchronous, atomic, checked by content when they come back."""

import contextlib
import functools
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax import numpy as jnp
from orbax.checkpoint import checkpoint_managers as policies

from research import processes
from research.errors import UserError
from research.run import buckets
from research.run.lease import Held
from research.run.mirror import Mirror

SPARE_BYTES = 2**20  # on disk beside the arrays: metadata, indices, partly filled blocks
log = logging.getLogger("research")


def reader(folder: Path) -> ocp.CheckpointManager:
    """Return a manager of `folder` to restore from; it changes nothing there."""
    return _manager(folder, ocp.CheckpointManagerOptions(create=False))


def check(folder: Path) -> None:
    """Raise UserError where the checkpoints of a run cannot be kept in its folder."""
    if _mirrored(folder) and jax.process_count() > 1:
        raise UserError(f"{folder}: several processes need gs:// or a folder that all share")


def _kept_in(checkpoints: ocp.CheckpointManager) -> Path:
    return checkpoints.bucket if isinstance(checkpoints, Mirror) else checkpoints.directory


def _mirrored(folder: Path) -> bool:
    return str(folder).startswith("s3://")


def _manager(folder: Path, options: ocp.CheckpointManagerOptions) -> ocp.CheckpointManager:
    if _mirrored(folder):
        return Mirror(folder, options)
    return ocp.CheckpointManager(
        folder if buckets.remote(folder) else folder.absolute(), options=options
    )


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
    if processes.first():
        _discard_unfinished(folder)
    policy = policies.AnyPreservationPolicy(
        [policies.LatestN(keep), policies.CustomSteps(steps=permanent)]
    )
    options = ocp.CheckpointManagerOptions(preservation_policy=policy, create=True)
    with _one_line(folder):
        checkpoints = _manager(folder, options)
    try:
        yield checkpoints
        with _one_line(folder):
            _finish(checkpoints)
            # Whoever was killed between a save and this left one too many.
            for step in {*sorted(checkpoints.all_steps())[:-keep]} - {*permanent}:
                checkpoints.delete(step)
            _finish(checkpoints)
            checkpoints.close()
    except BaseException as error:
        with contextlib.suppress(Exception):  # the first error is the one to report
            checkpoints.close()
        if processes.first() and not isinstance(error, Held):  # else they may be another's
            _discard_unfinished(folder)
        raise


def _discard_unfinished(folder: Path) -> None:
    if buckets.remote(folder):
        return  # Orbax marks what is finished there, and overlooks the rest
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
    """A 32-bit sum over every element of every leaf, the same wherever the elements lie.

    Each element's bits are mixed with its position, so that the sum sees a flipped bit as well as
    two swapped elements. It is made on the devices, each of which sums what it holds, and on a CPU
    by numpy, which needs no compilation.
    """
    leaves = jax.tree.leaves(state)
    if all(leaf.is_fully_addressable for leaf in leaves) and jax.default_backend() == "cpu":
        with np.errstate(over="ignore"):
            return int(_sum(np, [np.ascontiguousarray(leaf) for leaf in leaves]))
    return int(_sum_on_devices(leaves))


def _sum(library: Any, leaves: list[Any]) -> Any:
    total = np.uint32(0)
    for leaf in leaves:
        position = np.uint32(0)
        for axis, size in enumerate(leaf.shape):
            along = library.arange(size, dtype=np.uint32)
            along = along.reshape((size,) + (1,) * (leaf.ndim - axis - 1))
            position = position * np.uint32(size % 2**32) + along
        words = leaf.view(f"uint{8 * leaf.dtype.itemsize}").astype(np.uint32)
        mixed = _mix(words.reshape(leaf.shape) + _mix(position))
        total = total * np.uint32(31) + mixed.sum(dtype=np.uint32)
    return total


def _mix(words: Any) -> Any:
    """A bijection of 32 bits in which each bit of the result depends on all (Wellons 2018)."""
    words = (words ^ (words >> 16)) * np.uint32(0x7FEB352D)
    words = (words ^ (words >> 15)) * np.uint32(0x846CA68B)
    return words ^ (words >> 16)


_sum_on_devices = jax.jit(functools.partial(_sum, jnp))


def save(checkpoints: ocp.CheckpointManager, step: int, state: Any, meta: dict) -> None:
    """Start saving `state` and the JSON `meta` as `step`; returns before the write is done.

    Raises:
        UserError: when this one, or the one before, cannot be written.
    """
    content = {**meta, "checksum": checksum(state)}
    items = ocp.args.Composite(state=ocp.args.StandardSave(state), meta=ocp.args.JsonSave(content))
    with _one_line(_kept_in(checkpoints)):
        # TensorStore's threads fail noisily on a full disk, so they are not let on one.
        needed = sum(leaf.nbytes for leaf in jax.tree.leaves(state)) + SPARE_BYTES
        folder = str(checkpoints.directory)
        if "://" not in folder and shutil.disk_usage(folder).free < needed:
            raise OSError("No space left on device")
        _finish(checkpoints)  # as Orbax would: one save at a time
        checkpoints.save(step, args=items, force=True)


def wait(checkpoints: ocp.CheckpointManager) -> None:
    """Return once every save is on disk.

    Raises:
        UserError: when one cannot be written.
    """
    with _one_line(_kept_in(checkpoints)):
        _finish(checkpoints)


def _finish(checkpoints: ocp.CheckpointManager) -> None:
    checkpoints.wait_until_finished()
    if isinstance(checkpoints, Mirror):
        checkpoints.publish()


def restore(checkpoints: ocp.CheckpointManager, step: int, shapes: Any) -> tuple[Any, dict]:
    """Return (state, meta) of `step`, laid out as `shapes` (ShapeDtypeStructs with shardings).

    Raises:
        ValueError: when the content is not what was saved; Orbax raises its own for broken files.
    """
    items = ocp.args.Composite(state=ocp.args.StandardRestore(shapes), meta=ocp.args.JsonRestore())
    restored = checkpoints.restore(step, args=items)
    state, meta = restored["state"], restored["meta"]
    if meta["checksum"] != checksum(state):
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
        restored, error = None, "another process could not read it"
        try:
            restored = restore(checkpoints, step, shapes)
        except Exception as found:  # Orbax and TensorStore raise many kinds for broken files
            error = (str(found).splitlines() or [type(found).__name__])[0][:120]
        if processes.all_agree(restored is not None) and restored:
            return step, *restored
        log.warning(
            "checkpoint %s/%d is damaged (%s); using the one before",
            _kept_in(checkpoints), step, error,
        )  # fmt: skip
    return None


def forget_after(checkpoints: ocp.CheckpointManager, step: int) -> None:
    """Delete the checkpoints after `step`: damaged ones, whose steps will be saved again."""
    for later in [each for each in checkpoints.all_steps() if each > step]:
        checkpoints.delete(later)
