"""A lock for what one process at a time makes in a folder, while the others wait for it.

The system frees it when its holder dies, so that what a killed process left is nobody's.
Runs of hours have leases instead (`research.run.lease`).
"""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def lock(folder: Path, name: str, doing: str) -> Iterator[None]:
    """Hold `folder`/.`name`.lock; who has to wait says that another process is `doing` something.

    Whoever may write the folder may hold its locks.

    Raises:
        OSError: when the folder cannot be written.
    """
    import filelock

    folder.mkdir(parents=True, exist_ok=True)
    held = filelock.FileLock(folder / f".{name}.lock", mode=folder.stat().st_mode & 0o666)
    try:
        held.acquire(timeout=0)
    except filelock.Timeout:
        print(f"waiting for another process, which is {doing} ...", file=sys.stderr)
        held.acquire()
    try:
        yield
    finally:
        held.release()
