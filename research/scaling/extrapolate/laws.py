"""Laws of a learning curve for the batched fitter: M1-M4 and the law of one break.

They are those of research/scaling/laws/curves.py (sources there), in coordinates theta [S, P] that
suit a fit of hundreds of short curves at once: x is in units of the last fitted one, so that
nothing depends on its unit, and the first coordinate is the level at the last point where the law
has one. Derivatives are carried along in NumPy (laws/numerics.py), as five compilations would take
longer than all the fits.

A prior (a normal one on each theta) holds what a few noisy points leave open: exponents near
those of known learning curves, no floor and a high floor alike. It is weak.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from research.scaling import laws
from research.scaling.laws.numerics import Slopes, softplus

FREE = 1e3  # scale of a prior that says nothing


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
    """A law in coordinates of its own: `parameters(*theta)` gives those of the law of that name.

    `starts(shape)` [k][B, P]; `prior(shape)`: mean, scale [B, P]. With `averaged`, prediction is
    the mean over the distinct optima, weighted by their posterior (to the power of a half);
    otherwise it is that of the best one.
    """

    name: str
    parameters: Callable[..., dict[str, Any]]
    starts: Callable[[Shape], list[np.ndarray]]
    prior: Callable[[Shape], tuple[np.ndarray, np.ndarray]]
    averaged: bool = False

    def predict(self, theta: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Log loss [S, rows] at x [S, rows], in units of the last fitted one."""
        return self._log_loss([column[:, None] for column in theta.T], x)

    def slopes(self, theta: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The same, and its derivatives [S, rows, P]."""
        found = self._log_loss([Slopes(c[:, None], {i: 1.0}) for i, c in enumerate(theta.T)], x)
        slopes = np.empty((*x.shape, theta.shape[1]))
        for i, slope in found.slopes.items():
            slopes[..., i] = slope
        return found.value, slopes

    def _log_loss(self, coordinates, x):
        return np.log(laws.LAWS[self.name].value(self.parameters(*coordinates), {"D": x}))


def _sigmoid(z):
    return np.exp(-softplus(-z))


def _logit(p: float | np.ndarray) -> np.ndarray:
    return np.log(p / (1 - np.asarray(p)))


def _stack(*columns: float | np.ndarray) -> np.ndarray:
    return np.stack(np.broadcast_arrays(*columns), -1).astype(float)


def _m1(level, log_c):
    return {"beta": np.exp(level), "c": np.exp(log_c)}


def _m2(level, log_c, share):
    """`share` is the logit of E's share of the last loss."""
    last = np.exp(level)
    return {"E": last * _sigmoid(share), "beta": last * _sigmoid(-share), "c": np.exp(log_c)}


def _m3(level, log_c, log_gamma):
    c = np.exp(log_c)
    beta = np.exp(level - c * softplus(log_gamma))
    return {"beta": beta, "gamma": np.exp(log_gamma), "c": c}


def _m4(log_start, share, log_c, log_alpha, k):
    """`log_start` is that of L_0, `share` the logit of E / L_0, and k - c u the law's right side
    with t = (L - E) / (L_0 - E): log t - alpha log(1 - t)."""
    start, alpha = np.exp(log_start), np.exp(log_alpha)
    span = start * _sigmoid(-share)
    beta = np.exp(k + (1 - alpha) * np.log(span))
    floor = start * _sigmoid(share)
    return {"E": floor, "span": span, "alpha": alpha, "beta": beta, "c": np.exp(log_c)}


def _bnsl1(level, share, c0, c1, place, log_f):
    """`share` is the logit of a's share of the last loss, `place` log(d / last x)."""
    last, f = np.exp(level), np.exp(log_f)
    b = last * _sigmoid(-share) * np.exp(c1 * f * softplus(-place / f))
    broken = {"c1": c1, "d1": np.exp(place), "f1": f}
    return {"a": last * _sigmoid(share), "b": b, "c0": c0, **broken}


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
    _m1,
    _m1_starts,
    lambda s: (_stack(s.last, np.log(0.15)), _stack(FREE + 0 * s.last, 1.5)),
)
M2 = CurveLaw(
    "m2",
    _m2,
    _m2_starts,
    lambda s: (_stack(s.last, np.log(0.4), 0.0), _stack(FREE + 0 * s.last, 1.0, 2.0)),
)
M3 = CurveLaw(
    "m3",
    _m3,
    _m3_starts,
    lambda s: (_stack(s.last, np.log(0.3), 0.0), _stack(FREE + 0 * s.last, 1.0, 2.0)),
)
M4 = CurveLaw(
    "m4",
    _m4,
    _m4_starts,
    lambda s: (
        _stack(s.highest + 0.1, 0.0, np.log(0.5), np.log(0.8), 0.0),
        _stack(0.5 + 0 * s.last, 2.0, 0.8, 1.0, 5.0),
    ),
)
BNSL1 = CurveLaw(
    "bnsl1",
    _bnsl1,
    _bnsl1_starts,
    lambda s: (
        _stack(s.last, 0.0, 0.08, 0.12, -0.5 * s.span, np.log(0.25 * s.span)),
        _stack(FREE + 0 * s.last, 2.0, 0.2, 0.25, 0.5 * s.span, 0.7),
    ),
    averaged=True,
)
LAWS = {law.name: law for law in (M1, M2, M3, M4, BNSL1)}
