"""Extrapolate learning curves: several laws at once, weighed by what they foretold of each curve.

Every law is fitted to every curve and to the same curve with its last points left out, at several
horizons up to that of the forecast ("rolling origin", Tashman 2000). The backtests say which laws
to trust (see `combination`); "last value", which predicts no progress, is always one of them.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import scipy

from research.errors import UserError, nearest
from research.numbers import few
from research.scaling.extrapolate import laws as curve_laws
from research.scaling.extrapolate.bends import bent_ends
from research.scaling.extrapolate.combination import Pool, error_scale, weights, widths
from research.scaling.extrapolate.curves import Curves
from research.scaling.extrapolate.fit import fit_predict, gather, noise_scale

LAST_VALUE = "last_value"
AUTO = "auto"
NAMES = (LAST_VALUE, *curve_laws.LAWS)
# (law, share of the range of log x it is fitted to): the later part alone may follow a simpler law
# than the whole. `auto` combines these.
CANDIDATES = (
    (LAST_VALUE, 1.0),
    ("m1", 0.3),
    ("m1", 0.15),
    ("m2", 1.0),
    ("m2", 0.25),
    ("m3", 1.0),
    ("m3", 0.25),
    ("m4", 1.0),
    ("bnsl1", 1.0),
)
FEWEST_ROWS = 3  # of a curve; below, its last value is all there is
TAIL_ROWS = 4  # at least in a fit to a share of the range
HORIZONS = (1.0, 0.7, 0.5, 0.35, 0.2)  # of the backtests, over that of the forecast
LONGEST = 0.65  # horizon of a backtest over the range of the curve
MOST_CHANGE = 3.0  # of log loss, from the last value
# A bend is said where the laws miss this share of its slope, and it leads that part of the half
# width away from the forecast.
MISSED, BENT = 0.5, 0.2
ROW_PART = 1.2  # of the deviation of rows around their means, which is estimated itself


@dataclass(frozen=True)
class Problems:
    """Fits to make: points `start` to `stop` of a curve, to predict what comes after.

    [P] each; the first problem of a curve is its forecast (of rows of the table), the others are
    backtests. `u` [P, columns] is log(x / last fitted x) of what is predicted, nan-padded in
    `truth`, the log losses [P, columns] (all nan for a forecast).
    """

    curve: np.ndarray
    start: np.ndarray
    stop: np.ndarray
    u: np.ndarray
    truth: np.ndarray

    @property
    def known(self) -> np.ndarray:
        """Mask [P, columns] of the points left out by backtests."""
        return ~np.isnan(self.truth)

    @property
    def backtest(self) -> np.ndarray:
        """Mask [P]."""
        return self.known[:, 0]


@dataclass(frozen=True)
class Backtest:
    """How one law (or the combination) did on the backtests of all curves.

    `rmse`: mean over curves of the root mean square error of log y; `leads`: curves on which no
    other single law has a lower one.
    """

    law: str
    rmse: float
    leads: int


@dataclass(frozen=True)
class Extrapolation:
    """Predictions for the rows of `curves.frame`, and what the backtests say of them.

    `prediction`, `low`, `high` [rows] bound y at `level`; `law` [rows] is the law that weighs most.
    `weights` [curves, candidates] are those of `candidates` ("m2" or, fitted to the later quarter
    of the range, "m2@0.25"). `backtests` has every single law and, last, the one asked for.
    `coverage` is the share of left-out points inside their interval (None without backtests);
    `last_value_wins` names the groups of curves in which no law beats the last value.
    """

    curves: Curves
    prediction: np.ndarray
    low: np.ndarray
    high: np.ndarray
    law: np.ndarray
    level: float
    candidates: tuple[str, ...]
    weights: np.ndarray
    backtests: tuple[Backtest, ...]
    coverage: float | None
    num_backtests: int
    last_value_wins: tuple[str, ...]
    notes: tuple[str, ...]

    def frame(self) -> pd.DataFrame:
        """The predicted rows as they were read, with columns prediction, low, high and law."""
        return self.curves.frame.assign(
            prediction=self.prediction, low=self.low, high=self.high, law=self.law
        )

    def to_json(self) -> dict[str, Any]:
        """What the command prints, as JSON."""
        return {
            "curves": len(self.curves),
            "rows": len(self.prediction),
            "level": self.level,
            "backtests": self.num_backtests,
            "laws": {b.law: {"rmse": b.rmse, "leads": b.leads} for b in self.backtests},
            "coverage": self.coverage,
            "last_value_wins": list(self.last_value_wins),
            "best": self.curves.score.best or None,
            "set_aside": list(self.curves.set_aside),
            "weights": {
                name: dict(zip(self.candidates, row.tolist(), strict=True))
                for name, row in zip(self.curves.names, self.weights, strict=True)
            },
            "notes": list(self.notes),
        }


def check_law(law: str) -> None:
    """Raise UserError unless `law` is a name of NAMES, or "auto"."""
    if law not in (*NAMES, AUTO):
        known = ", ".join((*NAMES, AUTO))
        raise UserError(f"--law: no law {law!r}{nearest(law, (*NAMES, AUTO))}; one of {known}")


def extrapolate(curves: Curves, law: str = AUTO, level: float = 0.9) -> Extrapolation:
    """Predict the rows of `curves.frame`.

    A single `law` is fitted to the whole of each curve. Curves of fewer than 3 fitted points get
    their last value, with an interval from how far other curves move.

    Raises:
        UserError: an unknown law, or a level that is not between 0 and 1.
    """
    check_law(law)
    if not 0 < level < 1:
        raise UserError(f"--level {level:g}: expected a share between 0 and 1, such as 0.9")
    problems = _problems(curves)
    chosen = CANDIDATES if law == AUTO else ((law, 1.0),)
    every = tuple(dict.fromkeys((*chosen, *((name, 1.0) for name in NAMES))))
    points = gather(curves.x, curves.y, problems.start, problems.stop)
    noise = noise_scale(points)
    last = np.log(curves.y)[problems.stop - 1]
    ends = bent_ends(points, noise)
    at = np.concatenate([problems.u, np.outer(ends.length, (-0.5, 0.0))], 1)
    forecasts = np.stack([_forecast(curves, problems, noise, at, *item) for item in every], 1)
    bound = last[:, None, None]
    forecasts = np.clip(forecasts, bound - MOST_CHANGE, bound + MOST_CHANGE)
    forecasts, inside = forecasts[..., :-2], forecasts[..., -2:]

    errors = forecasts - problems.truth[:, None]
    pool = Pool(problems.curve, problems.u.max(1), problems.backtest, curves.groups)
    part = forecasts[:, : len(chosen)]
    weight = weights(errors[:, : len(chosen)], noise, pool)
    few = np.diff(curves.first) < FEWEST_ROWS
    labels = np.array([name for name, _ in chosen])
    if law == AUTO:
        weight[few[problems.curve]] = labels == LAST_VALUE
    combined = np.where(few[problems.curve, None], last[:, None], (weight[..., None] * part).sum(1))
    span = np.log(curves.x)[problems.stop - 1] - np.log(curves.x)[problems.start]
    progress = problems.u / np.maximum(span, 0.3)[:, None]
    inside = (weight[..., None] * inside[:, : len(chosen)]).sum(1)
    missed = ends.missed(*inside.T)
    onward = np.clip(missed[:, None] * np.maximum(problems.u, 0), -MOST_CHANGE, MOST_CHANGE)
    scale = error_scale(part, weight, combined, noise, last, progress, onward)
    miss = np.abs(combined - problems.truth)
    half = widths(miss / scale, pool, level)[problems.curve, None] * scale
    row = scipy.stats.norm.ppf((1 + level) / 2) * ROW_PART
    half = np.hypot(half, row * curves.scatter[problems.curve, None])
    half = np.where(few[problems.curve, None], _drift(problems, last, level), half)

    known = problems.known
    cells = curves.target, _columns(curves.target)
    leading = np.where(few, LAST_VALUE, _heaviest(weight[: len(curves)], labels))
    backtests, wins = _summary(curves, problems, errors, [f"{n}@{s:g}" for n, s in every], miss)
    if law != AUTO:
        backtests = tuple(b for b in backtests if b.law != AUTO)
    ends_of = (combined - half, combined, combined + half)
    low, prediction, high = curves.score.bounds(*(np.exp(part[cells]) for part in ends_of))
    return Extrapolation(
        curves=curves,
        prediction=prediction,
        low=low,
        high=high,
        law=leading[curves.target],
        level=level,
        candidates=tuple(name if share == 1 else f"{name}@{share:g}" for name, share in chosen),
        weights=weight[: len(curves)],
        backtests=backtests,
        coverage=float((miss <= half)[known].mean()) if known.any() else None,
        num_backtests=int(problems.backtest.sum()),
        last_value_wins=wins,
        notes=(
            *curves.notes,
            *_notes(curves, problems, few),
            *_bent(curves, ends.slope, missed, onward, half),
        ),
    )


def _columns(target: np.ndarray) -> np.ndarray:
    """Number each row among the rows of its curve."""
    order = np.argsort(target, kind="stable")
    counts = np.bincount(target)
    within = np.arange(len(target)) - np.repeat(np.cumsum(counts) - counts, counts)
    result = np.empty(len(target), int)
    result[order] = within
    return result


def _problems(curves: Curves) -> Problems:
    """One forecast a curve, in order, then the backtests of every curve."""
    logs = np.log(curves.x)
    first, end = curves.first[:-1], curves.first[1:]
    ahead = np.full(len(curves), -np.inf)
    np.maximum.at(ahead, curves.target, np.log(curves.target_x))
    rows = [(i, first[i], end[i], end[i]) for i in range(len(curves))]
    for i in range(len(curves)):
        own = logs[first[i] : end[i]]
        rows += [(i, first[i], first[i] + cut, end[i]) for cut in _origins(own, ahead[i] - own[-1])]
    curve, start, stop, end = np.array(rows).T
    columns = _columns(curves.target)
    index = stop[:, None] + np.arange(max(columns.max() + 1, (end - stop).max()))
    known = index < end[:, None]
    index = np.minimum(index, len(logs) - 1)
    u = np.where(known, logs[index] - logs[stop - 1][:, None], 0.0)
    u[curves.target, columns] = np.log(curves.target_x) - logs[stop - 1][curves.target]
    return Problems(curve, start, stop, u, np.where(known, np.log(curves.y)[index], np.nan))


def _origins(logs: np.ndarray, horizon: float) -> list[int]:
    """How many of a curve's points (log x, increasing) each backtest keeps."""
    span = logs[-1] - logs[0]
    longest = min(horizon, LONGEST * span) if horizon > 0 else 0.5 * span
    found: list[int] = []
    for part in HORIZONS:
        kept = int((logs <= logs[-1] - part * longest + 1e-12).sum())
        found.append(min(kept, len(logs) - 1))
    found = [kept for kept in dict.fromkeys(found) if kept >= min(TAIL_ROWS, len(logs) - 1)]
    for kept in (len(logs) - 1, len(logs) - 2):
        if len(found) < 3 and kept not in found:
            found.append(kept)
    return [kept for kept in found if kept >= FEWEST_ROWS]


def _forecast(
    curves: Curves, problems: Problems, noise: np.ndarray, u: np.ndarray, law: str, share: float
) -> np.ndarray:
    """Log loss [P, columns] at `u` by one candidate."""
    if law == LAST_VALUE:
        last = np.log(curves.y)[problems.stop - 1]
        return np.broadcast_to(last[:, None], u.shape)
    logs = np.log(curves.x)
    high, low = logs[problems.stop - 1], logs[problems.start]
    whole = gather(curves.x, curves.y, problems.start, problems.stop)
    inside = (whole.mask & (whole.u >= -share * (high - low)[:, None] - 1e-9)).sum(1)
    kept = np.minimum(np.maximum(inside, TAIL_ROWS), whole.count)
    tail = gather(curves.x, curves.y, problems.stop - kept, problems.stop)
    return fit_predict(curve_laws.LAWS[law], tail, noise, u)


def _heaviest(weight: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The law [curves] of most weight, its fits to the whole and to a part counted together."""
    names = list(dict.fromkeys(labels.tolist()))
    sums = np.stack([weight[:, labels == name].sum(1) for name in names], 1)
    return np.array(names)[sums.argmax(1)]


def _drift(problems: Problems, last: np.ndarray, level: float) -> np.ndarray:
    """Half width [P, columns] around a last value of which nothing else is known.

    The quantile of how far curves of the table moved in their backtests, growing with the root of
    the horizon beyond theirs; a factor of two where the table has no backtest.
    """
    known = problems.known
    if not known.any():
        return np.full(problems.u.shape, np.log(2.0))
    moved = np.quantile(np.abs(problems.truth - last[:, None])[known], level)
    typical = np.median(problems.u[known])
    return moved * np.sqrt(np.maximum(problems.u / max(typical, 1e-6), 1.0))


def _summary(
    curves: Curves, problems: Problems, errors: np.ndarray, names: list[str], miss: np.ndarray
) -> tuple[tuple[Backtest, ...], tuple[str, ...]]:
    """Backtest errors of the single laws and of the combination; groups where last value wins."""
    tested = problems.backtest
    if not tested.any():
        return (), ()
    columns = [names.index(f"{name}@1") for name in NAMES]
    own = np.concatenate([np.abs(errors[:, columns]), miss[:, None]], 1)
    root = np.sqrt(np.nanmean(own[tested] ** 2, 2))
    curve = problems.curve[tested]
    have = np.unique(curve)
    mean = np.stack([root[curve == i].mean(0) for i in have])
    leads = np.bincount(mean[:, :-1].argmin(1), minlength=len(NAMES) + 1)
    backtests = tuple(
        Backtest(name, float(value), int(count))
        for name, value, count in zip((*NAMES, AUTO), mean.mean(0), leads, strict=True)
    )
    wins = []
    for group, name in enumerate(curves.group_names):
        mine = mean[curves.groups[have] == group, :-1]
        if len(mine) and mine.mean(0).argmin() == 0:
            wins.append(name or "all curves")
    return backtests, tuple(wins)


def _notes(curves: Curves, problems: Problems, few: np.ndarray) -> list[str]:
    notes = []
    if few.any():
        name = curves.names[int(np.flatnonzero(few)[0])]
        notes.append(
            f"{few.sum()} of {len(curves)} curves have under {FEWEST_ROWS} fitted points"
            f" ({name!r}): last value, with how far other curves move as interval"
        )
    if not problems.backtest.any():
        notes.append("no curve has points enough for a backtest: the intervals are not calibrated")
    return notes


def _bent(
    curves: Curves, slope: np.ndarray, missed: np.ndarray, onward: np.ndarray, half: np.ndarray
) -> list[str]:
    """Say which curves rise at their end, or fall there as the laws do not.

    `slope` [P] is that of the end, nan without a bend, `missed` [P] what the laws miss of it, and
    `onward` [P, columns] where that leads.
    """
    num, notes = len(curves), []
    far = (np.abs(onward[:num]) > BENT * half[:num]).any(1)
    slope, missed = slope[:num], missed[:num]
    for bent, what in (
        (
            (slope < 0) & (missed < MISSED * slope) & far,
            "fall faster at their end than before, as in an unfinished cooldown, and the laws do"
            " not follow",
        ),
        (slope > 0, "rise at their end"),
    ):
        found = [repr(curves.names[i]) for i in np.flatnonzero(bent)]
        if found:
            notes.append(
                f"{len(found)} of {num} curves {what} ({few(found, 3)}): do not trust these"
                " forecasts; their intervals are widened"
            )
    return notes
