"""Whether a table can carry a law at all: its columns, its rows, and values the law can take."""

from collections.abc import Iterable

import numpy as np

from research.errors import UserError, nearest
from research.scaling.ladder import ladder
from research.scaling.laws import FRONTIER, Law
from research.scaling.table import Table
from research.scaling.table.columns import OPTIONS

# What tables call them.
USUAL = {
    "N": ("params", "parameters", "num_params", "n_params", "model_size"),
    "D": ("tokens", "num_tokens", "data", "examples", "training_tokens"),
    "C": ("flops", "compute", "training_flops"),
    "U": ("unique_tokens", "unique"),
}


def require_columns(table: Table, variables: Iterable[str], who: str) -> None:
    """Refuse in one line a table without a column for each of the `variables` that `who` reads.

    Raises:
        UserError: naming the option that gives it, and the table's nearest column.
    """
    lacking = lacking_column(table, variables, who)
    if lacking:
        raise UserError(f"{place(table)}: {lacking}")


def lacking_column(table: Table, variables: Iterable[str], who: str) -> str | None:
    """Which of the `variables` that `who` reads has no column, and the option that gives it."""
    variables = list(variables)
    known = table.known(variables)
    missing = [name for name in variables if name not in known]
    if not missing:
        return None
    name, taken = missing[0], set(table.columns.values())
    free = [column for column in table.names if column not in taken]
    near = next(filter(None, (nearest(word, free) for word in (name, *USUAL.get(name, ())))), "")
    option = OPTIONS.get(name)
    how = f"{option} COLUMN" if option else f"--column {name}=COLUMN"
    return f"{who} reads {name}: give {how}{near}"


def require_support(table: Table, law: Law) -> None:
    """Refuse in one line a table that cannot carry `law` whatever its losses are.

    Raises:
        UserError: a variable without a column, a ladder (ladder.py) for a law of N and D, no more
            rows than parameters, one value of a variable, a value that the law has none for, or a
            constant loss.
    """
    require_columns(table, law.variables, f"the law {law.name!r}")
    where, num = place(table), len(law.parameters)
    if set(law.variables) == {"N", "D"} and num > 3:  # of few the rest is held, and may be told
        line = ladder(table)
        if line is not None and line.ratio is not None:
            raise UserError(f"{where}: {line.advice}; --law {FRONTIER.name} fits what they share")
    if len(table) <= num:
        raise UserError(
            f"{where}: {len(table)} rows cannot fit the {num} parameters of {law.name};"
            f" it needs at least {law.minimum_rows}"
        )
    for name in law.variables:
        # Values within a part in a thousand of one another are one value.
        if _one_value(table[name]):
            raise UserError(
                f"{where}: every row has {name} = {table[name][0]:g};"
                f" {law.name} needs {name} to vary"
            )
    _refuse_values(table, law)
    if np.ptp(table["L"]) <= 1e-9 * np.abs(table["L"]).max():
        raise UserError(f"{where}: the loss is {table['L'][0]:g} in every row; nothing to fit")


def place(table: Table) -> str:
    """Where a message says that something is wrong: the file, or the folder and its part."""
    return table.source if table.part is None else f"{table.source}, part {table.part!r}"


def _one_value(values: np.ndarray) -> bool:
    return bool(np.ptp(values) < 1e-3 * np.abs(values).max())


def _refuse_values(table: Table, law: Law) -> None:
    """Zero shares of a mixture are fine, zero experts too; a power of zero has no value."""
    low = {name: table[name] for name in law.variables if (table[name] <= 0).any()}
    if not low:
        return
    columns = {name: np.asarray(table[name], float) for name in law.variables}
    middle = [p.starts(columns) if not p.within else () for p in law.parameters]
    theta = np.array([values[len(values) // 2] or 1.0 if values else 1.0 for values in middle])
    with np.errstate(all="ignore"):
        bad = ~np.isfinite(law.loss(theta, **columns))
    for name, values in low.items():
        rows = np.flatnonzero(bad & (values <= 0))
        if len(rows):
            column = table.columns.get(OPTIONS.get(name, f"--column {name}")[2:], name)
            raise UserError(
                f"{place(table)}: column {column!r} is {values[rows[0]]:g} in row"
                f" {table.row_number(int(rows[0]))}; the law {law.name!r} takes {name} above 0 only"
            )
