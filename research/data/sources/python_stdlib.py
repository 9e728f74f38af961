"""The running interpreter's standard library as documents, and the side each is on."""

import fnmatch
import hashlib
import os
import platform
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from research.data import duplicates
from research.data.settings import Config
from research.data.sides import side
from research.errors import UserError

SKIPPED = {"__pycache__", "site-packages", "dist-packages"}
TESTS = {"test", "tests", "idle_test"}
# files: shell patterns of paths relative to the library, such as "json/*".
DEFAULTS = {"include_tests": False, "files": ("*",)}


def documents(data: Config) -> Iterator[tuple[str, bytes]]:
    """Give every source file in the order that TFDS gave it."""
    from research.data import builders

    features = {"path": "text", "text": "text"}
    builder = builders.prepared(data, features, lambda _: _examples(data))
    for split in builder.info.splits:
        for example in builders.read(builder, split):
            yield split, example["text"]


def _examples(data: Config) -> dict[str, list[tuple[str, dict]]]:
    """Return (key, features) of each split."""
    found = sides(data["include_tests"], data["files"])
    return {
        split: [(path, {"path": path, "text": text}) for path, text in each]
        for split, each in found.items()
    }


def root() -> Path:
    """Return the folder of the running interpreter's standard library."""
    return Path(sysconfig.get_path("stdlib"))


def listing(include_tests: bool, files: tuple[str, ...]) -> list[tuple[str, int]]:
    """Return (path relative to the library, bytes) of every source file, sorted by path.

    Args:
        include_tests: also the folders named test, tests and idle_test.
        files: shell patterns; a file is taken when its relative path matches one of them.

    Raises:
        UserError: when nothing matches, as when the library is inside a zip file.
    """
    base, skipped = root(), SKIPPED if include_tests else SKIPPED | TESTS
    found = []
    for folder, folders, names in os.walk(base):
        folders[:] = [each for each in folders if each not in skipped]
        for name in names:
            path = os.path.join(folder, name)
            if name.endswith(".py") and not os.path.islink(path):
                relative = os.path.relpath(path, base).replace(os.sep, "/")
                if any(fnmatch.fnmatchcase(relative, pattern) for pattern in files):
                    found.append((relative, os.path.getsize(path)))
    if not found:
        raise UserError(
            f"data.files: no source file of {base} matches {', '.join(files)}; '*' takes all"
        )
    return sorted(found)


def identity(data: Config) -> dict:
    """Return what tells this interpreter's library from another's, without reading the files."""
    include_tests, files = data["include_tests"], data["files"]
    lines = "".join(f"{path} {size}\n" for path, size in listing(include_tests, files))
    return {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "include_tests": include_tests,
        "files": list(files),
        "listing": hashlib.sha256(lines.encode()).hexdigest(),
    }


def words(identity: dict) -> list[str]:
    """The interpreter, and whether its tests are in."""
    tests = ["tests"] if identity["include_tests"] else []
    return [identity["python"].replace(" ", "-").lower(), *tests]


def sides(include_tests: bool, files: tuple[str, ...]) -> dict[str, list[tuple[str, bytes]]]:
    """Return the (path, content) pairs of each split; near-duplicates are on one side.

    A group of near-duplicates goes where its first path, in sorted order, is sent by `side`.
    Empty files are left out.
    """
    base = root()
    read = [(path, (base / path).read_bytes()) for path, _ in listing(include_tests, files)]
    read = [(path, text) for path, text in read if text.strip()]
    splits: dict[str, list[tuple[str, bytes]]] = {"train": [], "validation": [], "test": []}
    for (path, text), first in zip(read, duplicates.groups([t for _, t in read]), strict=True):
        splits[side(read[first][0])].append((path, text))
    return splits
