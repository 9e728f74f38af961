"""Columns of somebody's table: found by name, and checked number by number."""

import keyword

import numpy as np
import pandas as pd

from research import numbers as say
from research.errors import UserError, nearest
from research.scaling.table.cells import as_numbers, blank, remedy

# Nothing that is measured is larger, and products of three such numbers still are numbers.
LARGEST = 1e45
# Who names the column of each variable, and of the loss.
OPTIONS = {"N": "--params", "D": "--data", "L": "--loss", "C": "--flops", "U": "--unique"}


class ColumnError(UserError):
    """A name that is not that of one column of the table."""


class NoColumn(ColumnError):
    """A name that is no column of the table."""


def spelled(name: str) -> str:
    """A column's name as an expression takes it."""
    plain = name.isidentifier() and not keyword.iskeyword(name)
    return name if plain else f"`{name}`"


def named_column(frame: pd.DataFrame, option: str, name: str, source: str) -> pd.Series:
    """Return the column `name`.

    Raises:
        UserError: it is missing (the nearest is named), or there twice.
    """
    if name not in frame:
        names = [str(column) for column in frame.columns]
        shown = say.few(names, 12)
        if names == [str(k + 1) for k in range(len(names))]:
            shown = f"no header: its columns are called 1 to {len(names)}"
        hint = nearest(name, names[:1000])
        raise NoColumn(f"{option}: no column {name!r} in {source}{hint}; it has {shown}")
    column = frame[name]
    if isinstance(column, pd.DataFrame) or name in frame.attrs.get("repeated", ()):
        raise ColumnError(f"{option}: {source} has several columns called {name!r}")
    return column


def positive_numbers(frame: pd.DataFrame, option: str, name: str, source: str) -> np.ndarray:
    """Return column `name` [rows], or say in which rows it is no finite, positive number.

    Rows are numbered by the frame's index, from 1: a part of a frame keeps its own numbers.
    """
    numbers = finite_numbers(frame, option, name, source)
    _refuse(frame[name], numbers <= 0, "not positive", source)
    _refuse(frame[name], numbers < 1 / LARGEST, f"below {1 / LARGEST:g}", source)
    return numbers


def finite_numbers(frame: pd.DataFrame, option: str, name: str, source: str) -> np.ndarray:
    """As `positive_numbers`, for a column that may be zero or less."""
    column = named_column(frame, option, name, source)
    if pd.api.types.is_bool_dtype(column) or pd.api.types.is_datetime64_any_dtype(column):
        raise UserError(f"{source}: column {name!r} holds {column.dtype} values; expected numbers")
    numbers = as_numbers(column, frame.attrs.get("decimal", ""))[0].to_numpy()
    missing = blank(column).to_numpy()
    for bad, what in (
        (np.isnan(numbers) & ~missing, "not a number"),
        (missing, "missing (NaN)"),
        (np.isinf(numbers), "infinite"),
        (np.abs(numbers) > LARGEST, f"beyond {LARGEST:g}"),
    ):
        _refuse(column, bad, what, source)
    return numbers


def _refuse(column: pd.Series, bad: np.ndarray, what: str, source: str) -> None:
    """Refuse the `bad` rows [rows] of a column, in one line that says how to mend the first."""
    if not bad.any():
        return
    rows, value, name = column.index[bad] + 1, str(column[bad].iloc[0]), spelled(str(column.name))
    how = f" ({value[:40]!r})"
    if what.startswith("missing"):
        how = f"; --where 'notna({name})' leaves them out"
    elif what == "not a number":
        way = remedy(value)
        how += way
        if not way.startswith(":") and len(value) <= 40 and len(rows) == 1:
            how += f'; --where "{name} != {value!r}" leaves it out'
    raise UserError(f"{source}: column {column.name!r} is {what} in {say.rows(rows)}{how}")
