"""Minima of all budgets, of a table and of its redraws, and the power law through them.

Hoffmann 2022, approach 2, fits a parabola of loss in log N; Porian 2024 takes the minimum of an
Akima spline of log loss in log N, which follows a lopsided valley where the parabola cannot. Below,
x [n] are a budget's log sizes in rising order, y [S, n] log losses of the table and its redraws.
Redraws put the table's noise on the shared shape of its valleys (projection.py). Every redraw goes
through the method and the rules of check 6 as the table itself does, so that their spread holds
what choosing budgets by their own noise does.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy

from research.scaling.doubt import intervals
from research.scaling.doubt.table_checks import Finding
from research.scaling.isoflop import projection
from research.scaling.isoflop.budgets import Points
from research.scaling.isoflop.projection import Projection

FEWEST = 3  # budgets
# Runs nearest the minimum that decide whether there is a valley at all (concave parabola).
NEAR = 7
# A run this close to the minimum, in shares of the mean spacing, is at it: on neither side.
AT_MINIMUM = 0.01
TOO_FEW = 9
REASONS = {
    TOO_FEW: "{sizes} sizes; two on each side of a minimum take 4",
    1: "the minimum is at the smallest size: add smaller ones",
    2: "the minimum is at the largest size: add larger ones",
    3: "one run only on the smaller side of the minimum",
    4: "one run only on the larger side of the minimum",
    5: "the parabola is concave: the losses show no valley",
    6: "the parabola's minimum lies outside the sizes that were run",
}
Line = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Minima:
    """Of each redraw (the first row is the table itself): log size [S, B], fault [S, B].

    `fault` is 0 where the budget is kept; `error` [B] the spread of log size over the redraws,
    `level` [B] the log loss of the table's own minima.
    """

    method: str
    place: np.ndarray
    fault: np.ndarray
    error: np.ndarray
    level: np.ndarray

    @property
    def num_kept(self) -> int:
        """How many budgets of the table hold a minimum."""
        return int((self.fault[0] == 0).sum())


def redraw(
    runs: Points, shape: Projection, draws: int, seed: int
) -> tuple[np.ndarray, list[Finding]]:
    """Log losses [1 + draws, P]: the table's, then as the shared shape and its noise would have it.

    The noise of each draw is itself drawn, as far as the residuals leave it open (chi-squared).
    """
    generator = np.random.default_rng(seed)
    index, names = pd.factorize(runs.group)
    notes = []
    if len(np.unique(np.stack([runs.index, index]), axis=1).T) < len(index):
        text = "a group holds several sizes of one budget: noise is drawn for each run"
        notes.append(Finding(15, "resampling", text, {"groups": len(names)}))
        index = np.arange(len(index))
    size = np.sqrt(shape.degrees / generator.chisquare(shape.degrees, (draws, 1)))
    noise = generator.standard_normal((draws, index.max() + 1))[:, index]
    return np.concatenate([runs.y[None], shape.fitted + shape.scale * size * noise]), notes


def budget_minima(runs: Points, redraws: np.ndarray, method: str) -> Minima:
    place = np.full((len(redraws), runs.count), np.nan)
    fault = np.full((len(redraws), runs.count), TOO_FEW)
    error, level = np.ones(runs.count), np.full(runs.count, np.nan)
    for k in range(runs.count):
        rows = runs.rows(k)
        if len(rows) < 4:
            continue
        x, y = runs.x[rows], redraws[:, rows]
        place[:, k], losses = minimum(x, y, method)
        level[k] = losses[0]
        fault[:, k] = faults(x, y, place[:, k])
        error[k] = _spread(place[1:, k][fault[1:, k] == 0], np.ptp(x))
    return Minima(method, place, fault, error, level)


def _spread(minima: np.ndarray, width: float) -> float:
    """Standard error of a minimum; a third of the sizes' range where redraws hardly keep it."""
    if len(minima) < 20:
        return float(width / 3)
    return float(max(intervals.spread(minima), minima.std(), 1e-9))


def minimum(x: np.ndarray, y: np.ndarray, method: str) -> tuple[np.ndarray, np.ndarray]:
    """Log size and log loss of the minimum [S] for losses y [S, n]; nan where there is none."""
    return _parabola(x, y) if method == "parabola" else _akima(x, y)


def _parabola(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    centre, width = x.mean(), np.ptp(x)
    t = (x - centre) / width
    curve, slope, level = np.linalg.pinv(np.stack([t**2, t, np.ones_like(t)], 1)) @ y.T
    with np.errstate(divide="ignore", invalid="ignore"):
        best = np.where(curve > 0, -slope / (2 * curve), np.nan)
    return centre + width * best, level + slope * best / 2


def _akima(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The spline's exact minimum: every knot and every stationary point of every cubic."""
    cubic = scipy.interpolate.Akima1DInterpolator(
        x, y, axis=1
    ).c  # [4, n - 1, S], powers of (x - knot) falling
    a, b, c, d = cubic
    gap = np.diff(x)[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        # The minimum of a t^3 + b t^2 + c t has 3 a t + b > 0: this root of the derivative, in
        # the form that does not cancel.
        root = np.sqrt(np.maximum(b**2 - 3 * a * c, 0))
        t = np.where(b > 0, -c / (b + root), (root - b) / (3 * a))
    inside = (b**2 > 3 * a * c) & (t > 0) & (t < gap)
    t = np.where(inside, t, 0.0)  # elsewhere the knot itself
    value = ((a * t + b) * t + c) * t + d
    value = np.concatenate([value, y[:, -1][None]])
    place = np.concatenate([x[:-1, None] + t, np.full((1, y.shape[0]), x[-1])])
    lowest = value.argmin(0)[None]
    return np.take_along_axis(place, lowest, 0)[0], np.take_along_axis(value, lowest, 0)[0]


def curvature(x: np.ndarray, y: np.ndarray, best: np.ndarray) -> np.ndarray:
    """Second derivative [S] of the parabola through the runs nearest each minimum."""
    if len(x) <= NEAR:
        groups = {0: np.arange(len(y))}
    else:
        edges = (x[:-NEAR] + x[NEAR:]) / 2  # beyond it the window moves on by one run
        first = np.searchsorted(edges, best)
        groups = {int(k): np.flatnonzero(first == k) for k in np.unique(first)}
    result = np.empty(len(y))
    for k, draws in groups.items():
        near = x[k : k + NEAR]
        t = near - near.mean()
        solve = np.linalg.pinv(np.stack([t**2, t, np.ones_like(t)], 1))[0]
        result[draws] = 2 * y[draws, k : k + NEAR] @ solve
    return result


def faults(x: np.ndarray, y: np.ndarray, best: np.ndarray) -> np.ndarray:
    """Check 6 for each of y [S, n]: 0 where the budget is kept, else a key of REASONS.

    Sides are counted from the minimum of the fitted curve, not from the lowest run: with sizes a
    factor of 2 apart, a minimum between the second and the third has two runs on each side
    although the lowest run has one beyond it, and dropping those budgets drops just those whose
    noise pointed that way.
    """
    lowest = y.argmin(1)
    at = AT_MINIMUM * np.ptp(x) / (len(x) - 1)
    smaller = (x < best[:, None] - at).sum(1)
    larger = (x > best[:, None] + at).sum(1)
    return np.select(
        [
            lowest == 0,
            lowest == len(x) - 1,
            ~(curvature(x, y, np.where(np.isnan(best), x.mean(), best)) > 0) | np.isnan(best),
            (best <= x[0]) | (best >= x[-1]),
            smaller < 2,
            larger < 2,
        ],
        [1, 2, 5, 6, 3, 4],
        0,
    )


def projected_minima(runs: Points, shape: Projection, redraws: np.ndarray) -> Minima:
    weights = (shape.noise / shape.scale) ** 2
    ends, _ = projection.minimise(runs, redraws[1:], weights, shape.noise, shape.theta, shape.level)
    ends = np.concatenate([shape.theta[None], ends])
    place = ends[:, 4:5] * (runs.budgets - shape.centre) + ends[:, 5:6]
    fault = np.where(np.bincount(runs.index) < 2, TOO_FEW, 0)
    fault = np.broadcast_to(fault, place.shape)
    return Minima("projection", place, fault, place[1:].std(0), shape.level)


def log_data(runs: Points, budget: int, place: np.ndarray) -> np.ndarray:
    """Log of the data a budget buys at log sizes, along log(N D); beyond the runs N D is even."""
    rows = runs.rows(budget)
    known = np.isfinite(place)
    both = np.interp(np.where(known, place, 0.0), runs.x[rows], runs.x[rows] + runs.log_data[rows])
    return np.where(known, both - place, np.nan)


def power_law(runs: Points, shape: Projection, minima: Minima) -> Line | None:
    """Slopes [2] and offsets [2] of log N_opt, log D_opt on log C, and how redraws miss theirs.

    The last is [draws, 3]: the slopes of N and D and the offset of N, less what the shape behind
    the redraws has; larger where the kept minima scatter more than their errors (Birge 1932).
    None with fewer than 3 budgets.
    """
    keep = minima.fault == 0
    if keep[0].sum() < FEWEST:
        return None
    z = runs.budgets
    true = shape.log_params(z)
    size = np.where(keep, minima.place, 0.0)
    data = np.stack([log_data(runs, k, minima.place[:, k]) for k in range(runs.count)], 1)
    data = np.where(keep, data, 0.0)
    aim = np.array([log_data(runs, k, true[k : k + 1])[0] for k in range(runs.count)])
    if minima.method == "projection":
        weights = keep.astype(float)
        scatter = 1.0
    else:
        extra, scatter = _scatter(z[keep[0]], minima.place[0, keep[0]], minima.error[keep[0]])
        weights = np.where(keep, 1 / (minima.error**2 + extra), 0.0)
    enough = _alike(keep.sum(1))
    weights, size, data = weights[enough], size[enough], data[enough]
    slope, offset = _line(z, np.stack([size, data]), weights)
    wanted = np.stack([np.broadcast_to(true, size.shape), np.broadcast_to(aim, size.shape)])
    target, start = _line(z, wanted, weights)
    missed = np.stack([*(slope - target), offset[0] - start[0]], 1)[1:]
    return slope[:, 0], offset[:, 0], missed * scatter


def _alike(kept: np.ndarray) -> np.ndarray:
    """Mask [S] of the table itself and the tenth of the redraws that keep the most like number.

    A law through 8 budgets is not doubted for what one through 3 would have said.
    """
    enough = kept >= FEWEST
    apart = np.where(enough, np.abs(kept - kept[0]), len(kept))
    return enough & (apart <= np.sort(apart)[len(kept) // 10])


def _scatter(z: np.ndarray, place: np.ndarray, error: np.ndarray) -> tuple[float, float]:
    """Variance of minima about their line beyond `error`, and the factor errors are too small by.

    DerSimonian and Laird 1986; the factor is 1 unless chi-squared is too large at the 5% level.
    """
    weights = 1 / error**2
    slope, offset = _line(z, place[None, None], weights[None])
    square = float(np.sum(weights * (place - offset[0, 0] - slope[0, 0] * z) ** 2))
    degrees = len(z) - 2
    if degrees < 1:
        return 0.0, 1.0
    spare = weights.sum() - (weights**2).sum() / weights.sum()
    extra = max(0.0, (square - degrees) / spare)
    odd = scipy.special.chdtrc(degrees, square) < 0.05
    return float(extra), float(np.sqrt(square / degrees)) if odd else 1.0


def _line(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weighted least squares of y [Q, S, B] on x [B], weights [S, B]: slope, offset [Q, S]."""
    total = weights.sum(-1)
    centre = (weights * x).sum(-1) / total
    middle = (weights * y).sum(-1) / total
    spread = x - centre[:, None]
    slope = (weights * spread * (y - middle[..., None])).sum(-1) / (weights * spread**2).sum(-1)
    return slope, middle - slope * centre
