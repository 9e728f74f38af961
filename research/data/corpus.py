"""Local files as documents: whole texts, lines of JSON and rows of Parquet, one at a time.

Files come sorted by their path, documents in the order in which they stand in a file, so that the
same files are the same corpus. Nothing is held but one document (of Parquet, some rows).
"""

import fnmatch
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from research.errors import UserError, nearest

LINES, ROWS = (".jsonl", ".ndjson"), (".parquet",)
COMPRESSED = {".gz": "gzip", ".zst": "zstd"}


class Bad(NamedTuple):
    """What stands where a document should: its place, and what is wrong there."""

    place: str
    reason: str

    def __str__(self) -> str:
        return f"{self.place} {self.reason}"


Found = tuple[str, bytes | Bad]  # (place, such as "a/b.jsonl line 17", document)


def listing(path: str, patterns: tuple[str, ...]) -> list[Path]:
    """Return the files of the folder `path` that match, or the one file that it is, by path.

    Hidden files and folders are left out, and links to what is in the folder anyway.

    Args:
        path: a folder, or a file.
        patterns: of the shell, such as "*.jsonl"; a file is taken when its path relative to the
            folder matches one of them. A "*" matches slashes too.

    Raises:
        UserError: when there is no such folder or file, nothing in it matches, or a link leads
            out of it.
    """
    if not path:
        raise UserError("data.path is empty; it names a folder, or a file, of text")
    root = Path(path)
    if root.is_file():
        return [root]
    if not root.is_dir():
        missing = "patterns go to data.files" if any(c in path for c in "*?[") else "it is not here"
        raise UserError(f"data.path is {path!r}; expected a folder or a file ({missing})")
    found, links = [], []
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(each for each in folders if not each.startswith("."))
        entries = [Path(folder, each) for each in (*folders, *names) if not each.startswith(".")]
        links += [each for each in entries if each.is_symlink()]
        found += [each for each in entries if each.is_file() and not each.is_symlink()]
    for link in sorted(links):
        if not link.resolve().is_relative_to(root.resolve()):
            raise UserError(
                f"{link} is a link that leads out of data.path {path}, to {link.resolve()};"
                " nothing outside is read: copy it, or name its folder"
            )
    relative = {each: each.relative_to(root).as_posix() for each in found}
    taken = [each for each, name in relative.items() if matches(name, patterns)]
    if not taken:
        raise UserError(
            f"data.files: none of the {len(found)} files of {path} matches {', '.join(patterns)};"
            " '*' takes all that are not hidden"
        )
    return sorted(taken, key=relative.__getitem__)


def matches(name: str, patterns: tuple[str, ...]) -> bool:
    """Whether the path `name` matches one of the shell's `patterns`."""
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def read(file: Path, field: str) -> Iterator[Found]:
    """Yield what a file holds: rows and lines one by one, else the whole; blank ones are left out.

    Args:
        file: of JSON lines, of Parquet or of text by its name, perhaps compressed (.gz, .zst).
        field: of a row or a line, which holds the text.

    Raises:
        UserError: when the file cannot be read, or is no Parquet file with such a column.
    """
    kind = file.with_suffix("").suffix if file.suffix in COMPRESSED else file.suffix
    reader = _lines if kind in LINES else _rows if kind in ROWS else _whole
    try:
        for place, text in reader(file, field):
            if isinstance(text, bytes) and b"\0" in text:
                yield place, Bad(place, "holds a zero byte, which ends a document; it is no text")
            elif isinstance(text, Bad) or text.strip():
                yield place, text
    except OSError as error:  # Arrow's errors of broken files are OSErrors too
        reason = error.strerror or str(error).partition("\n")[0]
        raise UserError(f"cannot read {file}: {reason}; nothing was prepared") from error


def _open(file: Path) -> io.BufferedReader:
    import pyarrow

    stream = pyarrow.input_stream(str(file), compression=COMPRESSED.get(file.suffix))
    return io.BufferedReader(stream)


def _whole(file: Path, _: str) -> Iterator[Found]:
    with _open(file) as stream:
        yield str(file), stream.read()


def _lines(file: Path, field: str) -> Iterator[Found]:
    with _open(file) as stream:
        for number, line in enumerate(stream, start=1):
            if line.strip():
                place = f"{file} line {number}"
                yield place, _of_line(place, line, field)


def _of_line(place: str, line: bytes, field: str) -> bytes | Bad:
    import msgspec

    try:
        content = msgspec.json.decode(line.decode())
    except UnicodeDecodeError as error:
        wrong = f"byte {error.object[error.start]:#04x} at column {error.start + 1}"
        return Bad(place, f"is no UTF-8 ({wrong})")
    except msgspec.DecodeError as error:
        return Bad(place, f"is no JSON ({error})")
    if not isinstance(content, dict):
        return Bad(place, f"is no JSON object but {type(content).__name__}")
    if field not in content:
        known = ", ".join(content) or "none"
        return Bad(place, f"has no field {field!r}; it has {known}{nearest(field, content)}")
    return _text(place, content[field], field)


def _text(place: str, value: object, field: str) -> bytes | Bad:
    if isinstance(value, bytes):
        return value
    if not isinstance(value, str):
        return Bad(place, f"has no text in {field!r} but {type(value).__name__}")
    return value.encode()


def _rows(file: Path, field: str) -> Iterator[Found]:
    import pyarrow
    from pyarrow import parquet

    try:
        opened = parquet.ParquetFile(file)
    except pyarrow.ArrowInvalid as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"{file} is no Parquet file: {reason}") from error
    with opened:
        names = opened.schema_arrow.names
        if field not in names:
            raise UserError(
                f"{file} has no column data.field {field!r}; it has {', '.join(names)}"
                f"{nearest(field, names)}"
            )
        number = 0
        for batch in opened.iter_batches(256, columns=[field]):
            for value in batch.column(0).to_pylist():
                number += 1
                place = f"{file} row {number}"
                yield place, _text(place, value, field)
