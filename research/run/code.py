"""Which code computes a run: its files, their digest, the commit that has them."""

import hashlib
import os
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path

from research.run import record

ROOT = Path(__file__).resolve().parents[2]
OURS = tuple(f"{ROOT / name}{os.sep}" for name in ("research", "launch", "tests"))
LIBRARY = sysconfig.get_path("stdlib")


def foreign(path: str) -> bool:
    """Whether a file of Python is neither this project's, nor the interpreter's, nor installed."""
    known = (*OURS, LIBRARY, os.path.realpath(LIBRARY), "<")
    return not path.startswith(known) and "-packages" not in path


def files(*given: str) -> list[Path]:
    """The `given` files, research/, and what has been imported from elsewhere until now."""
    names = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
    brought = [name for name in names if name and name.endswith(".py") and foreign(name)]
    found = {Path(name).resolve() for name in (*given, *brought)}
    return sorted(found.union((ROOT / "research").rglob("*.py")))


def digest(paths: Iterable[Path]) -> str:
    """Twelve digits of the sha256 of what the files hold, wherever they lie."""
    each = sorted(hashlib.sha256(path.read_bytes()).hexdigest() for path in paths)
    return hashlib.sha256("".join(each).encode()).hexdigest()[:12]


def revision(paths: Iterable[Path]) -> str:
    """Twelve digits of the commit that has these files, with a "+" where it lacks or differs."""
    words = ("git", "-C", str(ROOT), "status", "--porcelain", "--ignored", "--")
    name = str(record.code()["git_revision"])[:12]
    try:
        found = subprocess.run([*words, *map(str, paths)], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):  # no git, or a file outside the repository
        return f"{name}+"
    return f"{name}+" if found.stdout else name
