"""Rows that are checkpoints of a few runs rather than runs: they share their run's noise.

A law fitted to them as if they were independent gets intervals of many runs from a few. What tells
them from a grid of runs is their number at one N and where they lie: a run is saved every so many
steps, so that D grows by equal amounts, or very often; nobody trains a size twenty times over.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd

RUN_COLUMNS = ("run", "run_id", "trial", "curve", "experiment_id", "id")
FEWEST, MANY = 8, 20  # rows of a series equally spaced in D, or spaced in any way
MOST_SERIES = 200  # that are looked at
MOST_ROWS = 100_000  # of a table that is searched for a column that, with N, tells runs apart
MOST_VALUES = 50  # of a column that, with N, may tell runs apart


def series_of(frame: pd.DataFrame) -> tuple[np.ndarray, str] | None:
    """Labels [rows] of the runs whose checkpoints the rows of N, D and L are, and what told them.

    None where the rows are not such series. Runs are told apart by a column that is called so, by
    N, or by N and one more column, in that order.
    """
    if len(frame) < 2 * FEWEST or frame[["N", "D", "L"]].isna().any(axis=None):
        return None
    for keys in _keys(frame):
        codes = frame.groupby(keys, sort=False, dropna=False).ngroup().to_numpy()
        count = int(codes.max()) + 1
        if count < 2 or len(frame) < FEWEST * count:
            continue
        if _are_series(frame, codes, count):
            labels = frame[keys[0]].astype(str)
            for key in keys[1:]:
                labels = labels + ", " + frame[key].astype(str)
            return labels.to_numpy(), " and ".join(repr(key) if key != "N" else key for key in keys)
    return None


def _keys(frame: pd.DataFrame) -> Iterator[list[str]]:
    """Columns by which runs may be told apart, likeliest first."""
    yield from ([name] for name in RUN_COLUMNS if name in frame and frame[name].notna().all())
    yield ["N"]
    if len(frame) > MOST_ROWS:
        return
    others = [name for name in frame.columns if name not in ("N", "D", "C", "L", "U", "group")]
    for name in others[:MOST_VALUES]:
        if frame[name].dtype.kind != "f" and frame[name].map(_hashable).all():
            if 2 <= frame[name].nunique() <= MOST_VALUES:
                yield ["N", name]


def _hashable(value: object) -> bool:
    return not isinstance(value, list | dict | set | np.ndarray)


def _are_series(frame: pd.DataFrame, codes: np.ndarray, count: int) -> bool:
    """Whether most rows lie in groups that look like the checkpoints of one run."""
    some = codes % max(count // MOST_SERIES, 1) == 0
    rows = frame[["N", "D", "L"]].assign(run=codes)[some].sort_values("D", kind="stable")
    runs = [run[["N", "D", "L"]].to_numpy(float).T for _, run in rows.groupby("run")]
    return sum(run.shape[1] for run in runs if _is_series(*run)) >= 0.8 * len(rows)


def _is_series(size: np.ndarray, data: np.ndarray, loss: np.ndarray) -> bool:
    """One N, D that grows by equal amounts or in many steps, and a loss that falls with it."""
    if np.ptp(size) > 1e-6 * size[0]:
        return False
    once = np.flatnonzero(np.diff(data, append=np.inf) > 1e-9 * data[-1])
    if len(once) < 0.9 * len(data) or data[-1] < 2 * data[0]:
        return False
    data, loss = data[once], loss[once]
    gaps = np.diff(data)
    usual = np.median(gaps)
    # Steps left out, and a last one that is short, are no other spacing.
    even = np.mean(np.abs(gaps / usual - np.maximum(np.round(gaps / usual), 1)) < 0.1) >= 0.8
    if not (len(data) >= MANY or (len(data) >= FEWEST and even and np.median(gaps / usual) < 1.5)):
        return False
    thirds = max(len(loss) // 3, 1)
    fall = np.median(loss[:thirds]) - np.median(loss[-thirds:])
    wiggle = np.median(np.abs(np.diff(loss)))
    return bool(fall > 2 * wiggle)
