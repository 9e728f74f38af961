"""FLOPs of train steps that were counted before, in this process or by an earlier one.

Counting traces the step, most of a second a shape. `COUNTED` holds what this process counted or
was told of (`launch.local`), by the shape of the neutral program. Inside `kept`, a file a shape
holds it for later processes, under a digest of all the code that a trace may meet and of the
libraries' versions: changed code counts anew.
"""

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

from research.errors import UserError
from research.run import code, record, storage
from research.run.record import Count

COUNTED: dict[str, dict[str, int]] = {}
_folders: list[Path] = []  # none, or that of `kept`


@contextlib.contextmanager
def kept(folder: Path) -> Iterator[None]:
    """Keep what is counted inside in `folder`/.cache/flops; a bucket keeps nothing."""
    _folders[:] = [] if storage.remote(folder) else [folder / ".cache" / "flops"]
    try:
        yield
    finally:
        _folders.clear()


def flops(shape: str, count: Callable[[], dict[str, int]]) -> dict[str, int]:
    """FLOPs of a step by scope: as counted before for this `shape`, else by `count`."""
    if shape not in COUNTED:
        COUNTED[shape] = _read_or(shape, count) if _folders else count()
    return COUNTED[shape]


def _read_or(shape: str, count: Callable[[], dict[str, int]]) -> dict[str, int]:
    about = json.dumps([code.digest(code.files()), record.versions(), shape])
    path = _folders[0] / f"{hashlib.sha256(about.encode()).hexdigest()[:32]}.json"
    try:
        return record.read_json(path, dict[str, Count])
    except UserError:  # not counted yet, or by a process that was stopped while it wrote
        counted = count()
    try:
        record.write_json(path, counted, durable=False)
    except UserError:  # a full disk, or one that is read only: the count serves this process
        pass
    return counted
