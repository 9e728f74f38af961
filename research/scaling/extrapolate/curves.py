"""Learning curves in a table: which rows make a curve, which are fitted, which are predicted."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from research.errors import UserError
from research.scaling.table.columns import (
    finite_numbers,
    named_column,
    positive_numbers,
    rows_where,
)
from research.scaling.table.shape import asked

# Rows of one curve that share an x are averaged; more of them than this share is a mistake.
MOST_REPEATED = 0.1
# A curve of more points is averaged into so many bins of log x: fits need no more.
MOST_POINTS = 128


@dataclass(frozen=True)
class Curves:
    """The fitted points of every curve, and the rows to predict.

    `x` and `y` [points] are positive, sorted by curve and, in a curve, strictly increasing in x;
    curve i owns points `first[i]` to `first[i + 1]` (none, when the table fits no row of it).
    `frame` holds the rows to predict as they were read; `target` [rows] is the curve of each,
    `target_x` [rows] its x. `groups` [curves] numbers curves that share the first of several key
    columns: curves of a group lend each other more than those of other groups. `scatter` [curves]
    is the deviation of log y inside the bins of a curve that was averaged into bins, else 0.
    """

    names: tuple[str, ...]
    groups: np.ndarray
    group_names: tuple[str, ...]
    first: np.ndarray
    x: np.ndarray
    y: np.ndarray
    frame: pd.DataFrame
    target: np.ndarray
    target_x: np.ndarray
    scatter: np.ndarray
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.names)


def from_frame(
    frame: pd.DataFrame, *, curve: str, x: str, y: str, fit: str, source: str = "table"
) -> Curves:
    """Split a table into curves.

    `curve` names the columns, separated by commas, that tell curves apart; `x` and `y` the columns
    of the points; `fit` is an expression, true for the rows to fit, such as "Training == 1".
    `y` is read in those rows only. Those at x = 0, where training has not begun, are left out.

    Raises:
        UserError: a missing column, an expression that holds for no row or for all, a value of x
            (any row) or y (fitted rows) that is no positive number, a missing key, many points of
            a curve at one x, or a column of the table called as one of the results.
    """
    keys = [name.strip() for name in curve.split(",") if name.strip()]
    if not keys:
        raise UserError("--curve is empty; name the columns that tell curves apart, with commas")
    keyed = {f"--curve {name}": name for name in keys}
    frame, said = asked(frame, {"--x": x, "--y": y}, source, keys=keyed)
    for name in ("prediction", "low", "high", "law"):
        if name in frame:
            raise UserError(f"{source}: column {name!r} is there already; it is what we add")
    labels = pd.DataFrame({name: named_column(frame, "--curve", name, source) for name in keys})
    if labels.isna().any(axis=None):
        row, column = np.argwhere(labels.isna().to_numpy())[0]
        raise UserError(f"{source}: column {keys[column]!r} is missing (NaN) in row {row + 1}")
    named_column(frame, "--y", y, source)
    fitted = rows_where(frame, fit, "--fit", source)
    start = fitted & (finite_numbers(frame, "--x", x, source) == 0)
    frame, labels, fitted = frame.loc[~start], labels.loc[~start], fitted[~start]
    positions = positive_numbers(frame, "--x", x, source)
    if not fitted.any():
        raise UserError(f"--fit: {fit!r} holds for no row of {source}; nothing to fit")
    if fitted.all():
        raise UserError(f"--fit: {fit!r} holds for every row of {source}; nothing to predict")
    values = positive_numbers(frame.loc[fitted], "--y", y, source)

    owner, tuples = pd.factorize(pd.MultiIndex.from_frame(labels))
    names = tuple(", ".join(map(str, key)) for key in tuples)
    several = len(keys) > 1
    groups, found = pd.factorize(np.array([str(key[0]) if several else "" for key in tuples]))
    missing = np.setdiff1d(owner[~fitted], owner[fitted])
    if len(missing):
        raise UserError(
            f"--fit: {fit!r} holds for no row of curve {names[missing[0]]!r}; nothing to fit there"
        )
    points = pd.DataFrame({"curve": owner[fitted], "x": positions[fitted], "y": np.log(values)})
    merged = points.groupby(["curve", "x"], as_index=False).agg({"y": "mean"})
    notes = (*said, *_repeated(points, merged, names, frame.index[fitted], x, source))
    if start.any():
        notes += (f"{start.sum()} fitted rows have {x} 0, before training: left out",)
    thinned, scatter = _thin(merged, len(names))
    if len(thinned) < len(merged):
        notes += (f"curves of over {MOST_POINTS} fitted points: averaged into bins of log {x}",)
    counts = np.bincount(thinned["curve"], minlength=len(names))
    return Curves(
        names=names,
        groups=groups,
        group_names=tuple(map(str, found)),
        first=np.concatenate([[0], np.cumsum(counts)]),
        x=thinned["x"].to_numpy(),
        y=np.exp(thinned["y"].to_numpy()),
        frame=frame.loc[~fitted],
        target=owner[~fitted],
        target_x=positions[~fitted],
        scatter=scatter,
        notes=notes,
    )


def _thin(points: pd.DataFrame, num_curves: int) -> tuple[pd.DataFrame, np.ndarray]:
    """Average curves of over MOST_POINTS points in bins of log x; the deviation [curves] inside."""
    counts = np.bincount(points["curve"], minlength=num_curves)
    if counts.max() <= MOST_POINTS:
        return points, np.zeros(num_curves)
    logs = np.log(points["x"])
    by_curve = logs.groupby(points["curve"])
    low, high = by_curve.transform("min"), by_curve.transform("max")
    bins = ((logs - low) / (high - low).clip(1e-12) * MOST_POINTS).astype(int)
    bins = bins.clip(0, MOST_POINTS - 1)
    own = points.groupby("curve").cumcount()
    bins = bins.where(counts[points["curve"]] > MOST_POINTS, own)
    by_bin = points.assign(x=logs, bin=bins).groupby(["curve", "bin"])
    thinned = by_bin.agg(x=("x", "mean"), y=("y", "mean")).reset_index()
    thinned["x"] = np.exp(thinned["x"])
    gaps = points["y"] - by_bin["y"].transform("mean")
    squares = np.bincount(points["curve"], gaps**2, num_curves)
    degrees = counts - np.bincount(thinned["curve"], minlength=num_curves)
    return thinned, np.sqrt(squares / np.maximum(degrees, 1))


def _repeated(points, merged, names, rows, x, source) -> tuple[str, ...]:
    """Say how many points share their curve's x; refuse where they are many."""
    if len(points) == len(merged):
        return ()
    total = np.bincount(points["curve"], minlength=len(names))
    lost = total - np.bincount(merged["curve"], minlength=len(names))
    bad = np.flatnonzero(lost > MOST_REPEATED * total)
    if len(bad):
        mine = points[points["curve"] == bad[0]]
        value = mine.loc[mine.duplicated("x"), "x"].iloc[0]
        shown = ", ".join(str(rows[i] + 1) for i in mine.index[mine["x"] == value][:3])
        raise UserError(
            f"{source}: rows {shown} of curve {names[bad[0]]!r} have the same {x}, {value:g};"
            " expected one row for each; does --curve name every column that tells curves apart?"
        )
    return (f"{len(points) - len(merged)} fitted rows repeat an x of their curve: averaged",)
