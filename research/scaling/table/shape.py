"""A frame as the options ask for it: a row a run, expressions evaluated, text as numbers."""

import ast
import re
from collections.abc import Mapping

import pandas as pd

from research.errors import UserError, nearest
from research.numbers import few
from research.scaling.table.cells import as_numbers, blank, number_of
from research.scaling.table.columns import NoColumn, named_column, spelled
from research.scaling.table.expression import FUNCTIONS, evaluate, rows_where

Wanted = Mapping[str, str | None]  # option -> the name of a column, or None

ENDS = ("__MIN", "__MAX")  # what W&B adds to every column of an exported chart
POWERS = {
    **dict.fromkeys(("log10", "lg"), "10**{0}"),
    **dict.fromkeys(("ln", "loge"), "exp({0})"),
    "log2": "2**{0}",
}
COUNTS = ("--params", "--data", "--unique")
UNIT = re.compile(r".*[ _(\[](M|millions?|B|billions?|T|trillions?)[)\]]?")
UNITS = {"m": 6, "b": 9, "t": 12}
SMALL = 1e5  # counts of parameters and of data are larger
BASES = "(log10|log2|loge|lg|ln|log)"
LOGARITHM = re.compile(
    rf"{BASES}(?:[ _\-.(\[]+\S.*|[A-Z][A-Za-z]{{0,3}})|.+[ _\-.(\[]{BASES}[)\]]?"
)


def asked(
    frame: pd.DataFrame,
    numbers: Wanted,
    source: str,
    *,
    keys: Wanted | None = None,
    where: str | None = None,
    loss: str | None = None,
) -> tuple[pd.DataFrame, list[str]]:
    """The rows and columns that options ask of any data frame, and what was read as what.

    `numbers` maps options to columns of numbers, or expressions of them, `keys` to columns of
    names; rows keep the index by which people count them, from 0. Of logs, which hold a row a step
    and a `loss` on few of them, the rows that have none are left out.

    Raises:
        UserError: no rows, or an expression that cannot be evaluated.
    """
    attrs, said = frame.attrs, list(frame.attrs.get("notes", ()))
    frame, notes = _shaped(frame.reset_index(drop=True), {**numbers, **(keys or {})}, source)
    frame.attrs = attrs
    if where is not None:
        frame = frame.loc[rows_where(frame, where, "--where", source)]
    if not len(frame):
        raise UserError(f"{source}: no rows" + (f" where {where}" if where else ""))
    if loss in frame and not isinstance(frame[loss], pd.DataFrame):
        empty = blank(frame[loss])
        if not empty.all() and (empty.mean() > 0.5 or empty.any() and attrs.get("sparse")):
            frame = frame[~empty]
            notes.append(f"{int(empty.sum())} of {len(empty)} rows have no {loss!r}: left out")
    frame, read = _numeric(frame, numbers, source)
    return frame, [*said, *(f"{source}: {note}" for note in [*notes, *read])]


def _shaped(frame: pd.DataFrame, wanted: Wanted, source: str) -> tuple[pd.DataFrame, list[str]]:
    """`frame` with a row a run where a column that is `wanted` is not there, and what was done.

    A chart exported by W&B has a column a run, called "run - metric": it gets columns `run` and
    the metrics. A pivot has values of one variable down its first column, of another along its
    header, and losses between: the options name all three. Anything else comes back as it is.
    """
    missing = [name for name in wanted.values() if name is not None and name not in frame]
    if not missing:
        return frame, []
    found = _runs_in_columns(frame, wanted, missing, source)
    return found or _pivot(frame, wanted, missing, source) or (frame, [])


def _runs_in_columns(
    frame: pd.DataFrame, wanted: Wanted, missing: list[str], source: str
) -> tuple[pd.DataFrame, list[str]] | None:
    names = [str(name) for name in frame.columns]
    runs: dict[str, dict[str, str]] = {}
    for name in names:
        run, dash, metric = name.rpartition(" - ")
        if dash and not name.endswith(ENDS):
            runs.setdefault(run, {})[name] = metric
    metrics = list(dict.fromkeys(metric for each in runs.values() for metric in each.values()))
    shared = [name for name in names if " - " not in name]
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
    parts = [
        frame[[*shared, *columns]].rename(columns=columns).assign(run=run)
        for run, columns in runs.items()
    ]
    long = pd.concat(parts).dropna(subset=metrics, how="all", ignore_index=True)
    said = f"a column a run: {len(runs)} runs read as rows of 'run' and {few(metrics, 4, repr)}"
    return long, [f"{said}; what ends in __MIN and __MAX is left out"]


def _pivot(
    frame: pd.DataFrame, wanted: Wanted, missing: list[str], source: str
) -> tuple[pd.DataFrame, list[str]] | None:
    loss = wanted.get("--loss")
    if len(frame.columns) < 3 or loss not in missing:
        return None
    first, *names = (str(name) for name in frame.columns)
    values = [number_of(name.rpartition("=")[2]) for name in names]
    across = [name for name in missing if name != loss]
    if None in values or number_of(first) is not None:
        return None
    corner = re.split(r"\s*[\\/]\s*", first)  # it may name both: params\tokens
    down = first
    if first not in wanted.values() and len(corner) == 2 and set(corner) == set(across):
        down, *across = corner
    if len(across) != 1 or down not in wanted.values():
        raise UserError(
            f"{source}: no column {missing[0]!r}; if it is a pivot, call its first column"
            f" ({first!r}) as --params, --data or --flops does, and let --loss and one other"
            " option name its cells and its header"
        )
    wide = frame.set_axis([down, *values], axis=1)
    long = wide.melt(down, var_name=across[0], value_name=loss, ignore_index=False)
    long = long.sort_index(kind="stable").astype({across[0]: float})
    empty = blank(long[loss])
    said = f"a pivot: its columns {names[0]} to {names[-1]} read as {across[0]!r}, their cells as"
    said += f" {loss!r}" + (f"; {int(empty.sum())} empty cells left out" if empty.any() else "")
    return long[~empty].reset_index(drop=True), [said]


def _numeric(frame: pd.DataFrame, wanted: Wanted, source: str) -> tuple[pd.DataFrame, list[str]]:
    """`frame` with every column that is `wanted` as numbers, and what was read so.

    A name may be an expression of columns ("1e9*tokens_B"), which becomes a column of that name.
    A column whose name says its unit or that it holds a logarithm is read by it. Columns that hold
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
            made[name] = _expression(frame, option, name, source)
            continue
        column = frame[name]
        if isinstance(column, pd.DataFrame) or column.dtype == bool:
            continue
        numbers, said = as_numbers(column, frame.attrs.get("decimal", ""))
        if said and (numbers.notna() | blank(column)).all():
            made[name] = numbers
            notes.append(f"column {name!r}: read {said}")
        meant, why = _meant(option, name, numbers)
        if meant:
            made[name] = evaluate(frame.assign(**{name: numbers}), meant)
            notes.append(f"column {name!r} {why}: read as {meant}")
    attrs = frame.attrs
    frame = frame.assign(**made)
    frame.attrs = attrs
    return frame, notes


def _expression(frame: pd.DataFrame, option: str, name: str, source: str) -> pd.Series:
    """The column that the expression `name` makes.

    Raises:
        UserError: it cannot be evaluated, or is no expression but a name that no column has.
    """
    with_names = re.sub(r"`[^`]*`", "_", name).strip()
    try:
        node = ast.parse(with_names, mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        node = None
    called = isinstance(node, ast.Call) and getattr(node.func, "id", "") in FUNCTIONS
    if called or isinstance(node, ast.BinOp | ast.UnaryOp):
        try:
            found = evaluate(frame, name, option, source)
            if isinstance(found, pd.Series):
                return found
        except NoColumn:
            if not nearest(name, map(str, frame.columns[:1000])):
                raise  # else val-loss, of a table that has val_loss
    return named_column(frame, option, name, source)


def _meant(option: str, name: str, numbers: pd.Series) -> tuple[str, str]:
    """The expression by which a column whose name says its unit or logarithm is read, and why.

    Both are empty where the name says nothing. Columns of counts are in millions where their name
    says so and no value could be a plain count.
    """
    bare, unit, log = spelled(name), UNIT.fullmatch(name), LOGARITHM.fullmatch(name)
    if unit and option in COUNTS and numbers.abs().max() < SMALL:
        return f"1e{UNITS[unit[1][0].lower()]}*{bare}", f"is in {unit[1]}"
    if log is None or option.startswith("--column"):
        return "", ""
    if power := POWERS.get(log[1] or log[2]):
        return power.format(bare), "holds a logarithm"
    mends = [f"{option} 'exp({bare})'", f"'10**{bare}'", f"'+{bare}' where it is none"]
    raise UserError(
        f"{option}: column {name!r} may hold a logarithm to the base e or 10, or none: give"
        f" {' or '.join(mends)}"
    )
