"""Files of tables, in whatever form people have them, into a data frame; refused in one line."""

import bz2
import codecs
import gzip
import io
import lzma
import sys
import zipfile
import zlib
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import pandas as pd

from research.errors import UserError, nearest
from research.run import storage
from research.scaling.table.delimited import read_delimited
from research.scaling.table.records import is_json, read_json_table

STANDARD_INPUT = "-"
MOST_BYTES = 2 << 30
CHUNK = 1 << 20
PACKED = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\0": lzma.open}
PARQUET, ZIP = b"PAR1", b"PK\x03\x04"
UNREADABLE = {
    ZIP: "a ZIP archive or a workbook",
    b"\xd0\xcf\x11\xe0": "an old workbook",
    b"\x28\xb5\x2f\xfd": "compressed by Zstandard",
    b"ARROW1": "an Arrow file",
    b"\x89HDF": "an HDF5 file",
    b"\x93NUMPY": "an array of NumPy",
    b"%PDF": "a PDF",
    b"SQLite": "a database",
    b"\x89PNG": "a picture",
}
MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
SAID = {"utf-8": "", "utf-8-sig": "", "cp1252": "Latin-1 (it is not UTF-8)"}
CONTROL = {*map(chr, range(32))} - {*"\b\t\n\v\f\r"}


def read_frame(path: str | Path) -> pd.DataFrame:
    """Read a table: text of any separator, Markdown, JSON (lines) or Parquet, packed or not.

    The content decides, not the name, and is read once: a pipe will do, and "-" is standard input.
    `attrs` tell what the frame is: "notes" what it was read as, "repeated" the names that the
    header repeats (pandas renames the second of them, and a column chosen by such a name would be
    one of two), "decimal" the decimal mark where the file decides it, and "sparse" whether a cell
    is empty because its record says nothing of it.

    Raises:
        UserError: a missing, unreadable or empty file, or one that holds no table.
    """
    source = "standard input" if str(path) == STANDARD_INPUT else str(path)
    data = _unpacked(_content(path, source), source)
    if data.startswith(PARQUET) or source.lower().endswith((".parquet", ".pq")):
        return _read_parquet(data, source)
    text, encoding = _text(data, source)
    if is_json(text):
        frame, notes = read_json_table(text, source)
        frame.attrs["sparse"] = True
    else:
        usual = "\t" if source.lower().endswith(".tsv") else ","
        frame, notes = read_delimited(text, source, usual)
    said = [*([f"{encoding} text"] if encoding else []), *notes]
    frame.attrs["notes"] = [f"{source}: {'; '.join(said)}"] if said else []
    return frame


def _read_parquet(data: bytes, source: str) -> pd.DataFrame:
    try:
        frame = pd.read_parquet(io.BytesIO(data), engine="pyarrow")
    except ImportError as error:
        raise UserError(f"{source}: reading Parquet needs pyarrow: pip install pyarrow") from error
    except Exception as error:  # pyarrow raises its own family of exceptions
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{source}: not a Parquet file: {reason}") from error
    frame = frame if frame.index.names == [None] else frame.reset_index()
    frame.attrs = {}
    return frame


def sibling(path: Path) -> str:
    """The hint that names the nearest file beside a missing one, or an empty string."""
    try:
        return nearest(path.name, [entry.name for entry in path.parent.iterdir()])
    except OSError:
        return ""


def _content(name: str | Path, source: str) -> bytes:
    """The bytes of a file, a pipe or an object in a bucket."""
    if str(name) == STANDARD_INPUT:
        return _all(sys.stdin.buffer, source)
    path = storage.path(name)
    try:
        exists, folder = path.exists(), path.is_dir()
        if not exists:
            raise UserError(f"{path}: no such file{sibling(path)}")
        if folder:
            expected = "expected a table or a run folder"
            raise UserError(f"{path}: a folder without study.json or results; {expected}")
        with path.open("rb") as file:
            return _all(file, source)
    except OSError as error:
        raise UserError(f"cannot read {source[:80]}: {error.strerror or error}") from error


def _all(file: BinaryIO, source: str) -> bytes:
    """Everything there is to read, up to a bound: some devices never end."""
    data = bytearray()
    while part := file.read(CHUNK):
        if not data and not any(part):
            raise UserError(f"{source}: not a text file (it holds zero bytes)")
        if len(data) > MOST_BYTES:
            raise UserError(f"{source}: over {MOST_BYTES >> 30} GiB; expected a smaller table")
        data += part
    return bytes(data)


def _unpacked(data: bytes, source: str) -> bytes:
    """`data` unpacked where it is gzip, bzip2, xz, or a ZIP archive of one file."""
    opener = next((each for magic, each in PACKED.items() if data.startswith(magic)), None)
    try:
        if opener is not None:
            with opener(io.BytesIO(data)) as file:
                data = file.read(MOST_BYTES + 1)
        elif data.startswith(ZIP):
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                names = [each for each in archive.namelist() if not each.endswith("/")]
                if len(names) == 1:
                    with archive.open(names[0]) as file:
                        data = file.read(MOST_BYTES + 1)
    except (zlib.error, OSError, EOFError, lzma.LZMAError, zipfile.BadZipFile) as error:
        raise UserError(f"{source}: damaged: {str(error)[:80]}") from error
    except (RuntimeError, NotImplementedError) as error:  # a password, an odd compression
        raise UserError(f"{source}: a ZIP archive that cannot be read: {error}") from error
    if len(data) > MOST_BYTES:
        raise UserError(f"{source}: over {MOST_BYTES >> 30} GiB once unpacked")
    return data


def _text(data: bytes, source: str) -> tuple[str, str]:
    """The text in `data`, with \\n between lines, and its encoding where that is not UTF-8."""
    for magic, what in UNREADABLE.items():
        if data.startswith(magic):
            kinds = "CSV, TSV, Markdown, JSON lines or Parquet"
            raise UserError(f"{source}: {what}; expected {kinds}: save the table as CSV")
    marked = [name for mark, name in MARKS.items() if data.startswith(mark)]
    for encoding in marked[:1] or _encodings(data[:2000]):
        with suppress(UnicodeDecodeError):
            text = data.decode(encoding)
            if CONTROL.isdisjoint(text[:20_000]):
                said = SAID.get(encoding, encoding.upper())
                return text.replace("\r\n", "\n").replace("\r", "\n"), said
    raise UserError(f"{source}: not a text file: neither UTF-8, UTF-16 nor Latin-1")


def _encodings(start: bytes) -> tuple[str, ...]:
    """What text without a mark may be in; UTF-16 shows by the zero half of every letter."""
    odd, even = start[1::2].count(0), start[::2].count(0)
    if max(odd, even) > len(start) / 4 > min(odd, even):
        return ("utf-16-le" if odd > even else "utf-16-be",)
    return ("utf-8", "cp1252")
