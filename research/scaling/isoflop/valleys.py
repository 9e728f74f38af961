"""The minimum of one isoFLOP valley, for one measured loss curve or thousands of redrawn ones.

x [n] are log sizes in rising order, y [S, n] log losses. Hoffmann 2022, approach 2, fits a parabola
of loss in log N; Porian 2024 takes the minimum of an Akima spline of log loss in log N, which
follows a lopsided valley where the parabola cannot.
"""

import numpy as np
import scipy

# Runs nearest the minimum that decide whether there is a valley at all (concave parabola).
NEAR = 7
# A run this close to the minimum, in shares of the mean spacing, is at it: on neither side.
AT_MINIMUM = 0.01


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
