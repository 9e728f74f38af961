"""The fit made again otherwise: from other starts, by other objectives, without some runs."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from research.scaling import engine
from research.scaling.doubt import intervals
from research.scaling.engine import Minimum
from research.scaling.engine.design import Design
from research.scaling.engine.objective import HUBER, Objective
from research.scaling.engine.solve import MANY_ROWS

DELTAS = (1e-4, 1e-3, 1e-2, 1e-1)
# So many groups are refitted without: of more, those that the linearised fit says move it most.
MOST_GROUPS = 300
SHOWN = 5


def distinct(design: Design, ends: Minimum) -> tuple[float, list[dict[str, Any]]]:
    """Share of starts at the best objective, and each distinct optimum within 1% of it."""
    # On noise-free data every objective is rounding: those count as equal.
    floor = ends.objective.min() + 1e-20 * design.num_rows
    share = float(np.mean(ends.objective <= floor * (1 + 1e-6)))
    optima: list[dict[str, Any]] = []
    seen: list[np.ndarray] = []
    for k in np.argsort(ends.objective, kind="stable"):
        theta, value = ends.theta[k], float(ends.objective[k])
        if value > floor * 1.01:
            break
        near = [i for i, other in enumerate(seen) if np.abs(theta - other).max() < 0.01]
        if near:
            optima[near[0]]["starts"] += 1
            continue
        seen.append(theta)
        optima.append({"parameters": _named(design, theta), "objective": value, "starts": 1})
    return share, optima


def _named(design: Design, theta: np.ndarray) -> dict[str, float]:
    return dict(zip(design.law.names, design.to_parameters(theta).tolist(), strict=True))


def sensitivity(design, best, loss, limits) -> list[dict[str, float]]:
    """The fit at Huber deltas from nearly absolute to nearly squared loss."""
    if len(loss) > MANY_ROWS:
        return []  # the errors of a long table are too small for deltas to agree
    target, ones, rows = np.log(loss), np.ones(len(loss)), []
    for delta in DELTAS:
        objective = replace(HUBER, delta=delta)
        end = engine.minimise(design, best[None], target, ones, limits, objective)
        rows.append({"delta": delta, **_named(design, end.theta[0])})
    return rows


def without_outliers(design, best, loss, limits, residuals, objective):
    """(rows left out, theta without them): residuals beyond 5 robust standard deviations."""
    size = 1.4826 * np.median(np.abs(residuals))
    outliers = np.abs(residuals) > 5 * max(size, 1e-12)
    if not outliers.any():
        return np.array([], int), best
    weights = np.where(outliers, 0.0, 1.0)
    end = engine.minimise(design, best[None], objective.target(loss), weights, limits, objective)
    return np.flatnonzero(outliers), end.theta[0]


@dataclass(frozen=True)
class Influence:
    """The fit without one group: how far each parameter moves, in standard errors."""

    group: str
    rows: tuple[int, ...]
    moves: dict[str, float]

    @property
    def largest(self) -> float:
        """The largest move of any parameter, in standard errors."""
        return max(abs(move) for move in self.moves.values())

    def to_json(self) -> dict[str, Any]:
        """For laws.json; rows count from 1."""
        return {"group": self.group, "rows": [r + 1 for r in self.rows[:50]], "moves": self.moves}


def influence(
    design: Design,
    best: np.ndarray,
    target: np.ndarray,
    groups: np.ndarray,
    limits: tuple[np.ndarray, np.ndarray],
    objective: Objective,
    errors: np.ndarray,
) -> list[Influence]:
    """The few groups whose loss moves `best` [P] furthest, in units of `errors` [P]; first most.

    Groups are left out in turn and the rest refitted from `best`, all in one batch.
    """
    labels, index = np.unique(groups, return_inverse=True)
    errors = np.maximum(errors, 1e-9)
    moves = intervals.linear_moves(design, best, target, index, objective) / errors
    chosen = np.argsort(-np.abs(moves).max(1), kind="stable")[:MOST_GROUPS]
    moves = moves[chosen]
    if len(target) <= MANY_ROWS:
        weights = (index[None] != chosen[:, None]).astype(float)
        first = np.tile(best, (len(chosen), 1))
        ends = engine.minimise(design, first, target, weights, limits, objective, max_steps=60)
        moves = (ends.theta - best) / errors
    order = np.argsort(-np.abs(moves).max(1), kind="stable")[:SHOWN]
    names = design.law.names
    return [
        Influence(
            group=str(labels[chosen[k]]),
            rows=tuple(int(i) for i in np.flatnonzero(index == chosen[k])),
            moves=dict(zip(names, map(float, moves[k]), strict=True)),
        )
        for k in order
    ]
