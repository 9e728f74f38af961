"""Averages of the weights by powers of the step, from which any length is made later (Karras 2024).

After t steps the average of exponent gamma weighs the weights between steps k - 1 and k by the
integral of s^gamma over them (section 3.1 of "Analyzing and improving the training dynamics of
diffusion models"). Its relative width is the standard deviation of that profile over t: the average
is as long at every horizon, measured by what was trained, and needs none to be known.

A profile that was not kept is near a sum of those that were, of several exponents and steps;
`coefficients` finds the nearest by least squares over closed inner products (their appendix C).
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import numpy as jnp
from numpy.typing import NDArray

from research.errors import UserError

WIDEST = 12**-0.5  # of exponent 0, the plain mean
NARROWEST = 1e-3  # an average of so few steps is the last weights
USUAL = (0.05, 0.1)
BISECTIONS = 12
LIMIT = 0.1  # how far a sum of profiles may be off, as a share of the norm of the one wanted


class Profile(NamedTuple):
    """The average of relative `width` after `step` steps."""

    step: int
    width: float


def check(widths: Sequence[Any]) -> None:
    """Raise UserError for what are no relative widths."""
    for width in widths:
        number = isinstance(width, float | int) and not isinstance(width, bool)
        if not number or not NARROWEST <= width <= WIDEST:
            raise UserError(
                f"config.train.ema_widths: {width!r} must be from {NARROWEST} to {WIDEST:.4f}, "
                f"the width of a plain mean; {USUAL} are usual"
            )
    if len(set(widths)) < len(widths):
        raise UserError(f"config.train.ema_widths={widths} names one width twice; {USUAL} are two")


def exponent(width: float) -> float:
    """gamma, at least 0, of a relative width: the largest root of a cubic."""
    precision = width**-2  # of (gamma + 2)^2 (gamma + 3) = (gamma + 1) / width^2
    roots = np.roots([1.0, 7.0, 16.0 - precision, 12.0 - precision])
    return max(0.0, float(roots[np.abs(roots.imag) < 1e-6].real.max()))


def relative_width(exponent: float) -> float:
    """(gamma + 1)^(1/2) (gamma + 2)^-1 (gamma + 3)^(-1/2), the inverse of `exponent`."""
    return (exponent + 1) ** 0.5 / (exponent + 2) / (exponent + 3) ** 0.5


def begun(widths: Sequence[float], params: Any) -> dict[str, Any]:
    """The averages by name before any step: copies, which the first step replaces."""
    return {str(width): jax.tree.map(jnp.copy, params) for width in widths}


def moved(averages: dict[str, Any], params: Any, index: Any) -> dict[str, Any]:
    """`averages` after one more step, which gave `params`; `index` steps were before it."""

    def one(width: str, average: Any) -> Any:
        # 1 - (1 - 1/t)^(gamma + 1), exact where t is large; 1 at t = 1.
        share = -jnp.expm1((exponent(float(width)) + 1) * jnp.log1p(-1 / (index + 1)))
        return jax.tree.map(lambda old, new: old + share * (new - old), average, params)

    return {width: one(width, average) for width, average in averages.items()}


def coefficients(stored: Sequence[Profile], wanted: Profile) -> tuple[NDArray[np.float64], float]:
    """What to multiply the `stored` averages by, so that their sum is nearest to the `wanted` one.

    They add up to 1, so that weights which stand still are given back; that is ours.

    Returns:
        The coefficients and how far the sum's profile is off: the norm of the difference over that
        of the profile wanted.
    """
    inner_SxS, inner_S = _inner(stored, stored), _inner(stored, [wanted])[:, 0]
    size, norm = _inner([wanted], [wanted])[0, 0], np.sqrt(np.diag(inner_SxS))
    # Profiles are scaled to norm 1, and a Lagrange multiplier holds the sum.
    system = np.zeros((len(stored) + 1, len(stored) + 1))
    system[:-1, :-1] = inner_SxS / np.outer(norm, norm)
    system[:-1, -1] = system[-1, :-1] = 1 / norm * norm[-1]
    right = np.append(inner_S / norm, norm[-1])
    found = np.linalg.lstsq(system, right, rcond=1e-12)[0][:-1] / norm
    square = size - 2 * found @ inner_S + found @ inner_SxS @ found
    return found, float(np.sqrt(max(square, 0.0) / size))


def reach(stored: Sequence[Profile], step: int) -> tuple[float, float]:
    """The least and the greatest width at `step` that `stored` averages give within LIMIT."""

    def furthest(inside: float, outside: float) -> float:
        if coefficients(stored, Profile(step, outside))[1] <= LIMIT:
            return outside
        for _ in range(BISECTIONS):
            middle = math.sqrt(inside * outside)
            good = coefficients(stored, Profile(step, middle))[1] <= LIMIT
            inside, outside = (middle, outside) if good else (inside, middle)
        return inside

    widths = [each.width for each in stored if each.step == step]
    return furthest(min(widths), NARROWEST), furthest(max(widths), WIDEST)


def _inner(first: Sequence[Profile], second: Sequence[Profile]) -> NDArray[np.float64]:
    """Inner products of profiles (gamma + 1) s^gamma / t^(gamma + 1) on 0 < s < t, [F, S]."""
    t_Fx1, g_Fx1 = _columns(first)
    t_1xS, g_1xS = (each.T for each in _columns(second))
    power, shorter = g_Fx1 + g_1xS + 1, np.minimum(t_Fx1, t_1xS)
    logs = power * np.log(shorter) - (g_Fx1 + 1) * np.log(t_Fx1) - (g_1xS + 1) * np.log(t_1xS)
    return (g_Fx1 + 1) * (g_1xS + 1) / power * np.exp(logs)


def _columns(profiles: Sequence[Profile]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    steps = np.array([[each.step] for each in profiles], np.float64)
    return steps, np.array([[exponent(each.width)] for each in profiles])
