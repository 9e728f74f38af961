"""Batched robust regression of log loss: every start and every bootstrap draw at once, in float64.

Minimises `sum_i w_i * Huber_delta(log L(theta)_i - y_i)` (Hoffmann 2022, appendix D.2) over
sums of power terms. Coordinates are `log coefficient` at the geometric mean of the variables
and the plain exponents: centring takes the condition number of the Chinchilla fit from 3.5e11 to
tens. Steps are reweighted least squares first, then damped Newton with the exact Hessian, both in
the coefficients themselves; a step that does not lower the objective is taken back. Each pass over
the data is a few matrix products.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from research.scaling.laws import Law

DELTA = 1e-3
EXPONENT_BOUNDS = (1e-3, 4.0)
# A term may be as small as this share of the smallest loss, or as large as this many largest ones.
COEFFICIENT_BOUNDS = (1e-4, 10.0)
REWEIGHTED_STEPS = 8
LONGEST_STEP = 1.0  # of an exponent
CHUNK_ELEMENTS = 60_000  # draws * rows worked on together: fits in a core's second-level cache


@dataclass(frozen=True)
class Design:
    """A law on one table: `log L = log sum_k exp(theta[columns_k] @ features_k)`.

    `terms[k]` is (columns [m], features [m, rows]); `products` holds, for each pair of terms, the
    products of their features [rows, m * n], so that a Hessian is a handful of matrix products.
    `centres` are the means of log N, log D, log C taken out of the features.
    """

    law: Law
    terms: tuple[tuple[np.ndarray, np.ndarray], ...]
    products: tuple[tuple[int, int, np.ndarray], ...]
    centres: Mapping[str, float]
    num_rows: int

    @property
    def num_parameters(self) -> int:
        """Length of theta."""
        return len(self.law.parameters)


def make_design(
    law: Law, variables: Mapping[str, np.ndarray], centres: Mapping[str, float] | None = None
) -> Design:
    """Build the design of `law` on columns N, D or C [rows]; centred on their log means."""
    logs = {name: np.log(np.asarray(variables[name], float)) for name in law.variables}
    num_rows = len(next(iter(logs.values())))
    if centres is None:
        centres = {name: float(value.mean()) for name, value in logs.items()}
    index = {name: i for i, name in enumerate(law.names)}
    terms = []
    for term in law.terms:
        columns = [index[term.coefficient]]
        features = [np.ones(num_rows)]
        for exponent, variable in term.powers:
            columns.append(index[exponent])
            features.append(centres[variable] - logs[variable])
        terms.append((np.array(columns), np.stack(features)))
    products = []
    for k, (_, first) in enumerate(terms):
        for m, (_, second) in enumerate(terms[: k + 1]):
            pair = (first[:, None] * second[None]).reshape(-1, num_rows).T
            products.append((k, m, np.ascontiguousarray(pair)))
    return Design(law, tuple(terms), tuple(products), dict(centres), num_rows)


def to_parameters(design: Design, theta: np.ndarray) -> np.ndarray:
    """Turn theta [..., P] into the parameters as published [..., P]: A, not log A; uncentred."""
    result = np.array(theta, float)
    for term, shift in _shifts(design, theta):
        result[..., term] = np.exp(theta[..., term] + shift)
    return result


def to_theta(design: Design, parameters: np.ndarray) -> np.ndarray:
    """Inverse of `to_parameters`."""
    result = np.array(parameters, float)
    for term, shift in _shifts(design, result):
        result[..., term] = np.log(result[..., term]) - shift
    return result


def _shifts(design: Design, values: np.ndarray):
    names = list(design.law.names)
    for term in design.law.terms:
        shift = np.zeros(values.shape[:-1])
        for exponent, variable in term.powers:
            shift = shift + values[..., names.index(exponent)] * design.centres[variable]
        yield names.index(term.coefficient), shift


def bounds(design: Design, loss: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper bounds [P] on theta, from the range of the losses [rows]."""
    low = np.full(design.num_parameters, EXPONENT_BOUNDS[0])
    high = np.full(design.num_parameters, EXPONENT_BOUNDS[1])
    for columns, _ in design.terms:
        low[columns[0]] = np.log(np.min(loss) * COEFFICIENT_BOUNDS[0])
        high[columns[0]] = np.log(np.max(loss) * COEFFICIENT_BOUNDS[1])
    return low, high


def starts(design: Design, loss: np.ndarray, num_values: int) -> np.ndarray:
    """Starts [num_values^exponents, P]: a grid of exponents, coefficients by linear least squares.

    Given the exponents the law is linear in its coefficients, so only they need a grid (variable
    projection, Golub and Pereyra 1973). Coefficients that come out negative start small instead.
    """
    coefficients = [columns[0] for columns, _ in design.terms]
    exponents = [i for i in range(design.num_parameters) if i not in coefficients]
    values = np.geomspace(0.05, 1.5, num_values)
    grid = np.stack(np.meshgrid(*[values] * len(exponents), indexing="ij"), -1)
    theta = np.zeros((num_values ** len(exponents), design.num_parameters))
    theta[:, exponents] = grid.reshape(len(theta), -1)
    shapes = [np.exp(theta[:, columns] @ features) for columns, features in design.terms]
    matrix = np.stack(shapes, -1) / np.asarray(loss)[:, None]
    normal = np.einsum("srk,srm->skm", matrix, matrix)
    ridge = 1e-10 * np.trace(normal, axis1=1, axis2=2)[:, None, None] * np.eye(len(shapes))
    solution = np.linalg.solve(normal + ridge, matrix.sum(1)[..., None])[..., 0]
    theta[:, coefficients] = np.log(np.clip(solution, 0.02 * np.min(loss), np.max(loss)))
    return theta


def predict_log(design: Design, theta: np.ndarray) -> np.ndarray:
    """Log loss [S, rows] of each theta [S, P]."""
    return np.log(_shares(design, theta)[1])


def jacobian(design: Design, theta: np.ndarray) -> np.ndarray:
    """Derivative [rows, P] of log loss with respect to one theta [P]."""
    values, total = _shares(design, theta[None])
    result = np.zeros((design.num_rows, design.num_parameters))
    for (columns, features), value in zip(design.terms, values, strict=True):
        result[:, columns] += (value / total).T * features.T
    return result


def _shares(design: Design, theta: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
    """Each term's value, and their sum [S, rows]; a constant term stays [S, 1]."""
    values = []
    for columns, features in design.terms:
        exponent = theta[:, columns] @ features if len(columns) > 1 else theta[:, columns]
        values.append(np.exp(exponent))
    total = values[0]
    for value in values[1:]:
        total = total + value
    return values, total


def evaluate(
    design: Design,
    theta: np.ndarray,
    log_loss: np.ndarray,
    weights: np.ndarray,
    delta: float = DELTA,
    reweighted: bool = False,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Objective [S], gradient [S, P] and Hessian [S, P, P] at theta [S, P].

    `log_loss` and `weights` are [rows] or [S, rows]. With `reweighted` the Hessian is that of the
    least-squares problem that bounds the Huber loss from above (IRLS): always positive.
    """
    num = len(theta)
    values, total = _shares(design, theta)
    residual = np.log(total) - log_loss
    size = np.abs(residual)
    clipped = np.minimum(size, delta)
    objective = (weights * (clipped * (size - 0.5 * clipped))).sum(1)
    slope = np.copysign(clipped, residual) * weights
    if reweighted:
        curvature = weights * (delta / np.maximum(size, delta))
    else:
        curvature = weights * (size <= delta) - slope
    inverse = 1 / total
    shares = [value * inverse for value in values]
    gradient = np.zeros((num, design.num_parameters))
    hessian = np.zeros((num, design.num_parameters, design.num_parameters))
    for (columns, features), share in zip(design.terms, shares, strict=True):
        gradient[:, columns] += (slope * share) @ features.T
    curved = [curvature * share for share in shares]
    for k, m, pair in design.products:
        product = curved[k] * shares[m]
        if k == m and not reweighted:
            product = product + slope * shares[k]
        rows, columns = design.terms[k][0], design.terms[m][0]
        block = (product @ pair).reshape(num, len(rows), len(columns))
        hessian[:, rows[:, None], columns[None, :]] += block
        if k != m:
            hessian[:, columns[:, None], rows[None, :]] += block.transpose(0, 2, 1)
    return objective, gradient, hessian


@dataclass(frozen=True)
class Minimum:
    """Where each problem ended: theta [S, P], objective [S], gradient [S, P], steps [S]."""

    theta: np.ndarray
    objective: np.ndarray
    gradient: np.ndarray
    steps: np.ndarray

    def best_of(self, num: int) -> "Minimum":
        """Of every `num` consecutive problems keep the one with the lowest objective."""
        best = self.objective.reshape(-1, num).argmin(1) + num * np.arange(len(self.theta) // num)
        return Minimum(
            self.theta[best], self.objective[best], self.gradient[best], self.steps[best]
        )


def minimise(
    design: Design,
    theta: np.ndarray,
    log_loss: np.ndarray,
    weights: np.ndarray,
    limits: tuple[np.ndarray, np.ndarray],
    delta: float = DELTA,
    frozen: Sequence[int] = (),
    max_steps: int = 200,
) -> Minimum:
    """Minimise from each theta [S, P]; `log_loss` and `weights` are [rows] or [S, rows].

    `limits` are box bounds [P] (see `bounds`); `frozen` names columns of theta that stay as given.
    Problems are worked in chunks that fit in cache, and leave the batch when they converge.
    """
    chunk = max(1, CHUNK_ELEMENTS // design.num_rows)
    parts = []
    for start in range(0, len(theta), chunk):
        part = slice(start, start + chunk)
        target = log_loss if log_loss.ndim == 1 else log_loss[part]
        weight = weights if weights.ndim == 1 else weights[part]
        shape = (len(theta[part]), design.num_rows)
        parts.append(
            _minimise(
                design,
                theta[part],
                np.broadcast_to(target, shape),
                np.broadcast_to(weight, shape),
                limits,
                delta,
                list(frozen),
                max_steps,
            )
        )
    return Minimum(*(np.concatenate(field) for field in zip(*parts, strict=True)))


def minimise_from_afar(
    design: Design,
    theta: np.ndarray,
    log_loss: np.ndarray,
    weights: np.ndarray,
    limits: tuple[np.ndarray, np.ndarray],
    delta: float = DELTA,
    frozen: Sequence[int] = (),
) -> Minimum:
    """`minimise` by way of 100 and 10 times `delta`: smooth first, where steps go a long way."""
    for wider, steps in ((100, 20), (10, 20)):
        theta = minimise(
            design, theta, log_loss, weights, limits, wider * delta, frozen, steps
        ).theta
    return minimise(design, theta, log_loss, weights, limits, delta, frozen, 100)


def objectives(
    design: Design,
    theta: np.ndarray,
    log_loss: np.ndarray,
    weights: np.ndarray,
    delta: float = DELTA,
) -> np.ndarray:
    """Objective [S, draws] of each theta [S, P] under each draw's weights [draws, rows]."""
    size = np.abs(predict_log(design, theta) - log_loss)
    clipped = np.minimum(size, delta)
    return (clipped * (size - 0.5 * clipped)) @ weights.T


def minimise_draws(
    design: Design,
    starts: np.ndarray,
    log_loss: np.ndarray,
    weights: np.ndarray,
    limits: tuple[np.ndarray, np.ndarray],
    delta: float = DELTA,
    rounds: int = 2,
) -> Minimum:
    """Minimise under each draw's weights [draws, rows] from starts [S, P], the fit first.

    Every draw descends from the fit. Then draws learn from each other: where some other end (of a
    draw or a start) is lower under a draw's weights than its own, it descends again from there. A
    whole pool costs one matrix product, and on the noisiest tables a tenth of the misses are left.
    """
    ends = minimise(design, np.tile(starts[0], (len(weights), 1)), log_loss, weights, limits, delta)
    theta, objective = ends.theta.copy(), ends.objective.copy()
    gradient, steps = ends.gradient.copy(), ends.steps.copy()
    size = max(1, min(500, 4_000_000 // design.num_rows))
    for k in range(rounds):
        first = (k * size) % len(theta)
        pool = np.concatenate([theta[first : first + size], starts[:size]])
        cost = objectives(design, pool, log_loss, weights, delta)
        behind = cost.min(0) < objective * (1 - 1e-9)
        if not behind.any():
            break
        again = minimise(
            design, pool[cost.argmin(0)[behind]], log_loss, weights[behind], limits, delta
        )
        better = again.objective < objective[behind]
        rows = np.flatnonzero(behind)[better]
        theta[rows], objective[rows] = again.theta[better], again.objective[better]
        gradient[rows], steps[rows] = again.gradient[better], again.steps[better]
    return Minimum(theta, objective, gradient, steps)


def _minimise(design, theta, log_loss, weights, limits, delta, frozen, max_steps):
    low, high = limits
    theta = theta.copy()
    free = np.ones(design.num_parameters, bool)
    free[frozen] = False
    theta[:, free] = np.clip(theta, low, high)[:, free]
    coefficients = [columns[0] for columns, _ in design.terms]
    exponents = [j for j in range(design.num_parameters) if j not in coefficients]
    num = len(theta)
    final = (theta.copy(), np.zeros(num), np.zeros_like(theta), np.zeros(num, int))
    index = np.arange(num)
    reweighted = True
    damping = np.full(num, 1e-3)
    objective, gradient, hessian = _finite(design, theta, log_loss, weights, delta, True)
    # Below this the residuals are rounding, and relative progress has no meaning.
    noise = 1e-29 * design.num_rows
    for step in range(1, max_steps + 1):
        if reweighted and step > REWEIGHTED_STEPS:
            reweighted = False
            objective, gradient, hessian = _finite(design, theta, log_loss, weights, delta, False)
            damping[:] = 1e-3
        held = ((theta <= low) & (gradient > 0)) | ((theta >= high) & (gradient < 0)) | ~free
        slope = np.where(held, 0.0, gradient)
        # The step is Newton's in the coefficients themselves, in which the law is linear, taken
        # as a share of each: in their logs a small E crawls up a curved valley for 200 steps.
        curved = hessian
        if not reweighted:
            curved = hessian.copy()
            curved[:, coefficients, coefficients] -= gradient[:, coefficients]
        move = np.where(held, 0.0, _newton_step(slope, curved, held, damping))
        promised = -(slope * move).sum(1)
        longest = np.abs(move[:, exponents]).max(1, keepdims=True)
        move /= np.maximum(1, longest / LONGEST_STEP)
        move[:, coefficients] = np.log1p(np.clip(move[:, coefficients], -0.9, None))
        trial = np.where(free, np.clip(theta + move, low, high), theta)
        new = _finite(design, trial, log_loss, weights, delta, reweighted)
        better = new[0] <= objective
        still = ~(np.abs(trial - theta) > 1e-14 * (1 + np.abs(theta))).any(1)
        damping = np.where(better, damping * 0.2, np.maximum(damping, 1e-8) * 8).clip(1e-12, None)
        theta = np.where(better[:, None], trial, theta)
        gradient = np.where(better[:, None], new[1], gradient)
        hessian = np.where(better[:, None, None], new[2], hessian)
        objective = np.where(better, new[0], objective)
        settled = (promised < 1e-13 * objective + noise) & (damping < 1e-2)
        done = (settled | still | (damping > 1e9)) & (not reweighted)
        if step == max_steps:
            done[:] = True
        if done.any():
            ended = index[done]
            final[0][ended], final[1][ended] = theta[done], objective[done]
            final[2][ended], final[3][ended] = np.where(held, 0.0, gradient)[done], step
            keep = ~done
            if not keep.any():
                break
            index, theta, objective = index[keep], theta[keep], objective[keep]
            gradient, hessian, damping = gradient[keep], hessian[keep], damping[keep]
            log_loss, weights = log_loss[keep], weights[keep]
    return final


def _finite(design, theta, log_loss, weights, delta, reweighted):
    """`evaluate`; where it overflows the objective is infinite, so that it is never chosen."""
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        objective, gradient, hessian = evaluate(design, theta, log_loss, weights, delta, reweighted)
    lost = ~(np.isfinite(objective) & np.isfinite(hessian).all((1, 2)))
    if lost.any():
        objective[lost], gradient[lost], hessian[lost] = np.inf, 0.0, np.eye(theta.shape[1])
    return objective, gradient, hessian


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
