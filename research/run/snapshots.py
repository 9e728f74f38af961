"""Snapshots of a run's averages, from which those of other lengths are made when it has ended.

They lie in the run's folder `averages` and are written as checkpoints are. The last one is in the
newest checkpoint itself. Their steps are in proportion, since the profiles are, and are the same
for every horizon: so those of a trunk serve whoever leaves it, and a run that is killed and goes on
leaves what it would have left. Each is on disk before any later checkpoint is.
"""

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import orbax.checkpoint as ocp
from ml_collections import ConfigDict

from research.errors import UserError
from research.run import checkpoint, lease, storage

FOLDER = "averages"
DOUBLINGS = 3  # before the end of a run, in which it keeps snapshots


class Keeper(NamedTuple):
    """Where a run keeps snapshots and after which steps; nowhere where it has no averages."""

    manager: ocp.CheckpointManager | None
    steps: frozenset[int]


def steps(ends: tuple[int, ...], per_doubling: int) -> frozenset[int]:
    """Those of 1, 2^(1/n), 2^(2/n), ..., rounded up, that a run to one of `ends` keeps."""
    found = set()
    for end in ends:
        last = math.floor(per_doubling * math.log2(end)) if end else -1
        powers = range(max(0, last - DOUBLINGS * per_doubling), last + 1)
        found |= {math.ceil(2 ** (power / per_doubling)) for power in powers if per_doubling}
    return frozenset(found)


@contextlib.contextmanager
def writer(
    folder: Path, config: ConfigDict, branches: tuple[int, ...], held: lease.Hold
) -> Iterator[Keeper]:
    """Keep snapshots of the run in `folder`, which others leave at `branches` if it is a trunk."""
    if not config.train.ema_widths:
        yield Keeper(None, frozenset())
        return
    due = steps(branches or (config.train.steps,), config.checkpoint.snapshots)
    everything = config.train.steps + 1
    with checkpoint.writer(folder / FOLDER, (), everything, held) as manager:
        yield Keeper(manager, due)


def save(keeper: Keeper, step: int, averages: Any, held: lease.Hold) -> None:
    """Save `averages` after `step` steps where that is due, and return when they are on disk.

    What is there already is left: a run that goes on from a checkpoint comes to the same again.

    Raises:
        UserError: when it cannot be written.
        Lost: when another process has taken the run.
    """
    if keeper.manager and step not in keeper.manager.all_steps():
        held.check()
        checkpoint.save(keeper.manager, step, averages, {}, held)
        checkpoint.wait(keeper.manager, held)


def kept(folder: Path, step: int, branch: tuple[str, int]) -> dict[int, Path]:
    """Where the snapshots are of which the run in `folder` may speak after `step` steps, by step.

    Args:
        branch: the trunk that it left, if any, beside its folder, and after how many steps.
    """
    trunk, left = branch
    homes = [(folder.parent / trunk, left)] if trunk else []
    return {
        int(name): home / FOLDER
        for home, last in [*homes, (folder, step)]
        for name in storage.names(home / FOLDER)
        if name.isdigit() and int(name) <= last
    }


def read(reader: ocp.CheckpointManager, step: int, shapes: Any) -> Any:
    """The averages after `step` steps, laid out as `shapes`.

    Args:
        reader: of the folder that has them (`checkpoint.reader`).

    Raises:
        UserError: when they cannot be read.
    """
    try:
        return checkpoint.restore(reader, step, shapes)[0]
    except UserError:
        raise
    except Exception as error:  # Orbax and TensorStore raise many kinds
        raise UserError(
            f"{checkpoint.kept_in(reader)}/{step} cannot be read ({checkpoint.said(error)}): move "
            "it away and ask again, though fewer widths may then be given"
        ) from error
