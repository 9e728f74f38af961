"""Laws of a learning curve for the batched fitter: M1-M4 and the law of one break, with gradients.

They are the laws of the same names in research/scaling/laws/curves.py (sources there), where `fit`
and `backtest` find them; a test holds the values equal. Here a law is what a fit of hundreds of
short curves at once needs: NumPy, as five compilations would take longer than all the fits, and
other coordinates. log loss is a function of theta [S, P] and u = log(x / last fitted x) [S, rows],
so that nothing depends on the unit of x, and the first parameter is the level at the last point
where the law has one. Values [S, rows] come with derivatives [S, rows, P].

A prior (a normal one on each theta) holds what a few noisy points leave open: exponents near
those of known learning curves, no floor and a high floor alike. It is weak.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Evaluated = tuple[np.ndarray, np.ndarray]
FREE = 1e3  # scale of a prior that says nothing
NEWTON_STEPS = 12


@dataclass(frozen=True)
class Shape:
    """What starts and priors need of each problem [B]: log losses last, highest and lowest; the
    slope -dlogL/dlogx over the later half of the range; the range of log x."""

    last: np.ndarray
    highest: np.ndarray
    lowest: np.ndarray
    slope: np.ndarray
    span: np.ndarray


@dataclass(frozen=True)
class CurveLaw:
    """A law: `function(theta, u)`; `starts(shape)` [k][B, P]; `prior(shape)`: mean, scale [B, P].

    With `averaged`, prediction is the mean over the distinct optima, weighted by their posterior
    (to the power of a half); otherwise it is that of the best one.
    """

    name: str
    formula: str
    function: Callable[[np.ndarray, np.ndarray], Evaluated]
    starts: Callable[[Shape], list[np.ndarray]]
    prior: Callable[[Shape], tuple[np.ndarray, np.ndarray]]
    averaged: bool = False


def _columns(theta: np.ndarray) -> list[np.ndarray]:
    return [theta[:, i : i + 1] for i in range(theta.shape[1])]


def _sigmoid(z: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(z, -60, 60)))


def _softplus(z: np.ndarray) -> np.ndarray:
    return np.maximum(z, 0) + np.log1p(np.exp(-np.abs(z)))


def _logit(p: float | np.ndarray) -> np.ndarray:
    return np.log(p / (1 - np.asarray(p)))


def _exp(z: np.ndarray) -> np.ndarray:
    return np.exp(np.clip(z, -50, 50))


def _stack(*columns: float | np.ndarray) -> np.ndarray:
    return np.stack(np.broadcast_arrays(*columns), -1).astype(float)


def m1(theta: np.ndarray, u: np.ndarray) -> Evaluated:
    """M1, L = beta x^-c; theta: log level, log c."""
    level, log_c = _columns(theta)
    fall = np.exp(log_c) * u
    return level - fall, np.stack([np.ones_like(u), -fall], -1)


def m2(theta: np.ndarray, u: np.ndarray) -> Evaluated:
    """M2, L = E + beta x^-c; theta: log level, log c, logit of E's share of the last loss."""
    level, log_c, share = _columns(theta)
    c, q = np.exp(log_c), _sigmoid(share)
    power = _exp(-c * u)
    total = (1 - q) * power + q
    slopes = [np.ones_like(u), -(1 - q) * power * c * u / total, q * (1 - q) * (1 - power) / total]
    return level + np.log(total), np.stack(slopes, -1)


def m3(theta: np.ndarray, u: np.ndarray) -> Evaluated:
    """M3, L = beta (1/x + gamma)^c; theta: log level, log c, log(gamma * last x)."""
    level, log_c, log_gamma = _columns(theta)
    c, gamma = np.exp(log_c), np.exp(log_gamma)
    inverse = _exp(-u)
    ratio = np.log((inverse + gamma) / (1 + gamma))
    bend = c * (gamma / (inverse + gamma) - gamma / (1 + gamma))
    return level + c * ratio, np.stack([np.ones_like(u), c * ratio, bend], -1)


def m4(theta: np.ndarray, u: np.ndarray) -> Evaluated:
    """M4, (L - E) / (L0 - L)^alpha = beta x^-c; theta: log L0, logit(E / L0), log c, log alpha, k.

    With t = (L - E) / (L0 - E) it reads log t - alpha log(1 - t) = k - c u; solved by Newton in
    logit t, where the left side is increasing and has slopes between 1 and alpha.
    """
    log_start, share, log_c, log_alpha, k = _columns(theta)
    q, c, alpha = _sigmoid(share), np.exp(log_c), np.exp(log_alpha)
    target = k - c * u
    z = np.clip(np.where(target < 0, target, target / np.maximum(alpha, 1e-3)), -60, 60)
    for _ in range(NEWTON_STEPS):
        rising = _sigmoid(z)
        slope = 1 - rising + alpha * rising
        above = _softplus(z)
        step = np.clip((z - above + alpha * above - target) / slope, -8, 8)
        z = z - step
        if np.abs(step).max() < 1e-9:
            break
    t = _sigmoid(z)
    value = q + (1 - q) * t
    by_target = (1 - q) * t * (1 - t) / (1 - t + alpha * t) / value
    slopes = [
        np.ones_like(u),
        q * (1 - q) * (1 - t) / value,
        -by_target * c * u,
        -by_target * alpha * _softplus(z),
        by_target,
    ]
    return log_start + np.log(value), np.stack(slopes, -1)


def bnsl1(theta: np.ndarray, u: np.ndarray) -> Evaluated:
    """Broken law, L = a + b x^-c0 (1 + (x / d)^(1/f))^(-c1 f).

    theta: log level, logit of a's share of the last loss, c0, c1, log(d / last x), log f.
    """
    level, share, c0, c1, place, log_f = _columns(theta)
    q, f = _sigmoid(share), np.exp(log_f)
    z, z_last = (u - place) / f, -place / f
    bend = f * (_softplus(z) - _softplus(z_last))
    power = _exp(-c0 * u - c1 * bend)
    total = q + (1 - q) * power
    part = (1 - q) * power / total
    here, last = _sigmoid(z), _sigmoid(z_last)
    slopes = [
        np.ones_like(u),
        q * (1 - q) * (1 - power) / total,
        -part * u,
        -part * bend,
        part * c1 * (here - last),
        -part * c1 * (bend - f * (z * here - z_last * last)),
    ]
    return level + np.log(total), np.stack(slopes, -1)


def _m1_starts(s: Shape) -> list[np.ndarray]:
    return [_stack(s.last, np.log(s.slope))]


def _m2_starts(s: Shape) -> list[np.ndarray]:
    pairs = ((1.1, 0.05), (2, 0.5), (4, 0.75), (15, 0.93))
    return [_stack(s.last, np.log(np.maximum(k * s.slope, 0.02)), _logit(q)) for k, q in pairs]


def _m3_starts(s: Shape) -> list[np.ndarray]:
    pairs = ((1.1, 0.05), (2, 1.0), (5, 4.0))
    return [_stack(s.last, np.log(k * s.slope), np.log(gamma)) for k, gamma in pairs]


def _m4_starts(s: Shape) -> list[np.ndarray]:
    starts = []
    for part, c, alpha, above in (
        (0.1, 0.5, 1.0, 0.03),
        (0.5, 0.8, 1.0, 0.03),
        (0.3, 0.4, 0.2, 0.3),
        (0.05, 0.3, 2.0, 0.03),
    ):
        top = s.highest + above
        q = part * np.exp(s.lowest - top)
        t = np.clip((np.exp(s.last - top) - q) / (1 - q), 1e-3, 1 - 1e-3)
        k = np.log(t) - alpha * np.log(1 - t)
        starts.append(_stack(top, _logit(q), np.log(c), np.log(alpha), k))
    return starts


def _bnsl1_starts(s: Shape) -> list[np.ndarray]:
    return [
        _stack(s.last, _logit(q), 0.2 * k * s.slope, 0.8 * k * s.slope, -d * s.span, log_f)
        for log_f in (np.log(0.15 * s.span),)
        for d in (0.75, 0.4, 0.1)
        for q, k in ((0.05, 1.0), (0.5, 2.0))
    ]


M1 = CurveLaw(
    "m1",
    "beta x^-c",
    m1,
    _m1_starts,
    lambda s: (_stack(s.last, np.log(0.15)), _stack(FREE + 0 * s.last, 1.5)),
)
M2 = CurveLaw(
    "m2",
    "E + beta x^-c",
    m2,
    _m2_starts,
    lambda s: (_stack(s.last, np.log(0.4), 0.0), _stack(FREE + 0 * s.last, 1.0, 2.0)),
)
M3 = CurveLaw(
    "m3",
    "beta (1/x + gamma)^c",
    m3,
    _m3_starts,
    lambda s: (_stack(s.last, np.log(0.3), 0.0), _stack(FREE + 0 * s.last, 1.0, 2.0)),
)
M4 = CurveLaw(
    "m4",
    "(L - E) / (L0 - L)^alpha = beta x^-c",
    m4,
    _m4_starts,
    lambda s: (
        _stack(s.highest + 0.1, 0.0, np.log(0.5), np.log(0.8), 0.0),
        _stack(0.5 + 0 * s.last, 2.0, 0.8, 1.0, 5.0),
    ),
)
BNSL1 = CurveLaw(
    "bnsl1",
    "a + b x^-c0 (1 + (x/d)^(1/f))^(-c1 f)",
    bnsl1,
    _bnsl1_starts,
    lambda s: (
        _stack(s.last, 0.0, 0.08, 0.12, -0.5 * s.span, np.log(0.25 * s.span)),
        _stack(FREE + 0 * s.last, 2.0, 0.2, 0.25, 0.5 * s.span, 0.7),
    ),
    averaged=True,
)
LAWS = {law.name: law for law in (M1, M2, M3, M4, BNSL1)}
