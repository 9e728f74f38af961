"""Profile of the objective: how far one parameter can go when the others do their best to follow.

Where the profile stays below its threshold up to a bound, the table does not identify the
parameter: that is an answer, and the interval then reaches as far as was looked.
"""

from dataclasses import dataclass

import numpy as np
import scipy

from research.scaling import engine
from research.scaling.doubt import intervals
from research.scaling.engine.design import Design
from research.scaling.engine.objective import Objective
from research.scaling.engine.solve import MANY_ROWS

STEPS = np.array([0.5, 1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 11, 16, 24, 40])


@dataclass(frozen=True)
class Profile:
    """One parameter's profile: `values` [K] as published, `ratio` [K] the likelihood ratio there.

    `low` and `high` are where the ratio crosses its threshold; `identified` is false when it does
    not on one side, which is then named in `open_side` ("below", "above" or "both sides").
    """

    name: str
    values: np.ndarray
    ratio: np.ndarray
    threshold: float
    low: float
    high: float
    identified: bool
    open_side: str | None


def profile(
    design: Design,
    loss: np.ndarray,
    best: np.ndarray,
    draws: np.ndarray,
    *,
    objective: Objective,
    scale: float,
    level: float,
) -> dict[str, Profile]:
    """Profile each parameter around `best` [P] (as published), looking up to 40 errors away.

    `draws` [S, P] (bootstrap draws) give the standard errors and second starts; `scale` is
    `intervals.huber_scale`. On a table too long to refit they are the parabolas of those errors.
    """
    degrees = max(design.num_rows - len(best), 1)
    threshold = float(scipy.special.stdtrit(degrees, 0.5 + level / 2) ** 2)
    result = {}
    for j, name in enumerate(design.law.names):
        # For a parameter itself to be a coordinate, its own variables must not be centred.
        shifted = design.uncentred(name)
        theta, near = shifted.to_theta(best), shifted.to_theta(draws)
        step = max(float(intervals.spread(near[:, j])), 1e-9)
        values = _places(shifted, loss, theta[j], step, j)
        if design.num_rows > MANY_ROWS:
            ratio = ((values - theta[j]) / step) ** 2
        else:
            ratio = 2 * _excess(shifted, loss, theta, near, values, j, objective) / scale
        result[name] = _summarise(name, shifted, theta, j, values, ratio, threshold)
    return result


def _places(design: Design, loss: np.ndarray, best: float, step: float, j: int) -> np.ndarray:
    """Values [K] of coordinate `j` to look at: the first half of them below `best`."""
    low, high = (limit[j] for limit in design.bounds(loss))
    parameter, count = design.law.parameters[j], np.arange(1, len(STEPS) + 1)
    if not parameter.logarithmic or min(best - low, high - best) >= 1e-6:
        return np.clip(best + step * np.concatenate([-STEPS[::-1], STEPS]), low, high)
    # One that went to a limit of the law has no error to step by: look away from it, by factors of
    # e; for a floor, up to the smallest loss.
    if high - best < 1e-6:
        away = np.clip(high - count[::-1], low, high)
        return np.concatenate([away, np.full(len(STEPS), high)])
    away = np.clip(low + count, low, high)
    if parameter.kind == "floor":
        away = np.log(np.linspace(np.exp(low), np.min(loss), len(STEPS) + 1)[1:])
    return np.concatenate([np.full(len(STEPS), low), away])


def _excess(design, loss, theta, near, values, j, objective) -> np.ndarray:
    """Objective [K] over its best where coordinate `j` is held at `values` [K].

    The others start at `theta` [P], and where the nearest of the draws `near` [S, P] has them.
    """
    target, weights = objective.target(loss), np.ones(len(loss))
    nearest = near[np.abs(near[:, j, None] - values).argmin(0)]
    first = np.stack([np.tile(theta, (len(values), 1)), nearest], 1).reshape(-1, len(theta))
    first[:, j] = np.repeat(values, 2)
    found = engine.minimise_from_afar(
        design, first, target, weights, design.bounds(loss), objective, frozen=[j]
    ).best_of(2)
    floor = engine.objectives(design, theta[None], target, weights[None], objective)[0]
    return np.maximum(found.objective - floor, 0)


def _summarise(name, design, theta, j, values, ratio, threshold) -> Profile:
    half = len(values) // 2
    below = _crossing(theta[j], values[:half][::-1], ratio[:half][::-1], threshold)
    above = _crossing(theta[j], values[half:], ratio[half:], threshold)
    show = np.exp if design.law.parameters[j].logarithmic else np.asarray
    open_side = None
    if below is None or above is None:
        open_side = "above" if below is not None else "below" if above is not None else "both sides"
    return Profile(
        name=name,
        values=show(values),
        ratio=ratio,
        threshold=threshold,
        low=float(show(values[0] if below is None else below)),
        high=float(show(values[-1] if above is None else above)),
        identified=open_side is None,
        open_side=open_side,
    )


def _crossing(centre, values, ratio, threshold):
    """First crossing going outwards, linear in the root of the ratio; None if there is none."""
    over = np.flatnonzero(ratio >= threshold)
    if not len(over):
        return None
    k = over[0]
    inner, root = (centre, 0.0) if k == 0 else (values[k - 1], np.sqrt(ratio[k - 1]))
    share = (np.sqrt(threshold) - root) / max(np.sqrt(ratio[k]) - root, 1e-300)
    return inner + (values[k] - inner) * min(max(share, 0.0), 1.0)
