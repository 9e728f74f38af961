"""The last step of least absolute deviations: from near a vertex to the vertex itself."""

import numpy as np
import scipy

from research.scaling.engine.design import Design
from research.scaling.engine.objective import Objective


def polish(
    design: Design,
    theta: np.ndarray,
    target: np.ndarray,
    weights: np.ndarray,
    limits: tuple[np.ndarray, np.ndarray],
    objective: Objective,
    max_steps: int = 30,
) -> np.ndarray:
    """theta [P] of a local minimum of `sum_i w_i |r_i|`, which passes through P rows exactly.

    Each step solves the linearised problem as a linear programme within a trust region (Osborne
    and Watson 1971); near a vertex it converges quadratically. A step that gains nothing ends it.
    """
    radius = 0.1
    best = _cost(design, theta, target, weights, objective)
    for _ in range(max_steps):
        slopes = design.jacobian(theta[None], objective.log)[0]
        residual = design.predict(theta[None], objective.log)[0] - target
        num, size = slopes.shape
        step = scipy.optimize.linprog(
            np.concatenate([np.zeros(size), weights]),
            A_ub=np.block([[slopes, -np.eye(num)], [-slopes, -np.eye(num)]]),
            b_ub=np.concatenate([-residual, residual]),
            bounds=[
                (max(low - t, -radius), min(high - t, radius))
                for low, high, t in zip(*limits, theta, strict=True)
            ]
            + [(0, None)] * num,
        )
        if step.x is None:
            break
        trial = theta + step.x[:size]
        cost = _cost(design, trial, target, weights, objective)
        if cost < best:
            gain, theta, best = best - cost, trial, cost
            if gain < 1e-15 * best:
                break
        else:
            radius /= 4
            if radius < 1e-12:
                break
    return theta


def _cost(design, theta, target, weights, objective) -> float:
    residual = design.predict(theta[None], objective.log)[0] - target
    return float(weights @ np.abs(residual))
