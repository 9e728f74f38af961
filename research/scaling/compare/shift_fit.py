"""The fit of a comparison's law: least squares, with a variance for what pairs share.

Paired runs (a cell and a seed in both arms) are turned into differences and sums of their log
losses, each with a variance of its own: what the two share, the seed's data order and what the law
misses in a cell, is noise of the sums alone. Estimates are of generalised least squares, variances
of restricted likelihood; intervals are of the delta method, by t with Satterthwaite's degrees of
freedom. Runs of one trunk share noise too: where they do the errors are also taken by trunk.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import scipy

from research.scaling.compare.shift_law import Pairs, ShiftLaw

# Priors (mean, deviation) of what short tables leave open: logit of E over the best loss, the
# logarithms of both exponents, and of how many times larger A's sizes are to be.
FLOOR, EXPONENT, SIZE = (0.0, 2.0), (np.log(0.35), 1.0), (0.0, 1.0)
SMALLEST = 1e-14  # of a variance of log losses


@dataclass(frozen=True)
class Shift:
    """A fitted comparison: parameters by name, their covariance [P, P] by each kind of rows.

    `covariances` and `degrees` are of differences, sums and priors, or of all rows and priors.
    """

    of: Pairs
    theta: np.ndarray
    covariances: list[np.ndarray]
    degrees: list[float]
    noise: float

    @property
    def explained(self) -> float:
        """The share of the variance of log losses that the law explains."""
        left = self.of.loss - self.law.losses()
        return 1 - float(np.mean(left**2) / max(np.var(self.of.loss), 1e-300))

    @property
    def law(self) -> ShiftLaw:
        return ShiftLaw.at(self.of, self.theta)

    def estimate(
        self, function: Callable[[ShiftLaw], float], level: float
    ) -> tuple[float, float, float, float]:
        """`function` of the law with its interval, and p of its being zero (two-sided)."""

        def of_theta(theta: np.ndarray) -> float:
            return function(ShiftLaw.at(self.of, theta))

        value, slopes = of_theta(self.theta), _slopes(of_theta, self.theta)
        parts = [float(slopes @ each @ slopes) for each in self.covariances]
        total = sum(parts)
        if total <= 0:
            return value, value, value, float(value == 0)
        spent = sum(part**2 / n for part, n in zip(parts, self.degrees, strict=True))
        degrees, error = max(total**2 / max(spent, 1e-300), 1.0), np.sqrt(total)
        width = float(scipy.special.stdtrit(degrees, 0.5 + level / 2) * error)
        p = 2 * float(scipy.special.stdtr(degrees, -abs(value) / error))
        return value, value - width, value + width, p


def fit(of: Pairs, held: bool = False) -> Shift:
    """Fit the shift, or with `held` one law to both arms, which are then the same runs."""
    variances = np.full(3, 1e-4)
    theta = min(
        (_solve(of, start, variances, held) for start in _starts(of)), key=lambda found: found.cost
    ).x
    groups = _groups(of)
    free = _free(of, held)
    for _ in range(25):
        solved = _solve(of, theta, variances, held)
        theta, before = solved.x, variances
        bread = np.linalg.pinv(solved.jac[:, free].T @ solved.jac[:, free], hermitian=True)
        rows = solved.jac[: len(of.loss), free]
        leverage = np.einsum("ij,jk,ik->i", rows, bread, rows)
        residuals = _residuals(of, theta)
        variances, degrees = _variances(residuals, leverage, groups)
        if np.allclose(variances, before, rtol=1e-4):
            break
    return _shift(of, theta, solved.jac, free, bread, groups, residuals, variances, degrees)


def _shift(of, theta, slopes, free, bread, groups, residuals, variances, degrees) -> Shift:
    """What was solved, with the covariance that each kind of rows gives."""

    def full(small: np.ndarray) -> np.ndarray:
        found = np.zeros((len(theta), len(theta)))
        found[np.ix_(free, free)] = small
        return found

    rows, priors = slopes[: len(of.loss), free], slopes[len(of.loss) :, free]
    pieces = [rows[group].T @ rows[group] for group in groups]
    if len(pieces) > 1 and variances[0] == variances[1] or len(pieces) == 1:
        pieces, degrees = [sum(pieces)], degrees[:1]
    parts = [full(bread @ piece @ bread) for piece in (*pieces, priors.T @ priors)]
    noise = float(np.sqrt(variances.mean()))
    found = Shift(of, theta, parts, [*degrees, np.inf], noise)
    if len(np.unique(of.cluster)) == len(of.cluster):
        return found
    clustered, count = _clustered(of, rows, bread, residuals / np.sqrt(_spread(of, variances)))
    return _wider(found, full(clustered), count - 1.0)


def _wider(found: Shift, clustered: np.ndarray, degrees: float) -> Shift:
    """The larger of both covariances: by rows, and by what shares noise."""
    plain = np.sum(found.covariances, axis=0)
    places = [found.of.names.index(name) for name in ("shift", "trend")]
    if all(clustered[k, k] <= plain[k, k] for k in places):
        return found
    return replace(found, covariances=[clustered], degrees=[max(degrees, 1.0)])


def _clustered(of: Pairs, rows, bread, residuals) -> tuple[np.ndarray, int]:
    """Covariance by clusters, each left out in turn (Bell 2002, CR3), and their number."""
    cluster = of.cluster[_order(of)]
    labels = np.unique(cluster)
    moves = []
    for label in labels:
        own = rows[cluster == label]
        hat = np.eye(len(own)) - own @ bread @ own.T
        moves.append(bread @ own.T @ np.linalg.lstsq(hat, residuals[cluster == label])[0])
    moves = np.array(moves)
    return (len(labels) - 1) / len(labels) * moves.T @ moves, len(labels)


def _order(of: Pairs) -> np.ndarray:
    """The runs behind each row of `_residuals`: A's of a pair for its difference and its sum."""
    return np.concatenate([of.pairs[:, 0], of.pairs[:, 0], of.alone])


def _groups(of: Pairs) -> list[np.ndarray]:
    """Rows of `_residuals` of one variance each: differences and sums of pairs, or all."""
    count = len(of.pairs)
    if not count:
        return [np.arange(len(of.loss))]
    return [np.arange(count), np.arange(count, 2 * count)]


def _spread(of: Pairs, variances: np.ndarray) -> np.ndarray:
    """The variance of each row of `_residuals`; a run without its pair has the mean of both."""
    count = len(of.pairs)
    return np.repeat(variances, [count, count, len(of.loss) - 2 * count])


def _variances(residuals, leverage, groups) -> tuple[np.ndarray, list[float]]:
    """Variances of differences, of sums and of single runs, and the degrees of freedom of each.

    Sums have the noise of differences and what both runs share, and so at least as much.
    """
    squares = [float(np.sum(residuals[group] ** 2)) for group in groups]
    degrees = [max(len(group) - float(leverage[group].sum()), 0.5) for group in groups]
    each = [max(square / n, SMALLEST) for square, n in zip(squares, degrees, strict=True)]
    if len(groups) == 1 or each[1] <= each[0]:
        both = max(sum(squares) / sum(degrees), SMALLEST)
        return np.full(3, both), [sum(degrees)] * len(groups)
    return np.array([*each, np.mean(each)]), degrees


def _solve(of: Pairs, start, variances, held: bool):
    """Weighted least squares with priors; columns of what is `held` at zero have no slope."""
    scale = np.sqrt(_spread(of, variances))
    free = _free(of, held)
    where, mean, deviation = _priors(of)

    def weighted(theta: np.ndarray) -> np.ndarray:
        theta = np.where(free, theta, 0.0)
        prior = (theta[where] - mean) / deviation
        return np.concatenate([_residuals(of, theta) / scale, prior])

    return scipy.optimize.least_squares(
        weighted, np.where(free, start, 0.0), method="lm", ftol=1e-10, xtol=1e-10, max_nfev=300
    )


def _free(of: Pairs, held: bool) -> np.ndarray:
    shifts = np.array([name.endswith(("shift", "trend")) for name in of.names])
    return ~shifts if held else np.ones(len(shifts), bool)


def _priors(of: Pairs) -> tuple[list[int], np.ndarray, np.ndarray]:
    """Places, means and deviations of the parameters that have a prior."""
    known = {"floor": FLOOR, "beta": EXPONENT, "alpha": EXPONENT, "size_shift": SIZE}
    where = [k for k, name in enumerate(of.names) if name in known]
    mean, deviation = np.array([known[of.names[k]] for k in where]).T
    return where, mean, deviation


def _starts(of: Pairs) -> list[np.ndarray]:
    """Where to begin: low and high floors, and the shift that straight lines in logs have."""
    n = [] if of.size is None else [of.size]
    columns = np.stack([np.ones_like(of.loss), of.resource, ~of.second, *n], axis=1)
    _, slope, apart, *_ = np.linalg.lstsq(columns, of.loss)[0]
    shift = float(np.clip(-apart / min(slope, -0.01), -3.0, 3.0))
    result = []
    for floor in (-1.0, 1.5):
        above = np.log(np.exp(np.median(of.loss)) - of.bound * scipy.special.expit(floor))
        start = {"floor": floor, "scale": above - 0.7, "size_scale": above - 0.7}
        start |= {"beta": EXPONENT[0], "alpha": EXPONENT[0], "shift": shift}
        result.append(np.array([start.get(name, 0.0) for name in of.names]))
    return result


def _residuals(of: Pairs, theta: np.ndarray) -> np.ndarray:
    """Differences and sums of pairs' errors, over sqrt 2 each, then errors of single runs."""
    error = of.loss - ShiftLaw.at(of, theta).losses()
    first, second = error[of.pairs.T] / np.sqrt(2) if len(of.pairs) else np.zeros((2, 0))
    return np.concatenate([first - second, first + second, error[of.alone]])


def _slopes(function: Callable, theta: np.ndarray, step: float = 1e-5) -> np.ndarray:
    """Derivatives [P] of `function` at `theta`."""
    moves = step * np.eye(len(theta))
    return np.array([(function(theta + h) - function(theta - h)) / (2 * step) for h in moves])
