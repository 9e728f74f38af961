"""No recipe reads what it is scored on: files of validation stay closed to code that is not ours.

An audit hook (PEP 578) sees every file that Python opens. One cannot be taken away again, so there
is one a process, and `closed` says whether it watches.
"""

import contextlib
import os
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from research.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = Path(sysconfig.get_path("stdlib"))
INSTALLED = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
# Whose code may open anything: this project's, the interpreter's, and what is installed.
OURS = (*(str(ROOT / name) for name in ("research", "launch", "tests")), *INSTALLED)
LIBRARIES = (str(LIBRARY), str(LIBRARY.resolve()))
HELD = ("validation", "test")
_watching: list[bool] = []


def watch() -> None:
    """Keep validation closed to foreign code from now on, for as long as this process lives."""
    if not _watching:
        _watching.append(False)
        sys.addaudithook(_opened)
    _watching[0] = True


@contextlib.contextmanager
def closed() -> Iterator[None]:
    """Keep validation closed to foreign code inside.

    Raises:
        UserError: in the foreign code that opens a file of validation, which stays closed.
    """
    before = bool(_watching and _watching[0])
    watch()
    try:
        yield
    finally:
        _watching[0] = before


def _opened(event: str, arguments: tuple) -> None:
    if event != "open" or not _watching[0] or not _held(arguments[0]):
        return
    frame, foreign, imports = sys._getframe(1), "", False
    while frame is not None:
        name = frame.f_code.co_filename
        imports |= name.startswith("<frozen importlib") or name.endswith("linecache.py")
        if not (foreign or name.startswith("<") or _within(name, OURS + LIBRARIES)):
            foreign = f"{name}:{frame.f_lineno}"
        frame = frame.f_back
    source = str(arguments[0]).endswith(".py")
    if foreign and not (source and imports):
        raise UserError(
            f"{foreign} opens {os.fsdecode(arguments[0])}: a golf recipe reads neither validation "
            "nor what it was made of; train on data.load(config.data, 'train')"
        )


def _held(path: object) -> bool:
    """Whether a file is a packed split that is not for training, or a source of the library."""
    if not isinstance(path, str | bytes | os.PathLike):
        return False  # a descriptor, which was opened before
    real = os.path.realpath(os.fsdecode(path))
    folder, name = os.path.split(real)
    packed = os.path.basename(os.path.dirname(folder)) == "packed"
    if packed and name.partition(".")[0] in HELD:
        return True
    return name.endswith(".py") and _within(real, LIBRARIES) and "-packages" not in real


def _within(path: str, folders: tuple[str, ...]) -> bool:
    return path.startswith(tuple(f"{folder}{os.sep}" for folder in folders))
