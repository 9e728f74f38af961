"""How forecasts of several laws become one, and how its backtests become an interval.

A backtest leaves out a curve's last points and predicts them. Every curve has few, so what they
say of the laws is shrunk towards its group of curves, and that towards all curves of the table.
Two rules share the weight, for they fail in different places: laws weighted by a power of their own
error, and stacking (Wolpert 1992; Breiman 1996), which also sees errors that cancel. A part is left
equal: estimated weights are noisy, and the plain mean is hard to beat (Smith and Wallis 2009).

Intervals are split-conformal in kind (Lei 2018): the errors of backtests, each over a scale that is
known before (noise of the curve, disagreement of the laws, distance of the forecast from the last
value, horizon), have a quantile; that times the scale of a forecast is its half width in log loss.
Curves differ in the size of such ratios, which is shrunk like everything else; what is left has one
shape. A backtest's own forecast is combined with weights that saw the curve's other backtests, not
it (the mean of the group did: one backtest among many).
"""

from dataclasses import dataclass

import numpy as np
import scipy

CURVE_PRIOR = 8.0  # backtests that the group's mean counts for, in errors; in stacking:
STACK_PRIOR = 20.0
GROUP_PRIOR = 3.0  # curves that the table's mean counts for
SHARPNESS = 4.0  # weight ~ (mean squared error)^-SHARPNESS
RIDGE = 1.0  # of stacking, in squared errors of the best law
EQUAL_SHARE = 0.15
SIZE_PRIOR = 16.0  # backtests that the group's size of errors counts for
# What other tables had, before any backtest: ratios of error to scale whose root mean square is
# PRIOR_SIZE, worth PRIOR_TABLES curves, in a shape of heavy tails (Student's t over PRIOR_SPREAD),
# worth PRIOR_CURVES. TABLE_SHIFT is the deviation of the log of how much larger, or smaller, the
# errors of a table turned out than those of its backtests. With these, intervals of 90% hold .92
# of the points in the mean over 48 splits of 16 public tables (vision, language models, tabular
# learners), and .72 to 1 of a split.
PRIOR_SIZE, PRIOR_TABLES = 1.35, 3.0
PRIOR_CURVES, PRIOR_DEGREES, PRIOR_SPREAD, PRIOR_DRAWS = 10.0, 3, 1.2, 99
TABLE_SHIFT = 0.5
LEAST_RATIO = 0.1  # a curve that was foretold better was so by chance
MOST_ERROR = 3.0  # of log loss: a larger one counts as this
# Parts of the scale of errors: noise, distance from the last value, a bend at the end; growth over
# the curve's range.
NOISE_PART, DISTANCE_PART, HORIZON_PART, BEND_PART = 0.5, 0.2, 0.5, 0.5
STACKING_STEPS = 2000


@dataclass(frozen=True)
class Pool:
    """The problems [P]: `curve` of each; `horizon` log x beyond the last point; `backtest` mask.

    `groups` [curves] numbers the group of each curve.
    """

    curve: np.ndarray
    horizon: np.ndarray
    backtest: np.ndarray
    groups: np.ndarray

    def shrunk(self, values: np.ndarray, strength: float) -> np.ndarray:
        """Mean of `values` [P, ...] over the curve's backtests, but for the problem's own.

        Shrunk towards the group's, that towards the table's; near horizons count more, as 1/h:
        they are fitted on points most like those of the forecast.
        """
        use = np.where(self.backtest, 1 / np.maximum(self.horizon, 1e-3), 0.0)
        num, num_groups = len(self.groups), self.groups.max() + 1
        flat = values.reshape(len(values), -1)
        total = _sum_by(self.curve, use[:, None] * flat, num)
        weight = np.bincount(self.curve, use, num)
        tests = np.bincount(self.curve, self.backtest, num)
        mean = total / np.where(weight > 0, weight, 1.0)[:, None]
        has = tests > 0
        table = mean[has].mean(0) if has.any() else np.zeros(flat.shape[1])
        members = np.bincount(self.groups[has], minlength=num_groups)[:, None]
        group = _sum_by(self.groups[has], mean[has], num_groups) + GROUP_PRIOR * table
        prior = (group / (members + GROUP_PRIOR))[self.groups[self.curve]]
        left = weight[self.curve] - use
        others = (tests[self.curve] - self.backtest)[:, None]
        rest = np.where(others > 0, total[self.curve] - use[:, None] * flat, 0.0)
        rest = rest / np.where(others[:, 0] > 0, left, 1.0)[:, None]
        result = (others * rest + strength * prior) / (others + strength)
        return result.reshape(values.shape)


def _sum_by(index: np.ndarray, values: np.ndarray, num: int) -> np.ndarray:
    result = np.zeros((num, values.shape[1]))
    np.add.at(result, index, values)
    return result


def weights(errors: np.ndarray, noise: np.ndarray, pool: Pool) -> np.ndarray:
    """Weights [P, laws], each row adding to 1, from errors of log loss [P, laws, rows].

    `errors` are nan where there is nothing to compare; `noise` [P] is that of the curve. Without
    any backtest in the table the weights are equal.
    """
    num_laws = errors.shape[1]
    known = ~np.isnan(errors[:, :1])
    rows = np.maximum(known.sum(2), 1)
    clipped = np.where(known, np.clip(errors, -MOST_ERROR, MOST_ERROR), 0.0)
    products = clipped @ clipped.transpose(0, 2, 1) / rows[:, :, None]
    square = np.einsum("pcc->pc", products)
    logs = np.log(square + (0.3 * noise[:, None]) ** 2 + 1e-8)
    logs = pool.shrunk(logs - logs.mean(1, keepdims=True), CURVE_PRIOR)
    powers = np.exp(-SHARPNESS * (logs - logs.min(1, keepdims=True)))
    powers /= powers.sum(1, keepdims=True)
    best = square.min(1) + (0.5 * noise) ** 2 + 1e-8
    stacked = stack(pool.shrunk(products / best[:, None, None], STACK_PRIOR))
    return (1 - EQUAL_SHARE) * 0.5 * (powers + stacked) + EQUAL_SHARE / num_laws


def stack(products: np.ndarray) -> np.ndarray:
    """Weights [P, laws] >= 0 adding to 1 that minimise w' (products + ridge) w.

    By exponentiated gradient (Kivinen and Warmuth 1997), which stays inside the simplex. Divided by
    its largest entry the matrix allows steps of 1 and not many more: at 4 they fall into cycles.
    """
    matrix = products + RIDGE * np.eye(products.shape[1])
    matrix = matrix / np.abs(matrix).max((1, 2), keepdims=True)
    result = np.full(products.shape[:2], 1 / products.shape[1])
    for _ in range(STACKING_STEPS):
        gradient = (matrix @ result[..., None])[..., 0]
        gradient -= (result * gradient).sum(1, keepdims=True)
        result = result * np.exp(-gradient)
        result /= result.sum(1, keepdims=True)
    return result


def error_scale(
    forecasts: np.ndarray,
    weight: np.ndarray,
    combined: np.ndarray,
    noise: np.ndarray,
    last: np.ndarray,
    progress: np.ndarray,
    onward: np.ndarray,
) -> np.ndarray:
    """Scale [P, rows] of errors, known before: see the top of the file.

    `forecasts` [P, laws, rows], their `combined` [P, rows]; `noise`, `last` value [P]; `progress`
    [P, rows] is log x beyond the last point over the range of log x fitted; `onward` [P, rows] is
    how far a bend at the curve's end, straight on, leads away from the forecast.
    """
    spread = (weight[..., None] * (forecasts - combined[:, None]) ** 2).sum(1)
    square = (NOISE_PART * noise[:, None]) ** 2 + spread + 1e-8
    square += (DISTANCE_PART * (combined - last[:, None])) ** 2
    square += (BEND_PART * onward) ** 2
    return np.sqrt(square) * (1 + HORIZON_PART * np.maximum(progress, 0))


def widths(ratios: np.ndarray, pool: Pool, level: float) -> np.ndarray:
    """Half width [curves], in scales, that holds a curve's next errors at `level`.

    `ratios` [P, rows] are |error| / scale, nan off the backtests. Sizes of curves (root mean square
    ratios) are shrunk as errors are, and the table's to what other tables had. Ratios over the size
    that the curve's other backtests foretold have one shape in a table; curves count the same in
    it, and so do backtests of a curve. Since a few curves know nothing of their tails, the shape of
    other tables is mixed in, and the shift from backtests to forecasts.
    """
    known = ~np.isnan(ratios)
    rows = np.maximum(known.sum(1), 1)
    tests = np.bincount(pool.curve, pool.backtest, len(pool.groups))
    have = (tests > 0).sum()
    square = np.where(known, ratios, 0.0) ** 2
    size = pool.shrunk(0.5 * np.log(square.sum(1) / rows + LEAST_RATIO**2), SIZE_PRIOR)
    size = (have * size + PRIOR_TABLES * np.log(PRIOR_SIZE)) / (have + PRIOR_TABLES)
    share = np.where(known, 1 / (rows * np.maximum(tests[pool.curve], 1))[:, None], 0.0)

    middles = (np.arange(PRIOR_DRAWS) + 0.5) / PRIOR_DRAWS
    prior = scipy.stats.t.ppf((1 + middles) / 2, PRIOR_DEGREES) / PRIOR_SPREAD
    shape = np.concatenate([(ratios / np.exp(size)[:, None])[known], prior])
    share = np.concatenate([share[known], np.full(PRIOR_DRAWS, PRIOR_CURVES / PRIOR_DRAWS)])
    shifts = np.exp(TABLE_SHIFT * np.sqrt(1.5) * np.array([-1.0, 0.0, 1.0]))
    factor = _quantile(np.outer(shifts, shape).ravel(), np.tile(share, len(shifts)), level)
    # The first problem of a curve is its forecast.
    return np.exp(size[np.unique(pool.curve, return_index=True)[1]]) * factor


def _quantile(values: np.ndarray, share: np.ndarray, level: float) -> float:
    order = np.argsort(values)
    reached = np.cumsum(share[order])
    return float(np.interp(level * reached[-1], reached - 0.5 * share[order], values[order]))
