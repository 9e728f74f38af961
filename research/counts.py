"""FLOPs of train steps that were counted before, in this process or by an earlier one.

Counting traces the step, most of a second a shape. `COUNTED` holds what this process counted or
was told of (`launch.local`), by the shape of the neutral program. `write` keeps it in files, a
shape each, which a later process reads inside `kept`. Their names are digests of the shape, of all
the code that a trace may meet and of the libraries' versions: changed code counts anew.
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
_fresh: dict[str, dict[str, int]] = {}  # what was counted inside the last `kept`


def flops(shape: str, count: Callable[[], dict[str, int]]) -> dict[str, int]:
    """FLOPs of a step by scope: as counted before for this `shape`, else by `count`."""
    if shape not in COUNTED:
        found = _read(shape)
        COUNTED[shape] = count() if found is None else found
        if found is None and _folders:
            _fresh[shape] = COUNTED[shape]
    return COUNTED[shape]


@contextlib.contextmanager
def kept(folder: Path) -> Iterator[None]:
    """Inside, read what `write` has kept in `folder`; a bucket keeps nothing."""
    _fresh.clear()
    _folders[:] = [] if storage.remote(folder) else [folder]
    try:
        yield
    finally:
        _folders.clear()


def write(folder: Path) -> None:
    """Keep in `folder`/.cache/flops what was counted inside `kept`; a full disk keeps nothing."""
    with contextlib.suppress(UserError):
        for shape, counted in _fresh.items():
            record.write_json(_path(folder, shape), counted, durable=False)


def _read(shape: str) -> dict[str, int] | None:
    try:
        return record.read_json(_path(_folders[0], shape), dict[str, Count]) if _folders else None
    except UserError:  # not there, or by a process that was stopped while it wrote
        return None


def _path(folder: Path, shape: str) -> Path:
    about = json.dumps([code.digest(code.files()), record.versions(), shape])
    return folder / ".cache" / "flops" / f"{hashlib.sha256(about.encode()).hexdigest()[:32]}.json"
