"""Leave one out: which single run (or group of runs) moves the fit most, and by how much."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from research.scaling import engine
from research.scaling.engine.design import Design
from research.scaling.engine.objective import Objective
from research.scaling.engine.solve import MANY_ROWS

# So many groups are refitted without: of more, those that the linearised fit says move it most.
MOST_GROUPS = 300
SHOWN = 5


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
    moves = _linear(design, best, target, index, objective) / errors
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


def _linear(design, best, target, index, objective) -> np.ndarray:
    """Move [groups, P] of theta in the linearised fit without each group."""
    residual = design.predict(best[None], objective.log)[0] - target
    slope, curvature = objective.derivatives(residual, False)
    slopes = design.jacobian(best[None], objective.log)[0]
    sums = np.stack([np.bincount(index, slope * column) for column in slopes.T], 1)
    return sums @ np.linalg.pinv(curvature.mean() * slopes.T @ slopes, rcond=1e-12)
