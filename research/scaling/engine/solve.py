"""The optimum of a law on a table, and draws about it: what every other answer is made of."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from research.scaling import engine
from research.scaling.doubt import intervals
from research.scaling.engine import vertex
from research.scaling.engine.design import Design, make_design
from research.scaling.engine.newton import Minimum
from research.scaling.engine.objective import HUBER, Objective
from research.scaling.laws import Law

BOOTSTRAP = "Bayesian bootstrap by {}, expanded percentiles"
SANDWICH = "normal about the fit with the sandwich covariance by {} (too many rows to resample)"
# Bootstrap weights (draws * rows) held at once: 400 MB.
MAX_WEIGHTS = 50_000_000
# Starts descend on this many rows of a longer table.
FEW_ROWS = 2_000
# Past this many rows nothing is refitted again and again: profiles and influence are linearised.
MANY_ROWS = 20_000
STARTS = (64, 256)  # for one exponent, for more
# Of a law that costs a compiled program a step, starts first go so far, and the best eighth on.
FIRST_STEPS = 40


@dataclass(frozen=True)
class Solution:
    """theta [P] of the `best` fit, the `start` it came from, where every start
    ended, and `draws` [S, P] about it.

    `method` says how the draws were made.
    """

    design: Design
    best: np.ndarray
    start: np.ndarray
    ends: Minimum
    draws: np.ndarray
    method: str


def solve(
    law: Law,
    variables: Mapping[str, np.ndarray],
    loss: np.ndarray,
    groups: np.ndarray,
    *,
    objective: Objective = HUBER,
    bootstrap: int = 4000,
    seed: int = 0,
    most_starts: int = 256,
) -> Solution:
    """Minimise from every start, polish the best, and draw `bootstrap` times about it.

    `variables` are the columns [rows] the law reads, `groups` [rows] what is resampled.
    """
    design = make_design(law, variables)
    ones, target, limits = np.ones(len(loss)), objective.target(loss), design.bounds(loss)
    num = min(most_starts, STARTS[len(design.exponents) > 1])
    first, ends = _from_every_start(design, loss, limits, objective, num)
    order = np.argsort(ends.objective, kind="stable")
    best = engine.minimise(design, ends.theta[order[:1]], target, ones, limits, objective).theta[0]
    if objective.lad:
        best = vertex.polish(design, best, target, ones, limits, objective)
    unit = "run" if len(np.unique(groups)) == len(groups) else "group"
    if bootstrap == 0:
        draws, method = best[None], "none"
    elif bootstrap * len(loss) <= MAX_WEIGHTS:
        weights = intervals.bootstrap_weights(groups, bootstrap, seed)
        pool = np.concatenate([best[None], ends.theta[order]])
        draws = engine.minimise_draws(design, pool, target, weights, limits, objective).theta
        method = BOOTSTRAP.format(unit)
    else:
        draws = intervals.sandwich_draws(
            design, best, target, groups, limits, objective, bootstrap, seed
        )
        method = SANDWICH.format(unit)
    return Solution(design, best, first[order[0]], ends, draws, method)


def _from_every_start(design, loss, limits, objective, num) -> tuple[np.ndarray, Minimum]:
    """(starts [S, P], where each ended); of a long table only the best two descend on all rows."""
    target = objective.target(loss)
    ones = np.ones(len(loss))
    if len(loss) <= FEW_ROWS:
        first = design.starts(loss, num)
        if design.law.terms:
            return first, engine.minimise(design, first, target, ones, limits, objective)
        near = engine.minimise(
            design, first, target, ones, limits, objective, max_steps=FIRST_STEPS
        )
        best = np.argsort(near.objective, kind="stable")[: max(8, len(first) // 8)]
        ends = engine.minimise(design, near.theta[best], target, ones, limits, objective)
        return first, near.replaced(best, ends)
    thin = np.sort(np.random.default_rng(0).choice(len(loss), FEW_ROWS, replace=False))
    columns = {name: column[thin] for name, column in design.variables.items()}
    few = make_design(design.law, columns)
    first, ends = _from_every_start(few, loss[thin], few.bounds(loss[thin]), objective, num)
    best = np.argsort(ends.objective, kind="stable")[:2]
    first, theta = (design.to_theta(few.to_parameters(t[best])) for t in (first, ends.theta))
    return first, engine.minimise(design, theta, target, ones, limits, objective)
