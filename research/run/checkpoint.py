"""Checkpoints through Orbax: asynchronous, atomic, checked by content when they come back."""

import contextlib
import functools
import itertools
import json
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
from research.run import record, storage, unfinished
from research.run.lease import NOBODY, Hold
from research.run.mirror import Mirror

SPARE_BYTES = 2**20  # on disk beside the arrays: metadata, indices, partly filled blocks
DAMAGED = ".damaged"  # ends the name of a checkpoint that is set aside
# What TensorStore says of bytes that are not what was written, and of those it cannot get at.
BROKEN = ("DATA_LOSS", "NOT_FOUND", "OUT_OF_RANGE", "Error decoding", "compressed stream")
UNREADABLE = ("PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "UNAVAILABLE", "OS error", "ESTALE")
log = logging.getLogger("research")


class Damaged(ValueError):
    """A checkpoint whose content is not what was saved."""


def reader(folder: Path) -> ocp.CheckpointManager:
    """Return a manager of `folder` to restore from; it changes nothing there."""
    return _manager(folder, ocp.CheckpointManagerOptions(create=False))


def check(folder: Path) -> None:
    """Raise UserError where the checkpoints of a run cannot be kept in its folder."""
    if _mirrored(folder) and jax.process_count() > 1:
        raise UserError(f"{folder}: several processes need gs:// or a folder that all share")


def kept_in(checkpoints: ocp.CheckpointManager) -> Path:
    """The folder of a manager, or the bucket of which it has a copy."""
    return (
        checkpoints.bucket
        if isinstance(checkpoints, Mirror)
        else storage.path(str(checkpoints.directory))
    )


def _mirrored(folder: Path) -> bool:
    return str(folder).startswith("s3://")


def _manager(folder: Path, options: ocp.CheckpointManagerOptions) -> ocp.CheckpointManager:
    if _mirrored(folder):
        return Mirror(folder, options)
    return ocp.CheckpointManager(
        folder if storage.remote(folder) else folder.absolute(), options=options
    )


@contextlib.contextmanager
def writer(
    folder: Path, permanent: tuple[int, ...] = (), keep: int = 2, held: Hold = NOBODY
) -> Iterator[ocp.CheckpointManager]:
    """Open the manager of `folder`: it keeps the newest `keep` steps and the `permanent` ones.

    On leaving, what is being written is finished; what cannot be, or was left by a process that
    lost the run, is removed. The caller holds the run's folder as `held`.

    Raises:
        UserError: when a checkpoint cannot be written.
        Lost: when another process has taken the folder.
    """
    local = not storage.remote(folder)
    if processes.first():
        unfinished.discard(folder, range(held.number))
    policy = policies.AnyPreservationPolicy(
        [policies.LatestN(keep), policies.CustomSteps(steps=permanent)]
    )
    options = ocp.CheckpointManagerOptions(
        preservation_policy=policy,
        create=True,
        temporary_path_class=unfinished.under(held) if local else None,
    )
    with _one_line(folder, held):
        checkpoints = _manager(folder, options)
    try:
        yield checkpoints
        with _one_line(folder, held):
            _finish(checkpoints)
            checkpoints.close()
    except BaseException:
        with contextlib.suppress(Exception):  # the first error is the one to report
            checkpoints.close()
        if processes.first():
            unfinished.abandon(folder, held.number)
        raise


@contextlib.contextmanager
def _one_line(folder: str | Path, held: Hold = NOBODY) -> Iterator[None]:
    """Turn what Orbax and TensorStore raise for a full or broken disk into a UserError.

    Where another process has taken the run, that is the reason, whatever they raise.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # TensorStore's are ValueErrors, Orbax's of many kinds
        held.check()
        full = "No space left on device" in str(error)
        reason = "No space left on device" if full else said(error)
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


def save(
    checkpoints: ocp.CheckpointManager, step: int, state: Any, meta: dict, held: Hold = NOBODY
) -> None:
    """Start saving `state` and the JSON `meta` as `step`; returns before the write is done.

    Raises:
        UserError: when this one, or the one before, cannot be written.
        Lost: when another process has taken the run.
    """
    content = {**meta, "checksum": checksum(state), "layout": _layout(state)}
    content = json.loads(json.dumps(content))
    content["seal"] = record.digest(content)
    items = ocp.args.Composite(state=ocp.args.StandardSave(state), meta=ocp.args.JsonSave(content))
    with _one_line(kept_in(checkpoints), held):
        # TensorStore's threads fail noisily on a full disk, so they are not let on one.
        needed = sum(leaf.nbytes for leaf in jax.tree.leaves(state)) + SPARE_BYTES
        folder = str(checkpoints.directory)
        if "://" not in folder and shutil.disk_usage(folder).free < needed:
            raise OSError("No space left on device")
        _finish(checkpoints)  # as Orbax would: one save at a time
        checkpoints.save(step, args=items, force=True)


def wait(checkpoints: ocp.CheckpointManager, held: Hold = NOBODY) -> None:
    """Return once every save is on disk.

    Raises:
        UserError: when one cannot be written.
        Lost: when another process has taken the run.
    """
    with _one_line(kept_in(checkpoints), held):
        _finish(checkpoints)


def _finish(checkpoints: ocp.CheckpointManager) -> None:
    checkpoints.wait_until_finished()
    if isinstance(checkpoints, Mirror):
        checkpoints.publish()


def restore(checkpoints: ocp.CheckpointManager, step: int, shapes: Any) -> tuple[Any, dict]:
    """Return (state, meta) of `step`, laid out as `shapes` (ShapeDtypeStructs with shardings).

    Raises:
        Damaged: when the content is not what was saved; Orbax raises its own for broken files.
        UserError: when it is a state of other arrays than `shapes`.
    """
    where = f"{kept_in(checkpoints)}/{step}"
    for part in ("meta", "state"):
        if not (storage.path(where) / part).exists():
            raise Damaged(f"it has no {part}")
    meta = checkpoints.restore(step, args=ocp.args.Composite(meta=ocp.args.JsonRestore()))["meta"]
    if not isinstance(meta, dict) or not isinstance(meta.get("checksum"), int):
        raise Damaged("its description is not what was saved")
    if "seal" in meta and meta.pop("seal") != record.digest(meta):
        raise Damaged("its description does not match its checksum")
    saved, expected = meta.pop("layout", None), _layout(shapes)
    if saved is not None and saved != expected:
        key = min(k for k in {*saved, *expected} if saved.get(k) != expected.get(k))
        raise UserError(
            f"checkpoint {where} is not of this network ({key}: {saved.get(key, 'none')}, now "
            f"{expected.get(key, 'none')}); nothing was changed: choose another --workdir"
        )
    items = ocp.args.Composite(state=ocp.args.StandardRestore(shapes))
    state = checkpoints.restore(step, args=items)["state"]
    if meta["checksum"] != checksum(state):
        raise Damaged("its content does not match its checksum")
    return state, meta


def _layout(state: Any) -> dict[str, str]:
    """What is known of the arrays of a state before they are read: {path: "float32[8, 16]"}."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): f"{leaf.dtype}{list(leaf.shape)}"
        for path, leaf in jax.tree_util.tree_leaves_with_path(state)
    }


def _chain(error: BaseException) -> list[BaseException]:
    """`error` and what it came from."""
    found = [error]
    while (origin := found[-1].__cause__ or found[-1].__context__) and origin not in found:
        found.append(origin)
    return found


def said(error: BaseException) -> str:
    """What an error says, in a line: Orbax's own are pages, those they came from are not."""
    return (str(_chain(error)[-1]).splitlines() or [type(error).__name__])[0][:200]


def _unreadable(folder: Path) -> str:
    """Why some file below a local `folder` cannot be read; empty where all can."""
    if storage.remote(folder):
        return ""
    try:
        for path in folder.rglob("*"):
            if not path.is_dir():
                with path.open("rb") as file:
                    while file.read(2**20):
                        pass
    except OSError as error:
        return f"{error.filename or path}: {error.strerror or error}"
    return ""


def _broken(error: BaseException) -> bool:
    """Whether `error` proves that files which can be read are not what was written.

    A file that cannot be read proves nothing, nor does a lack of memory or what we do not know.
    """
    chain = _chain(error)
    if any(isinstance(each, MemoryError) for each in chain):
        return False
    if any(isinstance(e, OSError) and not isinstance(e, FileNotFoundError) for e in chain):
        return False
    said = " ".join(map(str, chain))
    if any(word in said for word in UNREADABLE):
        return False
    kinds = (Damaged, FileNotFoundError, json.JSONDecodeError, UnicodeDecodeError)
    return isinstance(error, kinds) or any(word in said for word in BROKEN)


def restore_newest(
    checkpoints: ocp.CheckpointManager, shapes: Any, last: int | None = None
) -> tuple[int, Any, dict] | None:
    """Return (step, state, meta) of the newest sound checkpoint, or None when there is none.

    Those after step `last` are passed over; one that is proven broken is reported in one warning.

    Raises:
        UserError: when one cannot be read and nothing proves it broken: it may be sound, so that
            going on from an earlier one would throw work away.
    """
    steps = [step for step in checkpoints.all_steps() if last is None or step <= last]
    for step in sorted(steps, reverse=True):
        restored, broken, reason = None, False, "another process could not read it"
        try:
            restored = restore(checkpoints, step, shapes)
        except UserError:
            raise
        except Exception as error:  # Orbax and TensorStore raise many kinds
            unreadable = _unreadable(kept_in(checkpoints) / str(step))
            broken, reason = _broken(error) and not unreadable, unreadable or said(error)
        if processes.all_agree(restored is not None) and restored:
            return step, *restored
        where = f"{kept_in(checkpoints)}/{step}"
        if not processes.all_agree(restored is not None or broken):
            raise UserError(
                f"cannot read checkpoint {where}: {reason}; nothing was changed: run again when it "
                "can be read, or move it away to go on from the one before"
            )
        log.warning("checkpoint %s is damaged (%s); using the one before", where, reason)
    return None


def tidy(
    checkpoints: ocp.CheckpointManager,
    start: int,
    permanent: tuple[int, ...] = (),
    keep: int = 2,
    held: Hold = NOBODY,
) -> None:
    """Leave what a run that goes on from step `start` keeps; call it before the first save.

    Checkpoints after `start` are damaged, and their steps will be saved again: they are set aside.
    Of those up to it a process that was killed in its clean-up left too many, or a part of one.
    """
    folder, steps = kept_in(checkpoints), sorted(checkpoints.all_steps())
    sound = [step for step in steps if step <= start]
    needless = {*sound[:-keep]} - {*permanent}
    gone = [step for step in steps if step > start or step in needless]
    for step in gone:
        if storage.remote(folder):  # where nothing is renamed
            checkpoints.delete(step)
        elif processes.first():
            held.check()
            if step in needless:
                unfinished.remove(folder / str(step))
                continue
            names = (f"{step}{DAMAGED}{number or ''}" for number in itertools.count())
            free = next(name for name in names if not (folder / name).exists())
            (folder / str(step)).rename(folder / free)
    if gone:
        processes.from_first(0)  # nobody looks before all are moved
        checkpoints.reload()
