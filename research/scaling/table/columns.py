"""Columns of somebody's table: found by name, checked number by number, rows chosen by a filter."""

from typing import Any

import numpy as np
import pandas as pd

from research import numbers as say
from research.errors import UserError, nearest
from research.scaling.table.cells import as_numbers, blank, remedy
from research.scaling.table.expression import evaluate, spelled

# Nothing that is measured is larger, and products of three such numbers still are numbers.
LARGEST = 1e45


def rows_where(frame: pd.DataFrame, expression: str, option: str, source: str) -> np.ndarray:
    """Mask [rows] of the rows where `expression` holds ("column == 'value'", see expression.py).

    Raises:
        UserError: an unknown column, or an expression that is not true or false for every row.
    """
    mask = evaluated(frame, expression, option, source)
    if not (isinstance(mask, pd.Series) and mask.dtype == bool):
        raise UserError(f"{option}: {expression[:80]!r} is not true or false for each row")
    return mask.to_numpy()


def evaluated(frame: pd.DataFrame, expression: str, option: str, source: str) -> Any:
    """The value of an `expression` of columns.

    Raises:
        UserError: an unknown column, or an expression that cannot be evaluated.
    """
    try:
        return evaluate(frame, expression, source)
    except UserError as error:
        if str(error).startswith("no column"):
            raise UserError(f"{option}: {error}") from error
        raise UserError(f"{option}: cannot evaluate {expression[:80]!r}: {error}") from error


def named_column(frame: pd.DataFrame, option: str, name: str, source: str) -> pd.Series:
    """Return the column `name`; UserError when it is missing or there twice."""
    if name not in frame:
        names = [str(column) for column in frame.columns]
        shown = say.few(names, 12)
        if names == [str(k + 1) for k in range(len(names))]:
            shown = f"no header: its columns are called 1 to {len(names)}"
        hint = nearest(name, names[:1000])
        raise UserError(f"{option}: no column {name!r} in {source}{hint}; it has {shown}")
    column = frame[name]
    if isinstance(column, pd.DataFrame) or name in frame.attrs.get("repeated", ()):
        raise UserError(f"{option}: {source} has several columns called {name!r}")
    return column


def positive_numbers(frame: pd.DataFrame, option: str, name: str, source: str) -> np.ndarray:
    """Return column `name` [rows], or say in which rows it is no finite, positive number.

    Rows are numbered by the frame's index, from 1: a part of a frame keeps its own numbers.
    """
    numbers = finite_numbers(frame, option, name, source)
    column = named_column(frame, option, name, source)
    _refuse(column, numbers <= 0, "not positive", source)
    _refuse(column, numbers < 1 / LARGEST, f"below {1 / LARGEST:g}", source)
    return numbers


def finite_numbers(frame: pd.DataFrame, option: str, name: str, source: str) -> np.ndarray:
    """As `positive_numbers`, for a column that may be zero or less."""
    column = named_column(frame, option, name, source)
    types = pd.api.types
    if types.is_bool_dtype(column) or types.is_datetime64_any_dtype(column):
        raise UserError(f"{source}: column {name!r} holds {column.dtype} values; expected numbers")
    numbers, _ = as_numbers(column, frame.attrs.get("decimal", ""))
    missing = blank(column)
    _refuse(column, (numbers.isna() & ~missing).to_numpy(), "not a number", source)
    _refuse(column, missing.to_numpy(), "missing (NaN)", source)
    _refuse(column, np.isinf(numbers.to_numpy()), "infinite", source)
    _refuse(column, np.abs(numbers.to_numpy()) > LARGEST, f"beyond {LARGEST:g}", source)
    return numbers.to_numpy()


def _refuse(column: pd.Series, bad: np.ndarray, what: str, source: str) -> None:
    if not bad.any():
        return
    rows = column.index[bad] + 1
    text = f"{source}: column {column.name!r} is {what} in {say.rows(rows)}"
    if what.startswith("missing"):
        text += f"; --where 'notna({spelled(str(column.name))})' leaves them out"
    else:
        value = str(column[rows[0] - 1])
        text += f" ({value[:40]!r})"
    if what == "not a number":
        how = remedy(value)
        if not how.startswith(":") and len(value) <= 40 and len(rows) == 1:
            how += f'; --where "{spelled(str(column.name))} != {value!r}" leaves it out'
        text += how
    raise UserError(text)
