"""The bytes and the text of a file, a pipe or an object, read once whatever they turn out to be."""

import bz2
import codecs
import gzip
import io
import lzma
import sys
import zipfile
import zlib
from pathlib import Path

from research.errors import UserError, nearest
from research.run import storage

STANDARD_INPUT = "-"
MOST_BYTES = 2 << 30
CHUNK = 1 << 20
PACKED = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\0": lzma.open}
UNREADABLE = {
    b"PK\x03\x04": "a ZIP archive or a workbook",
    b"\xd0\xcf\x11\xe0": "an old workbook",
    b"\x28\xb5\x2f\xfd": "compressed by Zstandard",
    b"ARROW1": "an Arrow file",
    b"\x89HDF": "an HDF5 file",
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


def read_bytes(name: str | Path) -> bytes:
    """The content of a file, a pipe or an object in a bucket, unpacked; "-" is standard input.

    Raises:
        UserError: nothing there, a folder, what cannot be read, or more than MOST_BYTES.
    """
    if str(name) == STANDARD_INPUT:
        return unpacked(_all(sys.stdin.buffer, "standard input"), "standard input")
    path = storage.path(name)
    try:
        exists, folder = path.exists(), path.is_dir()
        if not exists:
            raise UserError(f"{path}: no such file{sibling(path)}")
        if folder:
            expected = "expected a table or a run folder"
            raise UserError(f"{path}: a folder without study.json or results; {expected}")
        with path.open("rb") as file:
            return unpacked(_all(file, path), path)
    except (OSError, EOFError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"cannot read {str(path)[:80]}: {reason}") from error


def sibling(path: Path) -> str:
    """The hint that names the nearest file beside a missing one, or an empty string."""
    try:
        return nearest(path.name, [entry.name for entry in path.parent.iterdir()])
    except OSError:
        return ""


def _all(file, source) -> bytes:
    """Everything there is to read, up to a bound: some devices never end."""
    parts = [file.read(CHUNK)]
    total = len(parts[0])
    if parts[0] and not any(parts[0]):
        raise UserError(f"{source}: not a text file (it holds zero bytes)")
    while parts[-1]:
        if total > MOST_BYTES:
            raise UserError(f"{source}: over {MOST_BYTES >> 30} GiB; expected a smaller table")
        parts.append(file.read(CHUNK))
        total += len(parts[-1])
    return b"".join(parts)


def unpacked(data: bytes, source: str | Path) -> bytes:
    """`data` unpacked where it is gzip, bzip2, xz, or a ZIP archive of one file.

    Raises:
        UserError: damaged, or more than MOST_BYTES once unpacked.
    """
    try:
        opener = next((each for magic, each in PACKED.items() if data.startswith(magic)), None)
        if opener is not None:
            with opener(io.BytesIO(data)) as file:
                data = file.read(MOST_BYTES + 1)
        elif data[:4] == b"PK\x03\x04":
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


def text_of(data: bytes, source: str | Path) -> tuple[str, str]:
    """The text in `data`, with \\n between lines, and its encoding where that is not UTF-8.

    Raises:
        UserError: what is no text.
    """
    for magic, what in UNREADABLE.items():
        if data.startswith(magic):
            kinds = "CSV, TSV, Markdown, JSON lines or Parquet"
            raise UserError(f"{source}: {what}; expected {kinds}: save the table as CSV")
    encoding = next((name for mark, name in MARKS.items() if data.startswith(mark)), "")
    if not encoding and b"\0" in data[:2000]:
        # Without a mark, UTF-16 shows by the zero half of every letter.
        odd, even = data[1:2000:2].count(0), data[0:2000:2].count(0)
        half = min(len(data), 2000) // 4
        encoding = "utf-16-le" if odd > half > even else "utf-16-be" if even > half > odd else ""
    said = ""
    try:
        text = data.decode(encoding or "utf-8")
        said = encoding.upper() if encoding.startswith("utf-16") or "32" in encoding else ""
    except UnicodeDecodeError as error:
        if encoding or b"\0" in data:
            raise _no_text(source, error) from error
        try:
            text, said = data.decode("cp1252"), "Latin-1 (it is not UTF-8)"
        except UnicodeDecodeError:
            raise _no_text(source, error) from error
    odd_signs = sum(
        text[:20_000].count(chr(code)) for code in range(32) if code not in range(8, 14)
    )
    if odd_signs:
        raise UserError(f"{source}: not a text file (it holds control characters)")
    return text.replace("\r\n", "\n").replace("\r", "\n"), said


def _no_text(source: str | Path, error: UnicodeDecodeError) -> UserError:
    return UserError(f"{source}: not a text file (byte {error.start} is not {error.encoding})")
