"""Learning curves in a table: which rows make a curve, which are fitted, which are predicted."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from research import numbers
from research.errors import UserError
from research.scaling.extrapolate.score import Score, read_score
from research.scaling.extrapolate.spikes import ends_in_jump, find_spikes
from research.scaling.table.columns import finite_numbers, named_column, positive_numbers
from research.scaling.table.expression import rows_where
from research.scaling.table.shape import asked

# A curve of more points is averaged into so many bins of log x: fits need no more.
MOST_POINTS = 128
ADDED = ("prediction", "low", "high", "law")
SCATTER_PRIOR = 4.0  # rows that the table's deviation of repeats counts for
ALL_ROWS = "all rows"  # the name of the only curve of a table whose curves have none


@dataclass(frozen=True)
class Curves:
    """The fitted points of every curve, and the rows to predict.

    `x` and `y` [points] are positive, sorted by curve and, in a curve, strictly increasing in x;
    curve i owns points `first[i]` to `first[i + 1]` (none, when the table fits no row of it).
    `frame` holds the rows to predict as they were read, each beyond its curve's fitted points;
    `target` [rows] is the curve of each, `target_x` [rows] its x. `groups` [curves] numbers curves
    that share the first of several key columns: curves of a group lend each other more than those
    of other groups. `scatter` [curves] is the deviation of log y of one row around the point that
    it was averaged into (a bin, rows of one x). `score` says how y is read. `set_aside` numbers the
    rows of spikes, from 1.
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
    score: Score = Score()
    set_aside: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.names)


def from_frame(
    frame: pd.DataFrame,
    *,
    x: str,
    y: str,
    fit: str,
    curve: str | None = None,
    where: str | None = None,
    best: float | None = None,
    source: str = "table",
) -> Curves:
    """Split a table into curves.

    `curve` names the columns, separated by commas, that tell curves apart (None: the table is one
    curve); `x` and `y` the columns of the points; `where` and `fit` are expressions: rows to take,
    and those of them to fit, such as "Training == 1". `y` is read in the latter only; `best` is
    that of `read_score`. Rows at x = 0, where training has not begun, are left out, and so are rows
    that are neither fitted nor beyond the fitted rows of their curve (a warm-up).

    Raises:
        UserError: a missing column, an expression that holds for no row, none beyond the fitted
            ones, a value of x (any row) or y (fitted rows) that is no positive number, a missing
            key, or a column of the table called as one of the results.
    """
    frame, said = _taken(frame, x, y, curve, where, source)
    keys, labels = _labels(frame, curve, source)
    named_column(frame, "--y", y, source)
    fitted = rows_where(frame, fit, "--fit", source)
    start = finite_numbers(frame, "--x", x, source) == 0
    early = int((fitted & start).sum())
    notes = (f"{early} fitted rows have {x} 0, before training: left out",) if early else ()
    frame, labels, fitted = frame.loc[~start], labels.loc[~start], fitted[~start]
    positions = positive_numbers(frame, "--x", x, source)
    if not fitted.any():
        raise UserError(f"--fit: {fit!r} holds for no row of {source}; nothing to fit")
    if fitted.all():
        raise UserError(f"--fit: {fit!r} holds for every row of {source}; nothing to predict")

    owner, tuples = pd.factorize(pd.MultiIndex.from_frame(labels))
    names = tuple(", ".join(map(str, key)) for key in tuples)
    groups, found = pd.factorize(np.array([str(key[0]) if len(keys) > 1 else "" for key in tuples]))
    missing = np.setdiff1d(owner[~fitted], owner[fitted])
    if len(missing):
        raise UserError(
            f"--fit: {fit!r} holds for no row of curve {names[missing[0]]!r}; nothing to fit there"
        )
    score, values = read_score(frame.loc[fitted], y, owner[fitted], positions[fitted], best, source)
    points = pd.DataFrame(
        {
            "curve": owner[fitted],
            "x": positions[fitted],
            "y": np.log(values),
            "row": frame.index[fitted] + 1,
        }
    )
    merged, scatter, averaged = _average_repeats(points, len(names), frame.loc[fitted], x, keys)
    merged, set_aside, spiked = _without_spikes(merged, points, names)
    thinned, binned = _thin(merged, len(names))
    if len(thinned) < len(merged):
        averaged += (f"curves of over {MOST_POINTS} fitted points: averaged into bins of log {x}",)
    counts = np.bincount(thinned["curve"], minlength=len(names))

    beyond, inside = _beyond(owner, positions, fitted)
    if not beyond.any():
        raise UserError(
            f"--fit: {fit!r} leaves out no row beyond the last fitted {x} of its curve;"
            " nothing to predict"
        )
    return Curves(
        names=names,
        groups=groups,
        group_names=tuple(map(str, found)),
        first=np.concatenate([[0], np.cumsum(counts)]),
        x=thinned["x"].to_numpy(),
        y=np.exp(thinned["y"].to_numpy()),
        frame=frame.loc[beyond],
        target=owner[beyond],
        target_x=positions[beyond],
        scatter=np.hypot(scatter, binned),
        score=score,
        set_aside=set_aside,
        notes=(*said, *score.notes, *notes, *inside, *averaged, *spiked),
    )


def _beyond(
    owner: np.ndarray, positions: np.ndarray, fitted: np.ndarray
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Mask [rows] of what lies beyond the fitted rows of its curve, and a note of what does not."""
    last = np.full(owner.max() + 1, -np.inf)
    np.maximum.at(last, owner[fitted], positions[fitted])
    beyond = ~fitted & (positions > last[owner])
    inside = (~fitted & ~beyond).sum()
    if not inside:
        return beyond, ()
    note = f"{inside} rows before the last fitted one of their curve are not fitted: left out"
    return beyond, (note,)


def _taken(
    frame: pd.DataFrame, x: str, y: str, curve: str | None, where: str | None, source: str
) -> tuple[pd.DataFrame, list[str]]:
    """The rows that `where` takes, numbered as in the file, and what was read as what."""
    for name in ADDED:
        if name in frame:
            raise UserError(f"{source}: column {name!r} is there already; it is what we add")
    keys = {f"--curve {name}": name for name in _names(curve)}
    return asked(frame, {"--x": x, "--y": y}, source, keys=keys, where=where)


def _names(curve: str | None) -> list[str]:
    return [name.strip() for name in (curve or "").split(",") if name.strip()]


def _labels(frame: pd.DataFrame, curve: str | None, source: str) -> tuple[list[str], pd.DataFrame]:
    """The key columns by name, and their values [rows, keys]."""
    if curve is None:
        return [], pd.DataFrame({"": ALL_ROWS}, index=frame.index)
    keys = _names(curve)
    if not keys:
        raise UserError("--curve is empty; name the columns that tell curves apart, with commas")
    labels = pd.DataFrame({name: named_column(frame, "--curve", name, source) for name in keys})
    if labels.isna().any(axis=None):
        row, column = np.argwhere(labels.isna().to_numpy())[0]
        number = labels.index[row] + 1
        raise UserError(f"{source}: column {keys[column]!r} is missing (NaN) in row {number}")
    return keys, labels


def _average_repeats(
    points: pd.DataFrame, num_curves: int, frame: pd.DataFrame, x: str, keys: list[str]
) -> tuple[pd.DataFrame, np.ndarray, tuple[str, ...]]:
    """One point for each x of a curve, the deviation [curves] of a row around it, and a note.

    Rows of one x are repeats (seeds). Where they lie as far apart as the points of the curve, they
    are more likely rows of several curves; the note then names the column that parts them.
    """
    by_point = points.groupby(["curve", "x"])
    merged = by_point.agg(y=("y", "mean"), rows=("y", "size")).reset_index()
    if len(points) == len(merged):
        return merged, np.zeros(num_curves), ()
    gaps = points["y"] - by_point["y"].transform("mean")
    squares = np.bincount(points["curve"], gaps**2, num_curves)
    kept = np.bincount(merged["curve"], minlength=num_curves)
    degrees = np.bincount(points["curve"], minlength=num_curves) - kept
    typical = np.sqrt(squares.sum() / degrees.sum())
    pooled = (squares + SCATTER_PRIOR * typical**2) / (degrees + SCATTER_PRIOR)
    scatter = np.where(degrees > 0, np.sqrt(pooled), 0.0)
    repeated = int((by_point["y"].transform("size") > 1).sum())
    text = (
        f"{repeated} fitted rows share their {x} with others of their curve (up to"
        f" {merged['rows'].max()}) and differ by {typical:.2g} in log y"
    )
    spread = merged.groupby("curve")["y"].std().fillna(0.0).to_numpy()
    if (scatter[degrees > 0] > 0.5 * spread[degrees > 0]).any():
        hint = _parting_column(points, frame, keys)
        if not keys and hint:
            raise UserError(
                f"{text}, as much as all rows do: which column tells curves apart{hint}"
            )
        text += ", as much as the curve moves: does --curve name every column that tells curves"
        text += f" apart{hint or '?'}"
    text += "; averaged as repeats"
    return merged, scatter, (text,)


def _parting_column(points: pd.DataFrame, frame: pd.DataFrame, keys: list[str]) -> str:
    """Name a column by whose values no row shares its curve's x with another, if there is one."""
    for name in frame.columns:
        values = frame[name]
        if name in keys or not 1 < values.nunique() <= len(frame) / 2:
            continue
        if (
            not points.assign(key=values.astype(str).to_numpy())
            .duplicated(["curve", "x", "key"])
            .any()
        ):
            return f"; --curve {','.join([*keys, str(name)])!r}?"
    return ""


def _without_spikes(
    merged: pd.DataFrame, points: pd.DataFrame, names: tuple[str, ...]
) -> tuple[pd.DataFrame, tuple[int, ...], tuple[str, ...]]:
    """The points that are no spikes, the rows of the table behind the others, and notes."""
    spikes, jumps, notes = np.zeros(len(merged), bool), [], ()
    log_x, log_y = np.log(merged["x"].to_numpy()), merged["y"].to_numpy()
    for curve, rows in merged.groupby("curve").indices.items():
        spikes[rows] = find_spikes(log_x[rows], log_y[rows])
        kept = rows[~spikes[rows]]
        if ends_in_jump(log_x[kept], log_y[kept]):
            jumps.append(names[curve])
    if jumps:
        notes += (
            f"{_named(jumps)} end{'s' * (len(jumps) == 1)} in a jump, perhaps a spike that has not"
            " come back yet: --fit can leave it out",
        )
    if not spikes.any():
        return merged, (), notes
    gone = points.merge(merged.loc[spikes, ["curve", "x"]], on=["curve", "x"])
    rows = sorted(gone["row"].tolist())
    place = _named([names[curve] for curve in gone["curve"].unique()])
    note = f"spikes of {place}, which leave it and come back, are set aside: {numbers.rows(rows)}"
    return merged.loc[~spikes].reset_index(drop=True), tuple(rows), (note, *notes)


def _named(names: list[str]) -> str:
    return f"curve {names[0]!r}" if len(names) == 1 else f"{len(names)} curves ({names[0]!r}, ...)"


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
