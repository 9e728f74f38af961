"""Profile of the objective: how far one parameter can go when the others do their best to follow.

Where the profile stays below its threshold up to a bound, the table does not identify the
parameter: that is an answer, and the interval then reaches as far as was looked.
"""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from research.scaling import engine
from research.scaling.engine import Design

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
    variables: dict[str, np.ndarray],
    loss: np.ndarray,
    best: np.ndarray,
    draws: np.ndarray,
    errors: np.ndarray,
    *,
    delta: float,
    scale: float,
    level: float,
) -> dict[str, Profile]:
    """Profile each parameter around `best` [P] (as published), looking up to 40 errors away.

    `draws` [S, P] (bootstrap draws) serve as second starts; `errors` [P] are standard errors of
    theta (of log A, not A); `scale` is `intervals.huber_scale`.
    """
    degrees = max(design.num_rows - design.num_parameters, 1)
    threshold = float(stats.t.ppf(0.5 + level / 2, degrees) ** 2)
    log_loss, weights = np.log(loss), np.ones(design.num_rows)
    low, high = engine.bounds(design, loss)
    result = {}
    for j, name in enumerate(design.law.names):
        # For the coefficient itself to be a coordinate, its own variables must not be centred.
        plain = {v for t in design.law.terms if t.coefficient == name for _, v in t.powers}
        centres = {v: 0.0 if v in plain else c for v, c in design.centres.items()}
        shifted = engine.make_design(design.law, variables, centres)
        theta = engine.to_theta(shifted, best)
        step = max(float(errors[j]), 1e-9)
        values = theta[j] + step * np.concatenate([-STEPS[::-1], STEPS])
        # An uncentred coefficient has no bounds but those of a float.
        ends = (-690.0, 690.0) if plain else (low[j], high[j])
        values = np.clip(values, *ends)
        if not plain and theta[j] <= low[j] + 1e-6:
            # A floor that fell to zero has no error to step by: look up to the smallest loss.
            upwards = np.log(np.linspace(np.exp(low[j]), np.min(loss), len(STEPS) + 1)[1:])
            values = np.concatenate([np.full(len(STEPS), low[j]), upwards])
        near = engine.to_theta(shifted, draws)
        nearest = near[np.abs(near[:, j, None] - values).argmin(0)]
        first = np.stack([np.tile(theta, (len(values), 1)), nearest], 1).reshape(-1, len(theta))
        first[:, j] = np.repeat(values, 2)
        limits = _limits(shifted, low, high, plain)
        found = engine.minimise_from_afar(
            shifted, first, log_loss, weights, limits, delta, frozen=[j]
        )
        found = found.best_of(2)
        floor = engine.evaluate(shifted, theta[None], log_loss, weights, delta)[0]
        ratio = 2 * np.maximum(found.objective - floor, 0) / scale
        result[name] = _summarise(name, shifted, theta, j, values, ratio, threshold)
    return result


def _limits(design, low, high, plain):
    # An uncentred coefficient has no natural box: the exponents' box holds the fit.
    low, high = low.copy(), high.copy()
    for columns, _ in design.terms:
        if plain and len(columns) > 1:
            low[columns[0]], high[columns[0]] = -300.0, 300.0
    return low, high


def _summarise(name, design, theta, j, values, ratio, threshold) -> Profile:
    half = len(values) // 2
    below = _crossing(theta[j], values[:half][::-1], ratio[:half][::-1], threshold)
    above = _crossing(theta[j], values[half:], ratio[half:], threshold)
    is_log = name in {term.coefficient for term in design.law.terms}
    show = np.exp if is_log else np.asarray
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
