"""One shape for every valley: all isoFLOP budgets fitted together, few parameters, robust.

With u = log N - log N_opt(C), the Chinchilla loss along a budget (Hoffmann 2022, equation 2, with
D = C / 6N) is L_opt (1 + k g(u)), where

    g(u) = ((e^(-alpha u) - 1) / alpha + (e^(beta u) - 1) / beta) / (alpha + beta) = u^2 / 2 + ...

so the parabola is the case alpha = beta -> 0 and beta > alpha makes the larger side the steeper.
Here L_opt is free at each budget, k L_opt is a power of C and log N_opt a line in log C (both exact
under equation 2): six parameters whatever the number of budgets, and a budget that saw one flank of
its valley still says something.
"""

from dataclasses import dataclass

import numpy as np

from research.scaling.engine.descent import descend, gauss_newton
from research.scaling.isoflop.budgets import Points

# What scaling studies publish (alpha, beta .2 to .6; k L_opt a slow power of C), as weak priors:
# five noisy sizes say little of a valley's lean. (mean, standard deviation)
SHAPE_PRIOR = (0.35, 0.3)
GROWTH_PRIOR = (-0.15, 0.1)
SHAPE_BOUNDS = (0.02, 2.0)
# The flanks of real valleys (runs of a few steps) follow no shape as closely as the floor does: the
# variance of a point is noise^2 (1 + (flank * excess log loss)^2), flank the likeliest of these.
FLANKS = (0.0, 3.0, 10.0, 30.0, 100.0)
# Log likelihood that a flank must gain: chance alone finds one in a table that has none, and with
# it too little noise at the floor.
FLANK_PENALTY = 4.0
STEPS = 40
MOST_TURNS = 15


@dataclass(frozen=True)
class Projection:
    """The joint fit; `theta` [6] is log (k L_opt), its power of C, alpha, beta, exponent, offset.

    `centre` is the log C that offset and k refer to; `fitted` [P] the log losses; `scale` [P] the
    standard deviation of one point's noise; `level` [B] log L_opt; `degrees` of freedom.
    """

    theta: np.ndarray
    centre: float
    fitted: np.ndarray
    scale: np.ndarray
    noise: float
    level: np.ndarray
    degrees: int

    @property
    def exponent(self) -> float:
        """Power of C by which N_opt grows."""
        return float(self.theta[4])

    def log_params(self, log_flops: np.ndarray) -> np.ndarray:
        """Log N_opt at log C."""
        return self.theta[4] * (log_flops - self.centre) + self.theta[5]


def _shape(u, alpha, beta):
    """g, g', dg/dalpha, dg/dbeta at u [S, P] for alpha, beta [S, 1]."""
    left, right, total = np.exp(-alpha * u), np.exp(beta * u), alpha + beta
    value = ((left - 1) / alpha + (right - 1) / beta) / total
    slope = (right - left) / total
    by_alpha = (-u * left / alpha - (left - 1) / alpha**2 - value) / total
    by_beta = (u * right / beta - (right - 1) / beta**2 - value) / total
    return value, slope, by_alpha, by_beta


def _model(theta, points: Points, z, level):
    """Log loss over its minimum [S, P] and its derivatives [S, P, 6] at theta [S, 6]."""
    log_k, growth, alpha, beta, exponent, offset = (theta[:, k, None] for k in range(6))
    u = points.x - exponent * z - offset
    curvature = np.exp(log_k + growth * z - level[points.index])
    value, slope, by_alpha, by_beta = _shape(u, alpha, beta)
    inside = 1 + curvature * value
    factor = curvature / inside
    columns = (value, value * z, by_alpha, by_beta, -slope * z, -slope)
    return np.log(inside), np.stack(np.broadcast_arrays(*columns), -1) * factor[..., None]


def _centred(values, weights, onehot):
    """Values [S, P, ...] less their weighted mean in each budget: the levels solved exactly."""
    extra = (1,) * (values.ndim - 2)
    weighted = values * weights.reshape(1, -1, *extra)
    means = np.tensordot(weighted, onehot, (1, 0)) / (weights @ onehot)
    means = np.moveaxis(np.tensordot(means, onehot, (-1, 1)), -1, 1)
    return values - means


def minimise(
    points: Points,
    y: np.ndarray,
    weights: np.ndarray,
    noise: float,
    start: np.ndarray,
    level: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """The shape of every row of y [S, P] at once, from start [6] or [S, 6].

    Minimises sum weights (y - model)^2 / noise^2 plus the priors; `level` [B] are the log L_opt
    that turn k L_opt into k (those of the draws differ too little to matter).
    Returns theta [S, 6] and the objective [S].
    """
    z = points.log_flops - points.log_flops.mean()
    onehot = np.eye(points.count)[points.index]
    low = np.array([-8.0, -1.0, SHAPE_BOUNDS[0], SHAPE_BOUNDS[0], -1.0, points.x.min() - 5])
    high = np.array([4.0, 1.0, SHAPE_BOUNDS[1], SHAPE_BOUNDS[1], 2.0, points.x.max() + 5])
    prior_mean = np.array([0, GROWTH_PRIOR[0], SHAPE_PRIOR[0], SHAPE_PRIOR[0], 0, 0])
    prior = np.array([0, GROWTH_PRIOR[1] ** -2, SHAPE_PRIOR[1] ** -2, SHAPE_PRIOR[1] ** -2, 0, 0])
    scaled = weights / noise**2

    def evaluate(theta, y):
        model, jacobian = _model(theta, points, z, level)
        residual = _centred(y - model, weights, onehot)
        centred = _centred(jacobian, weights, onehot)
        away = theta - prior_mean
        value = (scaled * residual**2).sum(1) + (prior * away**2).sum(1)
        heavy = (centred * scaled[:, None]).transpose(0, 2, 1)
        gradient = prior * away - (heavy @ residual[..., None])[..., 0]
        return value, gradient, heavy @ centred + np.diag(prior)

    theta, state = descend(
        evaluate,
        gauss_newton(low=low, high=high),
        np.broadcast_to(start, (len(y), 6)),
        (y,),
        tolerance=lambda value: 1e-12 * (1 + value),
        max_steps=STEPS,
    )
    return theta, state[0]


def starts(points: Points) -> np.ndarray:
    """Starting points [S, 6]: lines of several slopes through the lowest runs' middle."""
    each = [points.rows(k) for k in range(points.count)]
    lowest = [points.x[rows][points.y[rows].argmin()] for rows in each]
    offset = float(np.median(lowest))
    return np.array(
        [
            [log_k, 0.0, 0.35, 0.35, slope, offset + shift]
            for slope in (0.3, 0.5, 0.7, 0.9)
            for log_k in (-3.0, -1.5)
            for shift in (-1.0, 0.0, 1.0)
        ]
    )


def fit(points: Points) -> Projection:
    """Fit the shared shape: noise and flank weights by iteration, then every start again."""
    z = points.log_flops - points.log_flops.mean()
    onehot = np.eye(points.count)[points.index]
    best, model, residual = np.zeros(6), np.zeros((1, len(z))), points.y
    weights, noise = points.repeats.astype(float), 0.01
    theta = starts(points)
    degrees = max(len(points.y) - points.count - 5, 1)
    level = np.array([points.y[points.rows(k)].min() for k in range(points.count)])
    for turn in range(MOST_TURNS):
        before = noise
        tiled = np.tile(points.y, (len(theta), 1))
        ends, value = minimise(points, tiled, weights, noise, theta, level)
        best = ends[value.argmin()]
        model, _ = _model(best[None], points, z, level)
        residual = _centred(points.y[None] - model, weights, onehot)[0]
        weights = _weights(residual, np.maximum(model[0], 0), points.repeats)
        level = ((points.y - model[0]) * weights) @ onehot / (weights @ onehot)
        noise = max(float(np.sqrt(np.sum(weights * residual**2) / degrees)), 1e-9)
        theta = np.concatenate([best[None], starts(points)]) if turn < 2 else best[None]
        if turn > 1 and abs(noise - before) < 1e-3 * before:
            break
    return Projection(
        theta=best,
        centre=float(points.log_flops.mean()),
        fitted=points.y - residual,
        scale=noise / np.sqrt(weights),
        noise=noise,
        level=level,
        degrees=degrees,
    )


def _weights(residual, excess, repeats) -> np.ndarray:
    """Weights [P] of the likeliest flank, for normal residuals."""
    scores = []
    for flank in FLANKS:
        weights = repeats / (1 + (flank * excess) ** 2)
        square = np.mean(weights * residual**2) + 1e-18
        doubt = FLANK_PENALTY if flank else 0.0
        scores.append(0.5 * len(residual) * (np.mean(np.log(weights)) - np.log(square)) - doubt)
    flank = FLANKS[int(np.argmax(scores))]
    return repeats / (1 + (flank * excess) ** 2)
