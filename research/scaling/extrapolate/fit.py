"""Batched fits of many short curves: every curve, origin and start at once, in float64 NumPy.

Maximum a posteriori under normal noise of log loss whose size is fitted too:
minimises (n + n0)/2 log((sum of squares + n0 s0^2) / (n + n0)) + |(theta - mean) / scale|^2 / 2,
by damped Gauss-Newton (engine/descent.py). s0, from second differences
of the curve, keeps a law with as many parameters as points from claiming that there is no noise.
Problems are padded to a common number of rows, in chunks of like length that stay in cache.
"""

import functools
from dataclasses import dataclass

import numpy as np

from research.scaling.engine.descent import descend, gauss_newton
from research.scaling.extrapolate.laws import CurveLaw, Shape

PRIOR_ROWS = 2.0  # n0
LEAST_NOISE = 3e-4
MAX_STEPS = 50
LONGEST_STEP = 1.5
TOLERANCE = 1e-5  # nats
CHUNK_ELEMENTS = 8_000  # problems * rows: derivatives of them fit in a core's second-level cache


@dataclass(frozen=True)
class Points:
    """Rows of B problems, padded: u = log(x / last x), log loss, `mask` [B, rows]; `count` [B]."""

    u: np.ndarray
    log_loss: np.ndarray
    mask: np.ndarray
    count: np.ndarray


def gather(x: np.ndarray, y: np.ndarray, start: np.ndarray, stop: np.ndarray) -> Points:
    """Points of the problems that own `x[start:stop]`; u is relative to the last of them."""
    count = stop - start
    index = start[:, None] + np.arange(count.max())
    mask = index < stop[:, None]
    index = np.where(mask, index, stop[:, None] - 1)
    u = np.log(x)[index] - np.log(x)[stop - 1][:, None]
    return Points(u, np.log(y)[index], mask, count)


def noise_scale(points: Points) -> np.ndarray:
    """Standard deviation [B] of log loss around its neighbours: each inner point against the line
    through the two beside it; between the robust and the plain estimate."""
    u, value = points.u, points.log_loss
    if u.shape[1] < 3:
        return np.full(len(u), 0.02)
    inner = points.mask[:, 2:]
    width = np.where(inner, u[:, 2:] - u[:, :-2], 1.0)
    share = np.where(inner, u[:, 2:] - u[:, 1:-1], 0.5) / width
    gap = value[:, 1:-1] - share * value[:, :-2] - (1 - share) * value[:, 2:]
    gap = np.where(inner, gap / np.sqrt(1 + share**2 + (1 - share) ** 2), np.nan)
    enough = inner.sum(1) >= 2
    gap[~enough] = 0.0
    robust = np.nanmedian(np.abs(gap), 1) / 0.6745
    plain = np.nanmean(gap**2, 1)
    return np.where(enough, np.sqrt(0.5 * robust**2 + 0.5 * plain), 0.02).clip(2 * LEAST_NOISE)


def shape(points: Points) -> Shape:
    """What the laws' starts and priors need of each problem."""
    u, value, mask = points.u, points.log_loss, points.mask
    rows = np.arange(len(u))
    span = np.maximum(-u[:, 0], 0.5)
    late = mask & (u >= -0.5 * span[:, None])
    n = late.sum(1)
    mean_u, mean_value = (late * u).sum(1) / n, (late * value).sum(1) / n
    du = late * (u - mean_u[:, None])
    slope = -(du * (value - mean_value[:, None])).sum(1) / np.maximum((du**2).sum(1), 1e-9)
    return Shape(
        last=value[rows, points.count - 1],
        highest=np.where(mask, value, -np.inf).max(1),
        lowest=np.where(mask, value, np.inf).min(1),
        slope=np.maximum(slope, 0.01),
        span=span,
    )


def fit_predict(law: CurveLaw, points: Points, noise: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Fit `law` to each problem and predict log loss [B, columns] at u [B, columns].

    `noise` [B] is `noise_scale`. Where no start leads to a finite fit, the last value is returned.
    """
    num, summary = len(points.u), shape(points)
    starts = np.stack(law.starts(summary))
    mean, scale = law.prior(summary)
    theta = np.empty_like(starts)
    objective = np.empty(starts.shape[:2])
    order = np.argsort(points.count)
    size = max(1, CHUNK_ELEMENTS // len(starts))
    first = 0
    while first < num:
        rows = points.count[order[first : first + size]]
        fits = np.arange(1, len(rows) + 1) * rows <= size
        chunk = order[first : first + max(1, int(fits.sum()))]
        first += len(chunk)
        theta[:, chunk], objective[:, chunk] = _fit(law, points, noise, chunk, starts, mean, scale)
    with np.errstate(all="ignore"):
        values = np.stack([law.predict(part, np.exp(u)) for part in theta])
    lost = ~(np.isfinite(values).all(2) & np.isfinite(objective))
    objective = np.where(lost, np.inf, objective)
    best = objective.min(0)
    if law.averaged:
        share = np.exp(-0.5 * (objective - np.where(np.isfinite(best), best, 0.0)))
    else:
        share = (objective == best) * np.isfinite(objective)
    total = share.sum(0)
    values = np.where(lost[..., None], 0.0, values)
    mixed = np.einsum("kb,kbr->br", share / np.where(total > 0, total, 1.0), values)
    return np.where(total[:, None] > 0, mixed, summary.last[:, None])


def _fit(law, points, noise, chunk, starts, mean, scale):
    """Theta [k, chunk, P] and objective [k, chunk] of each start."""
    width = int(points.count[chunk].max())
    num = len(starts)
    repeated = np.tile(chunk, num)
    data = (
        np.exp(points.u[repeated, :width]),
        points.log_loss[repeated, :width],
        points.mask[repeated, :width].astype(float),
        mean[repeated],
        scale[repeated],
        0.25 * noise[repeated] ** 2,
        points.count[repeated],
    )
    with np.errstate(all="ignore"):
        theta, state = descend(
            functools.partial(_evaluate, law),
            gauss_newton(LONGEST_STEP),
            starts[:, chunk].reshape(-1, starts.shape[2]),
            data,
            tolerance=lambda _: TOLERANCE,
            max_steps=MAX_STEPS,
            damping=1e-2,
            growth=5.0,
        )
    return theta.reshape(num, len(chunk), -1), state[0].reshape(num, len(chunk))


def _evaluate(law, theta, x, log_loss, weight, mean, scale, floor, count):
    """Objective [S], gradient [S, P] and Gauss-Newton Hessian [S, P, P]."""
    value, slopes = law.slopes(theta, x)
    residual = weight * (value - log_loss)
    pull = (theta - mean) / scale
    rows = count + PRIOR_ROWS
    variance = ((residual**2).sum(1) + PRIOR_ROWS * floor) / rows
    objective = 0.5 * rows * np.log(variance) + 0.5 * (pull**2).sum(1)
    weighted = (slopes * (weight / variance[:, None])[..., None]).transpose(0, 2, 1)
    gradient = (weighted @ residual[..., None])[..., 0] + pull / scale
    hessian = weighted @ slopes
    diagonal = np.arange(theta.shape[1])
    hessian[:, diagonal, diagonal] += scale**-2.0
    return objective, gradient, hessian
