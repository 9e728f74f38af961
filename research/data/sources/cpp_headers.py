"""C and C++ headers that packages on this machine carry: a second domain beside Python.

About 4.7 MB of Arrow, 0.9 MB of CPython and 0.5 MB of NumPy, without the licence at the head of
each file, which would be most of what near-duplicates share.
"""

import hashlib
import re
import sysconfig
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from research.data import corpus, sides
from research.data.settings import Config
from research.errors import UserError, nearest

ON_REQUEST = True
# files: shell patterns of a package and a path in it, such as "pyarrow/arrow/compute/*".
DEFAULTS = {"packages": ("pyarrow", "cpython", "numpy"), "files": ("*",)}
SUFFIXES = ("*.h", "*.hh", "*.hpp", "*.inl")
COMMENT = re.compile(rb"\s*(?:/\*.*?\*/|(?://[^\n]*(?:\n|\Z)[ \t]*)+)", re.DOTALL)
LEGAL = re.compile(rb"licen[cs]e|copyright", re.IGNORECASE)


def roots() -> dict[str, Path]:
    """The folder of headers of each package."""
    import numpy
    import pyarrow

    return {
        "pyarrow": Path(pyarrow.get_include()),
        "cpython": Path(sysconfig.get_path("include")),
        "numpy": Path(numpy.get_include()),
    }


def check(data: Config) -> None:
    """Raise UserError for a package that is not one of those whose headers are known."""
    for name in data["packages"]:
        if name not in (known := roots()):
            raise UserError(
                f"data.packages: {name!r} is not one of {', '.join(known)}{nearest(name, known)}"
            )


def identity(data: Config) -> dict:
    """Return what tells these headers from others, without reading them."""
    lines = "".join(f"{name} {file.stat().st_size}\n" for name, file in _listing(data))
    versions = {
        name: sysconfig.get_python_version() if name == "cpython" else metadata.version(name)
        for name in data["packages"]
    }
    return {"versions": versions, "listing": hashlib.sha256(lines.encode()).hexdigest()}


def documents(data: Config) -> Iterator[tuple[str | None, bytes]]:
    """Yield (split, header) of every file; near-duplicates are on one side."""

    def read() -> Iterator[tuple[str, bytes]]:
        for name, file in _listing(data):
            if text := without_licence(file.read_bytes()):
                yield name, text

    yield from sides.sided(read)


def _listing(data: Config) -> list[tuple[str, Path]]:
    """(package/path, file) of every header that is taken, sorted."""
    found = []
    for package in data["packages"]:
        root = roots()[package]
        if root.is_dir():  # CPython's headers may come in a package of their own
            for file in corpus.listing(str(root), SUFFIXES):
                name = f"{package}/{file.relative_to(root).as_posix()}"
                if corpus.matches(name, data["files"]):
                    found.append((name, file))
    if not found:
        raise UserError(
            f"data.files: no header of {', '.join(data['packages'])} matches"
            f" {', '.join(data['files'])}; '*' takes all"
        )
    return sorted(found)


def without_licence(text: bytes) -> bytes:
    """Return `text` from behind the comments at its head that speak of a licence or copyright."""
    while (head := COMMENT.match(text)) and LEGAL.search(head[0]):
        text = text[head.end() :]
    return text.lstrip()
