"""Text in local files: folders of plain text, JSON lines (.gz, .zst) and Parquet.

Files are streamed into the pack, once, in a fixed order. Training reads the pack through a shuffled
index (`research.data.pipeline`), so no order of files or lines is left in a batch, and any batch
is found by its number alone.
"""

import functools
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from research import parts
from research.data import corpus, sides
from research.data.settings import SPLITS, Config
from research.errors import UserError, nearest

ON_REQUEST = True
# path: a folder or a file; files: shell patterns in the folder; field: of a line or row, the text.
# split: by a hash of the document's place or of the file's name, or by the first folder's name.
# together: near-duplicates are on one side; bad_lines: "refuse", or "skip" and count them.
DEFAULTS = {
    "path": "",
    "files": ("*",),
    "field": "text",
    "split": "document",
    "together": True,
    "bad_lines": "refuse",
}
RULES = ("document", "file", "folder")


def check(data: Config) -> None:
    """Raise UserError for a rule that is unknown."""
    parts.check_choice("data.split", data["split"], RULES)
    parts.check_choice("data.bad_lines", data["bad_lines"], ("refuse", "skip"))


def identity(data: Config) -> dict[str, Any]:
    """The names, sizes and times of the files decide what is in them."""
    own = {key: data[key] for key in ("field", "split", "together", "bad_lines")}
    return own | {"listing": digest(data["path"], data["files"])}


def digest(path: str, patterns: tuple[str, ...]) -> str:
    """Return what tells the files of a folder from others, without reading them."""
    lines = ""
    for file in corpus.listing(path, patterns):
        about = file.stat()
        lines += f"{_name(file, path)} {about.st_size} {about.st_mtime_ns}\n"
    return hashlib.sha256(lines.encode()).hexdigest()


def documents(data: Config) -> Iterator[tuple[str | None, bytes]]:
    """Yield (split, text) of each document; for a line that was skipped, (None, why).

    Raises:
        UserError: for a line or row that is none, which is named, unless data.bad_lines is "skip";
            and for a file that has no others.
    """
    files = corpus.listing(data["path"], data["files"])
    of_folder = data["split"] == "folder"
    if of_folder:
        for file in files:
            _folder(_name(file, data["path"]))
    read = functools.partial(_read, files, data)
    together, known = data["together"] and not of_folder, repr(identity(data))
    yield from sides.sided(read, together, _folder if of_folder else sides.side, known)


def _read(files: list[Path], data: Config) -> Iterator[tuple[str | None, bytes]]:
    """(key, text) of each document; (None, why) of a line that is skipped."""
    for file in files:
        name, sound, first = _name(file, data["path"]), 0, None
        for place, text in corpus.read(file, data["field"]):
            if isinstance(text, corpus.Bad):
                first = first or text
                if data["bad_lines"] == "refuse":
                    raise UserError(f"{text}; data.bad_lines='skip' counts such and leaves them")
                yield None, b"bad_lines"
            else:
                sound += 1
                inside = place.removeprefix(str(file))
                yield (name + inside if data["split"] == "document" else name), text
        if first and not sound:
            raise UserError(f"{file} has no document at all: {first}")


def _name(file: Path, path: str) -> str:
    """The path of a file relative to data.path, the same on every machine."""
    root = Path(path)
    return file.name if root.is_file() else file.relative_to(root).as_posix()


def _folder(name: str) -> str:
    """The split that the first folder of a path names."""
    first = name.partition("/")[0]
    if first not in SPLITS:
        raise UserError(
            f"data.split is 'folder', and {name} is in no folder {', '.join(SPLITS)}"
            f"{nearest(first, SPLITS)}"
        )
    return first
