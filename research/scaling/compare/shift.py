"""The law of a comparison: arm A is arm B with its compute, and perhaps its sizes, rescaled.

B has the law L = E + A / N^alpha + B / D^beta (Hoffmann 2022) with D = X / N of a resource X, or
where sizes were not varied apart from X the law L = E + B / X^beta. A at (N, X) is B at
(N / s, X_B), X = m(X_B) X_B and log m linear in log X_B: arms that share E and both exponents are
such a pair exactly. What an arm needs for a loss is said at the best of the sizes that were run
with so much of the resource; beyond them nothing is known of it.

The fit is of least squares, of log losses and weak priors. Its covariance is that of leaving out
one cluster of runs at a time, in one step (Bell 2002, CR3: the delete-a-cluster jackknife), so that
runs of a cluster may share any noise; intervals are of t with a degree less than clusters (Hansen
2022). Directions that the priors hold have the variance of these.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pandas as pd
import scipy

# Priors (mean, deviation) of what short tables leave open: logit of E over the best loss, the
# logarithms of both exponents, and of how many times larger A's sizes are to be than they are.
FLOOR, EXPONENT, SIZE = (0.0, 2.0), (np.log(0.35), 1.0), (0.0, 1.0)
PRIORS = {"floor": FLOOR, "beta": EXPONENT, "alpha": EXPONENT, "size_shift": SIZE}
SHIFT = ("shift", "trend", "size_shift")
LEAST = 1e-7  # noise of log losses, where a table has none
BEYOND, POINTS = 2.0, 400  # of an arm's curve: factors of e past its runs, and points


class Interval(NamedTuple):
    """An estimate and the ends of its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Runs:
    """Runs of both arms: logarithms [runs] of a resource, of the size and of the loss.

    Sizes are counted from the mean of their arm, or zero where nobody knows them; `crossed` says
    whether they were varied apart from the resource. `second` [runs] says which runs are B's.
    `cell` [runs] numbers the arm's sizes and budgets, `cluster` [runs] what shares noise.
    """

    resource: np.ndarray
    size: np.ndarray
    loss: np.ndarray
    second: np.ndarray
    cell: np.ndarray
    cluster: np.ndarray
    crossed: bool

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters, of B's law and of the shift; an arm against itself has no shift."""
        law = ("floor", "scale", "beta", *(("size_scale", "alpha") if self.crossed else ()))
        return law if self.same else (*law, *(SHIFT if self.crossed else SHIFT[:2]))

    @cached_property
    def same(self) -> bool:
        """Whether both arms are the same runs, number by number, in any order."""
        rows = np.stack([self.resource, self.size, self.loss, self.second], axis=1)
        first, second = (rows[self.second == second, :3] for second in (False, True))
        both = [each[np.lexsort(each.T)] for each in (first, second)]
        return first.shape == second.shape and bool((both[0] == both[1]).all())

    @cached_property
    def reach(self) -> tuple[np.ndarray, np.ndarray]:
        """Of A and of B: the resource, and the smallest and largest size run there [3, points].

        Where sizes go with the resource that is their line, else the hull of the runs.
        """
        first, second = (self._reach(self.second == second) for second in (False, True))
        return first, second

    def _reach(self, arm: np.ndarray) -> np.ndarray:
        x, n = self.resource[arm], self.size[arm]
        grid = np.linspace(x.min() - BEYOND, x.max() + BEYOND, POINTS)
        if not self.crossed:
            line = np.polyval(np.polyfit(x, n, 1), grid)
            return np.stack([grid, line, line])
        a, b, c = scipy.spatial.ConvexHull(np.stack([x, n], axis=1)).equations.T
        level = np.abs(b) > 1e-9  # sides of a x + b n + c <= 0 that bound n
        edges = -(np.clip(grid, x.min(), x.max())[:, None] * a[level] + c[level]) / b[level]
        low = np.where(b[level] < 0, edges, -np.inf).max(axis=1)
        high = np.where(b[level] > 0, edges, np.inf).min(axis=1)
        return np.stack([grid, low, np.maximum(low, high)])


@dataclass(frozen=True)
class Law:
    """The law of `runs` with parameters `theta`.

    Exponents and scales are logarithms, as are resources, sizes, data and the shift; the floor is a
    logit, of its share of the best loss.
    """

    runs: Runs
    theta: np.ndarray

    @cached_property
    def named(self) -> dict[str, float]:
        found = dict(zip(self.runs.names, map(float, self.theta), strict=True))
        return dict.fromkeys(SHIFT, 0.0) | found

    @property
    def floor(self) -> float:
        """E, below every loss."""
        return float(np.exp(self.runs.loss.min()) * scipy.special.expit(self.named["floor"]))

    def log_losses(self, x, n, second) -> np.ndarray:
        """Log losses of the arms that `second` says, with log resources `x` and log sizes `n`."""
        at = self.named
        x = np.where(second, x, (x - at["shift"]) * np.exp(-at["trend"]))
        if not self.runs.crossed:
            excess = at["scale"] - np.exp(at["beta"]) * x
        else:
            n = np.where(second, n, n - at["size_shift"])
            excess = np.logaddexp(
                at["scale"] - np.exp(at["beta"]) * (x - n),
                at["size_scale"] - np.exp(at["alpha"]) * n,
            )
        return np.logaddexp(np.log(self.floor), np.clip(excess, -300.0, 300.0))

    def curve(self, second: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Of an arm: log resource, its best log size, log loss, and where that size is no edge.

        The best size is where the derivative of the loss by it is zero, within what was run.
        """
        x, low, high = self.runs.reach[second]
        if not self.runs.crossed:
            return x, low, self.log_losses(x, low, second), np.ones_like(low, bool)
        at, moved = self.named, 0.0 if second else self.named["size_shift"]
        mine = x if second else (x - at["shift"]) * np.exp(-at["trend"])
        alpha, beta = np.exp(at["alpha"]), np.exp(at["beta"])
        best = at["size_scale"] - at["scale"] + at["alpha"] - at["beta"] + beta * mine
        best = best / (alpha + beta) + moved
        n = np.clip(best, low, high)
        return x, n, self.log_losses(x, n, second), n == best

    def needed(self, loss: np.ndarray, second: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Log resource that an arm takes to log losses `loss`, its log size there, and if no edge.

        The excess over the floor is all but a power law, so lines between points are exact enough.
        """
        x, n, losses, free = self.curve(second)
        excess, wanted = (
            np.log(np.maximum(np.exp(each) - self.floor, 1e-300))
            for each in (np.minimum.accumulate(losses), loss)
        )
        at = np.interp(-wanted, -excess, x)
        return at, np.interp(at, x, n), np.interp(at, x, free.astype(float)) == 1


@dataclass(frozen=True)
class Shift:
    """A fitted comparison: its law, the covariance [P, P] of theta, and the number of clusters."""

    law: Law
    covariance: np.ndarray
    clusters: int
    noise: float

    @property
    def errors(self) -> np.ndarray:
        """What the law leaves of log losses [runs]."""
        runs = self.law.runs
        return runs.loss - self.law.log_losses(runs.resource, runs.size, runs.second)

    @property
    def explained(self) -> float:
        """The share of the variance of log losses that the law explains."""
        return 1 - float(np.mean(self.errors**2) / max(np.var(self.law.runs.loss), 1e-300))

    @property
    def lack_of_fit(self) -> float:
        """p of cells' mean errors by the scatter within them (F test); 1 where it tells nothing."""
        within = pd.Series(self.errors).groupby(self.law.runs.cell)
        pure = float(within.var(ddof=0) @ within.size())
        free = within.ngroups - len(self.law.theta), len(self.errors) - within.ngroups
        if min(free) < 1 or pure <= 0:
            return 1.0
        between = float(within.mean() ** 2 @ within.size())
        return float(scipy.stats.f.sf(between / free[0] / (pure / free[1]), *free))

    def estimate(
        self, function: Callable[[Law], np.ndarray], level: float
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """`function` [...] of the law, both ends of its intervals, and p of zero (two-sided)."""
        moves = 1e-4 * np.eye(len(self.law.theta))
        value, *ends = (
            function(Law(self.law.runs, self.law.theta + move))
            for move in (np.zeros(len(moves)), *moves, *-moves)
        )
        up, down = np.split(np.array(ends), 2)
        slopes = (up - down) / 2e-4  # [P, ...]
        moved = np.einsum("p...,pq,q...->...", slopes, self.covariance, slopes)
        error = np.sqrt(np.maximum(moved, 0.0))
        degrees = max(self.clusters - 1, 1)
        width = scipy.special.stdtrit(degrees, 0.5 + level / 2) * error
        p = 2 * scipy.special.stdtr(degrees, -np.abs(value) / np.maximum(error, 1e-9))
        return value, value - width, value + width, p


def fit(runs: Runs) -> Shift:
    """Fit the law of a comparison, and the covariance of its parameters."""
    where = [k for k, name in enumerate(runs.names) if name in PRIORS]
    mean, deviation = np.array([PRIORS[runs.names[k]] for k in where]).T

    def solved(start: np.ndarray, noise: float):
        def weighted(theta: np.ndarray) -> np.ndarray:
            told = Law(runs, theta).log_losses(runs.resource, runs.size, runs.second)
            return np.concatenate([(runs.loss - told) / noise, (theta[where] - mean) / deviation])

        return scipy.optimize.least_squares(
            weighted, start, method="lm", ftol=1e-10, xtol=1e-10, max_nfev=300
        )

    noise, count = 0.01, len(runs.loss)
    found = min((solved(start, noise) for start in _starts(runs)), key=lambda each: each.cost)
    for _ in range(2):
        rows = found.jac[:count]
        spent = np.trace(rows.T @ rows @ np.linalg.pinv(found.jac.T @ found.jac, hermitian=True))
        left = float(np.sum((noise * found.fun[:count]) ** 2))
        noise = max(float(np.sqrt(left / max(count - spent, 0.5))), LEAST)
        found = solved(found.x, noise)
    covariance, clusters = _jackknife(found.jac, found.fun, runs.cluster)
    return Shift(Law(runs, found.x), covariance, clusters, noise)


def _jackknife(slopes, residuals, cluster) -> tuple[np.ndarray, int]:
    """Covariance [P, P] by clusters, each left out in turn, and their number.

    `slopes` [rows, P] and `residuals` [rows] are of the runs, then of the priors, which stay.
    """
    bread, count = np.linalg.pinv(slopes.T @ slopes, hermitian=True), len(cluster)
    moves = []
    for label in np.unique(cluster):
        mine = np.flatnonzero(cluster == label)
        hat = np.eye(len(mine)) - slopes[mine] @ bread @ slopes[mine].T
        moves.append(bread @ slopes[mine].T @ np.linalg.lstsq(hat, residuals[mine])[0])
    share = (len(moves) - 1) / len(moves)
    held = bread @ slopes[count:].T
    return share * np.array(moves).T @ np.array(moves) + held @ held.T, len(moves)


def _starts(runs: Runs) -> list[np.ndarray]:
    """Where to begin: low and high floors, and the shift that straight lines in logs have."""
    n = [runs.size] if runs.crossed else []
    columns = np.stack([np.ones_like(runs.loss), runs.resource, ~runs.second, *n], axis=1)
    _, slope, apart, *_ = np.linalg.lstsq(columns, runs.loss)[0]
    shift = float(np.clip(-apart / min(slope, -0.01), -3.0, 3.0))
    result = []
    for floor in (-1.0, 1.5):
        bound = np.exp(runs.loss.min()) * scipy.special.expit(floor)
        above = np.log(np.exp(np.median(runs.loss)) - bound)
        start = {"floor": floor, "scale": above - 0.7, "size_scale": above - 0.7}
        start |= {"beta": EXPONENT[0], "alpha": EXPONENT[0], "shift": shift}
        result.append(np.array([start.get(name, 0.0) for name in runs.names]))
    return result
