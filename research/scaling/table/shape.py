"""A frame as the options ask for it: a row a run, expressions evaluated, text as numbers."""

import ast
import re
from collections.abc import Mapping

import numpy as np
import pandas as pd

from research.errors import UserError, nearest
from research.numbers import few
from research.scaling.table.cells import as_numbers, blank, number_of
from research.scaling.table.columns import named_column, rows_where
from research.scaling.table.expression import FUNCTIONS, evaluate, spelled

ENDS = ("__MIN", "__MAX")  # what W&B adds to every column of an exported chart
POWERS = {
    "log10": "10**{0}",
    "lg": "10**{0}",
    "log2": "2**{0}",
    "ln": "exp({0})",
    "loge": "exp({0})",
}
UNIT = re.compile(r".*[ _(\[](M|millions?|B|billions?|T|trillions?)[)\]]?")
UNITS = {"M": 6, "m": 6, "B": 9, "b": 9, "T": 12, "t": 12}
SMALL = 1e5  # counts of parameters and of data are larger
BASES = "(log10|log2|loge|lg|ln|log)"
LOGARITHM = re.compile(
    rf"{BASES}(?:[ _\-.(\[]+\S.*|[A-Z][A-Za-z]{{0,3}})|.+[ _\-.(\[]{BASES}[)\]]?"
)


def asked(
    frame: pd.DataFrame,
    numbers: Mapping[str, str | None],
    source: str,
    *,
    keys: Mapping[str, str | None] | None = None,
    where: str | None = None,
    loss: str | None = None,
) -> tuple[pd.DataFrame, list[str]]:
    """The rows and columns that options ask of any data frame, and what was read as what.

    `numbers` maps options to columns of numbers, or expressions of them, `keys` to columns of
    names; rows keep the index by which people count them, from 0. Logs lose the rows that say
    nothing of the `loss`.

    Raises:
        UserError: no rows, or an expression that cannot be evaluated.
    """
    frame = frame.reset_index(drop=True)
    said = list(frame.attrs.get("notes", ()))
    frame, notes = shaped(frame, {**numbers, **(keys or {})}, source)
    if where is not None:
        frame = frame.loc[rows_where(frame, where, "--where", source)]
    if not len(frame):
        raise UserError(f"{source}: no rows" + (f" where {where}" if where else ""))
    frame, dropped = logged_rows(frame, loss, source)
    frame, read = numeric(frame, numbers, source)
    return frame, [*said, *notes, *dropped, *read]


def shaped(
    frame: pd.DataFrame, wanted: Mapping[str, str | None], source: str
) -> tuple[pd.DataFrame, list[str]]:
    """`frame` with a row a run where a column that is `wanted` (option -> name) is not there.

    A chart exported by W&B has a column a run, called "run - metric": it gets columns `run` and
    the metrics. A pivot has values of one variable down its first column, of another along its
    header, and losses between: the options name all three. Anything else comes back as it is.
    """
    missing = [name for name in wanted.values() if name is not None and name not in frame]
    if not missing:
        return frame, []
    for change in (_runs_in_columns, _pivot):
        found = change(frame, wanted, missing, source)
        if found is not None:
            long, said = found
            long.attrs = frame.attrs
            return long, [f"{source}: {said}"]
    return frame, []


def _runs_in_columns(frame, wanted, missing, source) -> tuple[pd.DataFrame, str] | None:
    names = [str(name) for name in frame.columns]
    runs: dict[str, dict[str, str]] = {}
    for name in names:
        run, dash, metric = name.rpartition(" - ")
        if dash and not name.endswith(ENDS):
            runs.setdefault(run, {})[metric] = name
    metrics = list(dict.fromkeys(metric for each in runs.values() for metric in each))
    shared = [n for n in names if " - " not in n]
    told = any(name.endswith(ENDS) for name in names) or (len(metrics) == 1 and len(runs) > 1)
    if not (runs and told) or "run" in shared:
        return None
    unknown = [name for name in missing if name not in (*metrics, "run")]
    if unknown and "run" in missing:
        option = next(option for option, name in wanted.items() if name == unknown[0])
        has = [*shared, "run", *metrics]
        raise UserError(
            f"{option}: no column {unknown[0]!r} in {source}{nearest(unknown[0], has)}; with a"
            f" row a run it has {', '.join(has[:12])}"
        )
    if unknown:
        return None
    parts = []
    for run, columns in runs.items():
        part = frame[shared].assign(run=run, **{m: frame[c] for m, c in columns.items()})
        parts.append(part[~blank_rows(part[list(columns)])])
    long = pd.concat(parts, ignore_index=True)
    said = f"a column a run: {len(runs)} runs read as rows of 'run' and {few(metrics, 4, repr)}"
    return long, f"{said}; what ends in __MIN and __MAX is left out"


def blank_rows(frame: pd.DataFrame) -> np.ndarray:
    """Mask [rows] of the rows in which every cell is blank."""
    return np.all([blank(frame[name]).to_numpy() for name in frame.columns], axis=0)


def _pivot(frame, wanted, missing, source) -> tuple[pd.DataFrame, str] | None:
    names = [str(name) for name in frame.columns]
    values = [number_of(name.rpartition("=")[2]) for name in names[1:]]
    loss = wanted.get("--loss")
    across = [name for name in missing if name != loss]
    if len(names) < 3 or None in values or loss not in missing or number_of(names[0]) is not None:
        return None
    corner = re.split(r"\s*[\\/]\s*", names[0])  # it may name both: params\tokens
    if names[0] not in wanted.values() and len(corner) == 2 and set(corner) == set(across):
        across, names[0] = corner[1:], corner[0]
    if len(across) != 1 or names[0] not in wanted.values():
        raise UserError(
            f"{source}: no column {missing[0]!r}; if it is a pivot, call its first column"
            f" ({names[0]!r}) as --params, --data or --flops does, and let --loss and one other"
            " option name its cells and its header"
        )
    numbers = np.array(values, float)
    count = len(frame)
    long = pd.DataFrame(
        {
            names[0]: np.repeat(frame.iloc[:, 0].to_numpy(), len(numbers)),
            across[0]: np.tile(numbers, count),
            loss: frame.iloc[:, 1:].to_numpy().ravel(),
        }
    )
    empty = blank(long[loss])
    said = f"a pivot: its columns {names[1]} to {names[-1]} read as {across[0]!r}, their cells as"
    said += f" {loss!r}"
    said += f"; {int(empty.sum())} empty cells left out" if empty.any() else ""
    return long[~empty].reset_index(drop=True), said


def numeric(
    frame: pd.DataFrame, wanted: Mapping[str, str | None], source: str
) -> tuple[pd.DataFrame, list[str]]:
    """`frame` with every column that is `wanted` (option -> name) as numbers, and what was read so.

    A name may be an expression of columns ("1e9*tokens_B"), which becomes a column of that name.
    A column whose name says that it holds a logarithm is taken to its power. Columns that hold
    anything but numbers stay as they are, for whoever refuses them by row.

    Raises:
        UserError: an expression that cannot be evaluated, or a logarithm to an unsaid base.
    """
    notes, made = [], {}
    for option, name in wanted.items():
        if name is None or name in made or name in frame.attrs.get("repeated", ()):
            continue
        if name not in frame and option == "--cost":
            continue  # one number for every run will do there
        if name not in frame:
            found = _expression(frame, option, name, source)
            made[name] = named_column(frame, option, name, source) if found is None else found
            continue
        column = frame[name]
        if isinstance(column, pd.DataFrame) or column.dtype == bool:
            continue
        numbers, said = as_numbers(column, frame.attrs.get("decimal", ""))
        if said and (numbers.notna() | blank(column)).all():
            made[name] = numbers
            notes.append(f"{source}: column {name!r}: read {said}")
        meant, why = _meant(option, name, numbers)
        if meant:
            made[name] = evaluate(frame.assign(**{name: numbers}), meant)
            notes.append(f"{source}: column {name!r} {why}: read as {meant}")
    attrs = frame.attrs
    frame = frame.assign(**made) if made else frame
    frame.attrs = attrs
    return frame, notes


def _expression(frame: pd.DataFrame, option: str, name: str, source: str) -> pd.Series | None:
    """The column that an expression makes, or None where `name` is no expression."""
    try:
        node = ast.parse(re.sub(r"`[^`]*`", "_", name).strip(), mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return None
    called = isinstance(node, ast.Call) and getattr(node.func, "id", "") in FUNCTIONS
    if not (called or isinstance(node, ast.BinOp | ast.UnaryOp)):
        return None
    try:
        found = evaluate(frame, name, source)
    except UserError as error:
        if not str(error).startswith("no column"):
            raise UserError(f"{option}: cannot evaluate {name[:80]!r}: {error}") from error
        if nearest(name, map(str, frame.columns[:1000])):
            return None  # val-loss, of a table that has val_loss
        raise UserError(f"{option}: {error}") from error
    return found if isinstance(found, pd.Series) else None


def _meant(option: str, name: str, numbers: pd.Series) -> tuple[str, str]:
    """The expression by which a column whose name says its unit or logarithm is read, and why.

    Both are empty where the name says nothing. Columns of counts are in millions where their name
    says so and no value could be a plain count.
    """
    match = UNIT.fullmatch(name)
    if match and option in ("--params", "--data", "--unique") and numbers.abs().max() < SMALL:
        power = next(power for letter, power in UNITS.items() if match[1].startswith(letter))
        return f"1e{power}*{spelled(name)}", f"is in {match[1]}"
    match = LOGARITHM.fullmatch(name)
    if match is None or option.startswith("--column"):
        return "", ""
    base = match[1] or match[2]
    if base in POWERS:
        return POWERS[base].format(spelled(name)), "holds a logarithm"
    bare = spelled(name)
    mends = [f"{option} 'exp({bare})'", f"'10**{bare}'", f"'+{bare}' where it is none"]
    raise UserError(
        f"{option}: column {name!r} may hold a logarithm to the base e or 10, or none: give"
        f" {' or '.join(mends)}"
    )


def logged_rows(
    frame: pd.DataFrame, loss: str | None, source: str
) -> tuple[pd.DataFrame, list[str]]:
    """`frame` without the rows that say nothing of the `loss`, where most rows do not.

    Logs hold a row a step, and a loss on few of them; elsewhere an empty cell is a mistake.
    """
    if loss is None or loss not in frame or isinstance(frame[loss], pd.DataFrame):
        return frame, []
    empty = blank(frame[loss])
    if empty.all() or not empty.any():
        return frame, []
    if not frame.attrs.get("sparse") and empty.mean() <= 0.5:
        return frame, []
    said = f"{source}: {int(empty.sum())} of {len(empty)} rows have no {loss!r}: left out"
    return frame[~empty], [said]
