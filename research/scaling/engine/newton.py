"""Batched robust regression: every start and every bootstrap draw at once, in float64.

Minimises `sum_i w_i rho(log L(theta)_i - y_i)` (Hoffmann 2022, appendix D.2; see objective.py) for
any law on a table (see design.py). Steps are reweighted least squares first, then Newton's with the
exact Hessian, both in the coefficients themselves, in which the law is linear (see descent.py).
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from research.scaling.engine.descent import descend
from research.scaling.engine.design import Design
from research.scaling.engine.objective import HUBER, SHRINKING, Objective

REWEIGHTED_STEPS = 8
# Most steps of a draw, which starts at the fit; of a law whose steps are a compiled program each.
DRAW_STEPS, SLOW_DRAW_STEPS = 200, 100
LONGEST_STEP = 1.0  # of an exponent
CHUNK_ELEMENTS = 60_000  # draws * rows worked on together: fits in a core's second-level cache


@dataclass(frozen=True)
class Minimum:
    """Where each problem ended: theta [S, P], objective [S], gradient [S, P] (0 where held)."""

    theta: np.ndarray
    objective: np.ndarray
    gradient: np.ndarray

    def replaced(self, rows: np.ndarray, other: "Minimum") -> "Minimum":
        """With `rows` taken from `other`, in order."""
        merged = [part.copy() for part in vars(self).values()]
        for mine, theirs in zip(merged, vars(other).values(), strict=True):
            mine[rows] = theirs
        return Minimum(*merged)

    def at(self, rows: np.ndarray) -> "Minimum":
        """Some of the problems."""
        return Minimum(*(part[rows] for part in vars(self).values()))

    def best_of(self, num: int) -> "Minimum":
        """Of every `num` consecutive problems keep the one with the lowest objective."""
        return self.at(
            self.objective.reshape(-1, num).argmin(1) + num * np.arange(len(self.theta) // num)
        )


def minimise(
    design: Design,
    theta: np.ndarray,
    target: np.ndarray,
    weights: np.ndarray,
    limits: tuple[np.ndarray, np.ndarray],
    objective: Objective = HUBER,
    frozen: Sequence[int] = (),
    max_steps: int = 200,
) -> Minimum:
    """Minimise from each theta [S, P]; `target` and `weights` are [rows] or [S, rows].

    `limits` are box bounds [P] (see `bounds`); `frozen` names columns of theta that stay as given.
    Problems are worked in chunks that fit in cache, and leave the batch when they converge.
    """
    if objective.lad and objective.delta < SHRINKING[0]:
        # Corners one by one: from a wide Huber loss to one whose corner is sharp.
        wider = replace(objective, delta=min(d for d in SHRINKING if d > objective.delta))
        theta = minimise(design, theta, target, weights, limits, wider, frozen, max_steps).theta
    chunk = max(1, CHUNK_ELEMENTS // design.num_rows)
    parts = []
    for start in range(0, len(theta), chunk):
        part = slice(start, start + chunk)
        shape = (len(theta[part]), design.num_rows)
        targets, shares = (
            np.broadcast_to(array if array.ndim == 1 else array[part], shape)
            for array in (target, weights)
        )
        parts.append(
            _minimise(
                design, theta[part], targets, shares, limits, objective, list(frozen), max_steps
            )
        )
    columns = zip(*(vars(part).values() for part in parts), strict=True)
    return Minimum(*map(np.concatenate, columns))


def minimise_from_afar(
    design: Design,
    theta: np.ndarray,
    target: np.ndarray,
    weights: np.ndarray,
    limits: tuple[np.ndarray, np.ndarray],
    objective: Objective = HUBER,
    frozen: Sequence[int] = (),
) -> Minimum:
    """`minimise` by way of 100 and 10 times the delta: smooth first, where steps go a long way."""
    for times in (100, 10):
        wider = replace(objective, delta=times * objective.delta)
        theta = minimise(design, theta, target, weights, limits, wider, frozen, 20).theta
    return minimise(design, theta, target, weights, limits, objective, frozen, 100)


def objectives(
    design: Design,
    theta: np.ndarray,
    target: np.ndarray,
    weights: np.ndarray,
    objective: Objective = HUBER,
) -> np.ndarray:
    """Objective [S, draws] of each theta [S, P] under each draw's weights [draws, rows]."""
    return objective.cost(design.predict(theta, objective.log) - target) @ weights.T


def minimise_draws(
    design: Design,
    starts: np.ndarray,
    target: np.ndarray,
    weights: np.ndarray,
    limits: tuple[np.ndarray, np.ndarray],
    objective: Objective = HUBER,
    rounds: int = 2,
) -> Minimum:
    """Minimise under each draw's weights [draws, rows] from starts [S, P], the fit first.

    Every draw descends from the fit. Then draws learn from each other: where some other end (of a
    draw or a start) is lower under a draw's weights than its own, it descends again from there. A
    whole pool costs one matrix product, and on the noisiest tables a tenth of the misses are left.
    """
    most = DRAW_STEPS if design.law.terms else SLOW_DRAW_STEPS
    first = np.tile(starts[0], (len(weights), 1))
    ends = minimise(design, first, target, weights, limits, objective, max_steps=most)
    size = max(1, min(500, 4_000_000 // design.num_rows))
    for k in range(rounds):
        first = (k * size) % len(weights)
        pool = np.concatenate([ends.theta[first : first + size], starts[:size]])
        each = objectives(design, pool, target, weights, objective)
        behind = each.min(0) < ends.objective * (1 - 1e-9)
        if not behind.any():
            break
        lower = pool[each.argmin(0)[behind]]
        again = minimise(design, lower, target, weights[behind], limits, objective, max_steps=most)
        better = again.objective < ends.objective[behind]
        ends = ends.replaced(np.flatnonzero(behind)[better], again.at(better))
    return ends


def _minimise(design, theta, target, weights, limits, objective, frozen, max_steps) -> Minimum:
    low, high = limits
    free = np.ones(theta.shape[1], bool)
    free[frozen] = False
    theta = np.where(free, np.clip(theta, low, high), theta)
    coefficients, exponents = design.coefficients, design.exponents
    # Below this the residuals are rounding, and relative progress has no meaning.
    noise = 1e-29 * design.num_rows

    def held(theta, gradient):
        return ((theta <= low) & (gradient > 0)) | ((theta >= high) & (gradient < 0)) | ~free

    def move(reweighted, theta, gradient, hessian, damping):
        still = held(theta, gradient)
        slope, curved = np.where(still, 0.0, gradient), hessian
        # The step is Newton's in the coefficients themselves, in which the law is linear, taken
        # as a share of each: in their logs a small E crawls up a curved valley for 200 steps.
        if not reweighted:
            curved = hessian.copy()
            curved[:, coefficients, coefficients] -= gradient[:, coefficients]
        step = np.where(still, 0.0, _newton_step(slope, curved, still, damping))
        promised = -(slope * step).sum(1)
        longest = np.abs(step[:, exponents]).max(1, keepdims=True, initial=0)
        step /= np.maximum(1, longest / LONGEST_STEP)
        step[:, coefficients] = np.log1p(np.clip(step[:, coefficients], -0.9, None))
        return np.where(free, np.clip(theta + step, low, high), theta), promised

    def evaluate(reweighted, theta, target, weights):
        return design.evaluate(theta, target, weights, objective, reweighted)

    state = ()
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        for reweighted, steps in ((True, REWEIGHTED_STEPS), (False, max_steps - REWEIGHTED_STEPS)):
            theta, state = descend(
                functools.partial(evaluate, reweighted),
                functools.partial(move, reweighted),
                theta,
                (target, weights),
                tolerance=lambda cost: 1e-13 * cost + noise,
                max_steps=steps,
            )
    return Minimum(theta, state[0], np.where(held(theta, state[1]), 0.0, state[1]))


def _newton_step(gradient, hessian, held, damping):
    """Damped Newton step, curvature taken by magnitude so that it descends on saddles too."""
    # The floor is for a flat loss: a term that has vanished has no curvature to scale by.
    scale = np.sqrt(np.abs(np.einsum("sii->si", hessian)).clip(1e-14, None))
    scaled = hessian / (scale[:, :, None] * scale[:, None, :])
    scaled = np.where(held[:, :, None] | held[:, None, :], 0.0, scaled)
    curvature, vectors = np.linalg.eigh(scaled)
    projected = np.einsum("sij,si->sj", vectors, gradient / scale)
    projected /= np.abs(curvature) + damping[:, None] + 1e-14
    return -np.einsum("sij,sj->si", vectors, projected) / scale
