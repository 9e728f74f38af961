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
    `intervals.huber_scale`.
    """
    degrees = max(design.num_rows - len(best), 1)
    threshold = float(scipy.stats.t.ppf(0.5 + level / 2, degrees) ** 2)
    target, weights = objective.target(loss), np.ones(design.num_rows)
    result = {}
    for j, name in enumerate(design.law.names):
        # For a parameter itself to be a coordinate, its own variables must not be centred.
        shifted = design.uncentred(name)
        limits = shifted.bounds(loss)
        theta, near = shifted.to_theta(best), shifted.to_theta(draws)
        step = max(float(intervals.spread(near[:, j])), 1e-9)
        low, high = limits[0][j], limits[1][j]
        values = np.clip(theta[j] + step * np.concatenate([-STEPS[::-1], STEPS]), low, high)
        parameter, count = design.law.parameters[j], np.arange(1, len(STEPS) + 1)
        if parameter.logarithmic and min(theta[j] - low, high - theta[j]) < 1e-6:
            # One that went to a limit of the law has no error to step by: look away from it, by
            # factors of e; for a floor, up to the smallest loss.
            away = np.clip(low + count, low, high)
            if parameter.kind == "floor":
                away = np.log(np.linspace(np.exp(low), np.min(loss), len(STEPS) + 1)[1:])
            values = np.concatenate([np.full(len(STEPS), low), away])
            if high - theta[j] < 1e-6:
                down = np.clip(high - count[::-1], low, high)
                values = np.concatenate([down, np.full(len(STEPS), high)])
        nearest = near[np.abs(near[:, j, None] - values).argmin(0)]
        first = np.stack([np.tile(theta, (len(values), 1)), nearest], 1).reshape(-1, len(theta))
        first[:, j] = np.repeat(values, 2)
        found = engine.minimise_from_afar(
            shifted, first, target, weights, limits, objective, frozen=[j]
        ).best_of(2)
        floor = engine.objectives(shifted, theta[None], target, weights[None], objective)[0]
        ratio = 2 * np.maximum(found.objective - floor, 0) / scale
        result[name] = _summarise(name, shifted, theta, j, values, ratio, threshold)
    return result


def quadratic(
    design: Design, loss: np.ndarray, best: np.ndarray, draws: np.ndarray, *, level: float
) -> dict[str, Profile]:
    """The profiles of a table too long to refit: parabolas whose width is the draws' spread."""
    threshold = float(scipy.stats.norm.ppf(0.5 + level / 2) ** 2)
    steps = np.concatenate([-STEPS[::-1], STEPS])
    result = {}
    for j, name in enumerate(design.law.names):
        shifted = design.uncentred(name)
        theta, near = shifted.to_theta(best), shifted.to_theta(draws)
        step = max(float(intervals.spread(near[:, j])), 1e-12)
        low, high = shifted.bounds(loss)
        values = np.clip(theta[j] + step * steps, low[j], high[j])
        ratio = ((values - theta[j]) / step) ** 2
        result[name] = _summarise(name, shifted, theta, j, values, ratio, threshold)
    return result


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
