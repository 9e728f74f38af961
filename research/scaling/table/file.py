"""Files of tables, in whatever form people have them, into a data frame; refused in one line."""

import io
from pathlib import Path

import pandas as pd

from research.errors import UserError
from research.scaling.table.delimited import read_delimited
from research.scaling.table.opened import STANDARD_INPUT, read_bytes, text_of
from research.scaling.table.records import is_json, read_json_table

PARQUET = b"PAR1"
OTHERS = (".xlsx", ".xls", ".ods", ".feather", ".arrow", ".npz", ".npy", ".pkl", ".pt", ".h5")


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
    suffix = Path(source).suffix.lower()
    if suffix in OTHERS:
        raise UserError(f"{source}: a {suffix} file; expected CSV, TSV, Markdown, JSON or Parquet")
    data = read_bytes(path)
    if data[:4] == PARQUET or suffix in (".parquet", ".pq"):
        return _read_parquet(data, source)
    text, encoding = text_of(data, source)
    if is_json(text):
        frame, notes = read_json_table(text, source)
        frame.attrs["sparse"] = True
    else:
        usual = "\t" if suffix == ".tsv" else ","
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
