"""The fit made again otherwise: from other starts, by other objectives, without its outliers."""

from dataclasses import replace
from typing import Any

import numpy as np

from research.scaling import engine
from research.scaling.engine import Minimum
from research.scaling.engine.design import Design
from research.scaling.engine.objective import HUBER
from research.scaling.engine.solve import MANY_ROWS

DELTAS = (1e-4, 1e-3, 1e-2, 1e-1)


def distinct(design: Design, ends: Minimum) -> tuple[float, list[dict[str, Any]]]:
    """Share of starts at the best objective, and each distinct optimum within 1% of it."""
    # On noise-free data every objective is rounding: those count as equal.
    floor = ends.objective.min() + 1e-20 * design.num_rows
    share = float(np.mean(ends.objective <= floor * (1 + 1e-6)))
    optima: list[dict[str, Any]] = []
    seen: list[np.ndarray] = []
    for k in np.argsort(ends.objective, kind="stable"):
        if ends.objective[k] > floor * 1.01:
            break
        theta = ends.theta[k]
        near = [i for i, other in enumerate(seen) if np.abs(theta - other).max() < 0.01]
        if near:
            optima[near[0]]["starts"] += 1
            continue
        seen.append(theta)
        values = design.to_parameters(theta)
        parameters = dict(zip(design.law.names, map(float, values), strict=True))
        optima.append(
            {"parameters": parameters, "objective": float(ends.objective[k]), "starts": 1}
        )
    return share, optima


def sensitivity(design, best, loss, limits) -> list[dict[str, float]]:
    """The fit at Huber deltas from nearly absolute to nearly squared loss."""
    rows = []
    if len(loss) > MANY_ROWS:
        return rows  # the errors of a long table are too small for deltas to agree
    for delta in DELTAS:
        objective = replace(HUBER, delta=delta)
        end = engine.minimise(
            design, best[None], np.log(loss), np.ones(len(loss)), limits, objective
        )
        values = design.to_parameters(end.theta[0])
        rows.append(
            {"delta": delta, **dict(zip(design.law.names, map(float, values), strict=True))}
        )
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
