"""The one damped descent: many problems at once, each with its damping, each leaving at its end.

A problem is whatever gives objective [S], gradient [S, P] and Hessian [S, P, P] at theta [S, P]; a
step is Newton's or Gauss and Newton's, shortened by damping as Levenberg (1944) and Marquardt
(1963) do. A step that does not lower the objective is taken back, and the damping grows.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

State = tuple[np.ndarray, np.ndarray, np.ndarray]  # objective, gradient, Hessian
# (theta, gradient, Hessian, damping) -> (trial theta [S, P], descent that the gradient promises).
Move = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]

SETTLED_DAMPING = 1e-2  # above it a small promise is only that of a short step
MOST_DAMPING = 1e9


def descend(
    evaluate: Callable[..., State],
    move: Move,
    theta: np.ndarray,
    data: tuple[np.ndarray, ...],
    *,
    tolerance: Callable[[np.ndarray], np.ndarray | float],
    max_steps: int,
    damping: float = 1e-3,
    growth: float = 8.0,
) -> tuple[np.ndarray, State]:
    """Where each theta [S, P] ends, and the state there.

    `evaluate(theta, *data)` gets those rows of each of `data` [S, ...] whose problems still move.
    `damping` is the first one, and `growth` what a step in vain multiplies it by. A problem ends
    when a step promises less than `tolerance(objective)`, or goes nowhere.
    """
    theta = np.array(theta, float)
    state: Any = _finite(evaluate(theta, *data))
    ends = (theta.copy(), *(part.copy() for part in state))
    index, damp = np.arange(len(theta)), np.full(len(theta), damping)
    for step in range(1, max_steps + 1):
        trial, promised = move(theta, state[1], state[2], damp)
        new = _finite(evaluate(trial, *data))
        better = new[0] <= state[0]
        still = ~(np.abs(trial - theta) > 1e-14 * (1 + np.abs(theta))).any(1)
        damp = np.where(better, damp * 0.2, np.maximum(damp, 1e-8) * growth).clip(1e-12, None)
        theta, *state = (
            np.where(better.reshape(-1, *[1] * (old.ndim - 1)), now, old)
            for now, old in zip((trial, *new), (theta, *state), strict=True)
        )
        done = (promised < tolerance(state[0])) & (damp < SETTLED_DAMPING)
        done |= still | (damp > MOST_DAMPING) | (step == max_steps)
        if done.any():
            for end, part in zip(ends, (theta, *state), strict=True):
                end[index[done]] = part[done]
            if done.all():
                break
            keep = ~done
            index, damp, theta = index[keep], damp[keep], theta[keep]
            state, data = [part[keep] for part in state], tuple(part[keep] for part in data)
    return ends[0], (ends[1], ends[2], ends[3])


def gauss_newton(
    longest: np.ndarray | float = np.inf,
    low: np.ndarray | float = -np.inf,
    high: np.ndarray | float = np.inf,
) -> Move:
    """Marquardt's step, in each coordinate no longer than `longest`, within `low` and `high`."""

    def move(theta, gradient, hessian, damping):
        damped = hessian.copy()
        diagonal = np.einsum("sii->si", damped)  # a view
        diagonal += damping[:, None] * diagonal + 1e-12
        step = np.linalg.solve(damped, gradient[..., None])[..., 0]
        trial = np.clip(theta - np.clip(step, -longest, longest), low, high)
        return trial, (gradient * step).sum(1)

    return move


def _finite(state: State) -> State:
    """Where it overflows the objective is infinite, so that it is never chosen."""
    objective, gradient, hessian = state
    lost = ~(np.isfinite(objective) & np.isfinite(hessian).all((1, 2)))
    if lost.any():
        objective[lost], gradient[lost], hessian[lost] = np.inf, 0.0, np.eye(gradient.shape[1])
    return state
