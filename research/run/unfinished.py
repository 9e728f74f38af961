"""Checkpoints that are being written: folders named by the lease under which they are.

Orbax writes `40.orbax-checkpoint-tmp` and renames it. Here the number of the lease follows, so that
a process that lost its run and wakes never meets the folder in which its heir is writing. Whoever
takes a run over first removes what lower leases left (`discard`): a process that was stopped just
before its rename then has nothing left to rename.
"""

import contextlib
import re
import secrets
import shutil
import threading
import time
from pathlib import Path
from typing import Any

from orbax.checkpoint.path import atomicity

from research.run import storage
from research.run.lease import Hold

NAME = re.compile(re.escape(atomicity.TMP_DIR_SUFFIX) + r"(?:-(\d+))?(?:\.[0-9a-f]{8})*$")
JOIN_SECONDS = 60.0  # for a thread of Orbax; one that hangs longer is left
SETTLE_SECONDS = 0.5  # in which TensorStore ends the writes that nobody waits for


def under(held: Hold) -> type[atomicity.AtomicRenameTemporaryPath]:
    """Return how Orbax names and finishes what it writes under the lease `held`."""

    class Fenced(atomicity.AtomicRenameTemporaryPath):
        @classmethod
        def from_final(cls, final_path: Any, **options: Any) -> "Fenced":
            path = super().from_final(final_path, **options)
            path._tmp_path = path.get().parent / f"{path.get().name}-{held.number}"
            return path

        async def create(self) -> Any:
            held.check()
            return await super().create()

        async def finalize(self) -> None:
            held.check()
            final = Path(self.get_final())
            if final.exists():  # finished by a process that had already lost the run
                remove(final)
            await super().finalize()

    return Fenced


def abandon(folder: Path, number: int) -> None:
    """Remove for good what this process was writing in `folder` under lease `number`.

    Orbax waits for the parts of a save up to the first that fails, as one does when another process
    has discarded its folder. The threads of the others, and TensorStore's behind it, go on, and
    would make the folder anew.
    """
    for thread in threading.enumerate():
        if type(thread).__module__.startswith("orbax."):
            with contextlib.suppress(Exception):  # Orbax's `join` raises what ended the thread
                thread.join(JOIN_SECONDS)
    time.sleep(SETTLE_SECONDS)
    discard(folder, range(number, number + 1))


def discard(folder: Path, numbers: range) -> None:
    """Remove what was left unfinished in `folder` under one of the leases `numbers`.

    A folder without a number, as Orbax names it by itself, counts as lease 0. In a bucket there are
    none: Orbax marks there what is finished and overlooks the rest.
    """
    for name in storage.names(folder):
        if (found := NAME.search(name)) and int(found[1] or 0) in numbers:
            remove(folder / name)


def remove(path: Path) -> None:
    """Remove a folder at once for everybody: under another name before its first file goes.

    What is left of it by a process that is killed meanwhile, any later lease discards.
    """
    mark = "" if atomicity.TMP_DIR_SUFFIX in path.name else atomicity.TMP_DIR_SUFFIX
    doomed = path.parent / f".{path.name}{mark}.{secrets.token_hex(4)}"
    with contextlib.suppress(FileNotFoundError):  # its writer was quicker
        path.rename(doomed)
        shutil.rmtree(doomed, ignore_errors=True)
