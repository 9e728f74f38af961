"""Which rows to run next: those that most reduce the variance of the target's predictions.

Bayesian V-optimal design (Chaloner and Verdinelli 1995) under a budget. The belief is normal, so
what a row will teach does not depend on its loss: a whole plan can be drawn up and its outcome
known. Plans that buy gain per cost and plans that buy gain are drawn up, and the best is followed.
What the belief takes as given (the noise, the laws' shapes) is learned from the same rows, so that
a plan of few rows is charged for it as Akaike's final prediction error (1970) charges a fit.
"""

from collections.abc import Sequence

import numpy as np

from research.scaling.next.posterior import Posterior

# A plan takes the row with the largest gain / cost^power: 1 buys many cheap rows, 0 the best ones.
POWERS = (1.0, 0.5, 0.0)
LONGEST_PLAN = 200
FITTED = 6  # parameters of a typical law


def plan(
    belief: Posterior,
    rows: Sequence[int] | np.ndarray,
    target: Sequence[int] | np.ndarray,
    cost: np.ndarray,
    budget: float,
    power: float = 1.0,
) -> tuple[list[int], float]:
    """Rows to run, in greedy order, and the summed variance of the target once they are known.

    `rows` are candidates with `cost` [len(rows)]; `target` the rows to predict.
    """
    index = np.asarray(rows, int)
    keep = np.concatenate([index, np.asarray(target, int)])
    covariance = belief.covariance[np.ix_(keep, keep)].copy()
    count = len(index)
    free = np.ones(count, bool)
    order, left = [], budget
    while len(order) < LONGEST_PLAN:
        possible = free & (cost <= left)
        if not possible.any():
            break
        variance = np.maximum(np.diag(covariance)[:count], 0) + belief.noise
        gain = (covariance[:count, count:] ** 2).sum(1) / variance / cost**power
        best = int(np.where(possible, gain, -1.0).argmax())
        column = covariance[:, best].copy()
        covariance -= (column / variance[best])[:, None] * column
        free[best] = False
        order.append(int(index[best]))
        left -= cost[best]
    return order, float(np.maximum(np.diag(covariance)[count:], 0).sum())


def best_plan(
    belief: Posterior,
    rows: Sequence[int] | np.ndarray,
    target: Sequence[int] | np.ndarray,
    cost: np.ndarray,
    budget: float,
    known: int = 0,
) -> list[int]:
    """The plan that leaves the target's predictions least uncertain; `known` rows have a loss."""
    plans = [plan(belief, rows, target, cost, budget, power) for power in POWERS]
    return min(plans, key=lambda found: found[1] * final_prediction_error(known + len(found[0])))[0]


def final_prediction_error(num_rows: int) -> float:
    """(n + p) / (n - p): by how much n rows err more than their residuals, p of them fitted."""
    return (num_rows + FITTED) / max(num_rows - FITTED, 0.5)
