"""Files of tables: CSV, TSV and Parquet into a data frame, refused in one line when wrong."""

import csv
import io
import warnings
from pathlib import Path

import pandas as pd

from research.errors import UserError, nearest
from research.run import buckets

PARQUET = (".parquet", ".pq")
OTHERS = (".xlsx", ".xls", ".ods", ".json", ".jsonl", ".feather", ".arrow", ".npz", ".pkl")


def read_frame(path: str | Path) -> pd.DataFrame:
    """Read a CSV, TSV or Parquet file as it is.

    Names that the header repeats are kept in `attrs["repeated"]`: pandas renames the second of
    them, and a column chosen by such a name would be one of two.

    Raises:
        UserError: a missing, unreadable or empty file, the wrong delimiter, no pyarrow.
    """
    path = buckets.path(path)
    try:
        exists, folder = path.exists(), path.is_dir()
    except OSError as error:
        raise UserError(f"cannot read {str(path)[:80]}: {error.strerror}") from error
    if not exists:
        raise UserError(f"{path}: no such file{sibling(path)}")
    if folder:
        raise UserError(f"{path}: a folder without study.json or results; expected a run folder")
    if path.suffix.lower() in OTHERS:
        raise UserError(f"{path}: a {path.suffix} file; expected CSV, TSV or Parquet")
    return _read_parquet(path) if path.suffix.lower() in PARQUET else _read_text(path)


def sibling(path: Path) -> str:
    """The hint that names the nearest file beside a missing one, or an empty string."""
    try:
        return nearest(path.name, [entry.name for entry in path.parent.iterdir()])
    except OSError:
        return ""


def _read_parquet(path: Path) -> pd.DataFrame:
    try:
        # Bytes, since pyarrow would go to a bucket by itself.
        source = io.BytesIO(path.read_bytes()) if buckets.remote(path) else path
        frame = pd.read_parquet(source, engine="pyarrow")
        return frame if frame.index.names == [None] else frame.reset_index()
    except ImportError as error:
        raise UserError(f"{path}: reading Parquet needs pyarrow: pip install pyarrow") from error
    except Exception as error:  # pyarrow raises its own family of exceptions
        raise UserError(f"{path}: not a Parquet file: {str(error).splitlines()[0]}") from error


def _read_text(path: Path) -> pd.DataFrame:
    separator = "\t" if path.suffix.lower() == ".tsv" else ","
    options = {"sep": separator, "skipinitialspace": True, "encoding": "utf-8-sig"}
    try:
        with warnings.catch_warnings():
            # Rows longer than the header: pandas would shift or cut them.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            frame = pd.read_csv(path, index_col=False, low_memory=False, **options)
        header = pd.read_csv(path, header=None, nrows=1, dtype=str, **options)
    except pd.errors.EmptyDataError as error:
        raise UserError(f"{path}: the file is empty; expected a header and rows") from error
    except pd.errors.ParserWarning as error:
        text = "rows have more fields than the header has names"
        raise UserError(f"{path}: not a CSV: {text}") from error
    except pd.errors.ParserError as error:
        _refuse_delimiter(path, separator)
        raise UserError(f"{path}: not a CSV: {str(error).strip()}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not a text file (byte {error.start} is not UTF-8)") from error
    except (OSError, EOFError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"cannot read {path}: {reason}") from error
    if len(frame.columns) == 1:
        _refuse_delimiter(path, separator)
    frame = frame.dropna(how="all").reset_index(drop=True)  # spreadsheets end in rows of commas
    frame.columns = [str(name).strip() for name in frame.columns]
    names = [str(name).strip() for name in header.iloc[0]]
    frame.attrs["repeated"] = sorted({name for name in names if names.count(name) > 1})
    return frame


def _refuse_delimiter(path: Path, separator: str) -> None:
    """Name the delimiter that the header has in place of the expected one, if it has one."""
    line = pd.read_csv(path, header=None, nrows=1, sep="\0", dtype=str, encoding="utf-8-sig")
    try:
        found = csv.Sniffer().sniff(str(line.iloc[0, 0]), delimiters=",;\t| ").delimiter
    except csv.Error:
        return
    if found != separator:
        raise UserError(f"{path}: columns are separated by {found!r}; expected {separator!r}")
