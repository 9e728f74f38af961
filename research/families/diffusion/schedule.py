"""Noise schedules, all in one language: gamma(t) = -log SNR(t), rising over t in [0, 1].

A schedule is a path from `gamma_min` to `gamma_max`. With alpha^2 = sigmoid(-gamma) and
sigma^2 = sigmoid(gamma) the noisy image is x_t = alpha x_0 + sigma eps (Kingma 2021, eqs. 1-4).
"""

from collections.abc import Callable
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jax import Array
from scipy import special  # its "stats" takes most of a second to import

from research.errors import UserError, nearest


def linear_betas(steps: int = 1000, first: float = 1e-4, last: float = 0.02) -> np.ndarray:
    """Noise variance of each step of DDPM, [steps] (Ho 2020, section 4)."""
    return np.linspace(first, last, steps)


def scaled_linear_betas(
    steps: int = 1000, first: float = 0.00085, last: float = 0.012
) -> np.ndarray:
    """Betas linear in their square root, [steps] (Stable Diffusion, Rombach 2022)."""
    return np.linspace(first**0.5, last**0.5, steps) ** 2


def cosine_betas(steps: int = 1000, offset: float = 0.008, largest: float = 0.999) -> np.ndarray:
    """Betas of the cosine schedule, clipped at `largest`, [steps] (Nichol 2021, eq. 17)."""
    angle = (np.arange(steps + 1) / steps + offset) / (1 + offset) * np.pi / 2
    alpha_bar = np.cos(angle) ** 2
    return np.minimum(1 - alpha_bar[1:] / alpha_bar[:-1], largest)


def sde_betas(steps: int = 1000, first: float = 0.1, last: float = 20.0) -> np.ndarray:
    """Noise of each step of the variance-preserving equation, [steps] (Song 2021, appendix C).

    Its beta(t) rises from `first` to `last`; what is kept after each step is exp(-its integral).
    """
    times = np.arange(steps + 1) / steps
    return -np.expm1(-np.diff(first * times + (last - first) / 2 * times**2))


def alpha_bar(betas: np.ndarray) -> np.ndarray:
    """Share of the signal's variance left after each step, [steps]."""
    return np.cumprod(1 - betas)


def without_signal(share: np.ndarray) -> np.ndarray:
    """`alpha_bar` whose last is zero and whose first is what it was (Lin 2024, algorithm 1)."""
    root = np.sqrt(share)
    return ((root - root[-1]) * root[0] / (root[0] - root[-1])) ** 2


def gamma_of_alpha_bar(share: np.ndarray) -> np.ndarray:
    """-log SNR of a variance-preserving process that keeps `share` of the signal's variance."""
    with np.errstate(divide="ignore"):  # infinite where nothing is kept
        return np.log1p(-share) - np.log(share)


TABLES: dict[str, Callable[[], np.ndarray]] = {
    "linear": linear_betas,
    "scaled_linear": scaled_linear_betas,
    "cosine": cosine_betas,
    "vp_sde": sde_betas,
}
NAMES = ("log_linear", "normal", "flow", *TABLES)
KNOTS = 1001  # of a schedule that is a curve


@dataclass(frozen=True)
class Schedule:
    """gamma(t), piecewise linear through the knots (`times`, `gammas`), both [knots], rising."""

    times: np.ndarray
    gammas: np.ndarray

    def __call__(self, times: Array) -> tuple[Array, Array]:
        """Return gamma and its derivative by t, each of the shape of `times` (in [0, 1])."""
        knots, gammas = (jnp.asarray(part, times.dtype) for part in (self.times, self.gammas))
        slopes = jnp.asarray(np.diff(self.gammas) / np.diff(self.times), times.dtype)
        index = jnp.clip(jnp.searchsorted(knots, times, side="right") - 1, 0, len(slopes) - 1)
        slope = slopes[index]
        return gammas[index] + slope * (times - knots[index]), slope


def make(
    name: str,
    gamma_min: float,
    gamma_max: float,
    mean: float = 0.0,
    std: float = 2.0,
    shift: float = 1.0,
    zero_terminal: bool = False,
) -> Schedule:
    """Build the schedule `name` so that it runs exactly from `gamma_min` to `gamma_max`.

    `log_linear` is a straight line (Kingma 2021). `normal` spends its time as a normal
    distribution of gamma with this `mean` and `std`, cut at the ends: with 0 and 2 it is the
    logit-normal time of a rectified flow (Esser 2024, section 3.1), with -1.01
    and 2.4 the log-normal noise of Karras (2022, table 1), whose data have a deviation of 0.5.
    `flow` is the uniform time of a rectified flow (Liu 2023), cut at the ends. The
    others pass through the log-SNRs of their published 1000-step tables, cut at the two ends and
    stretched back over [0, 1].

    Args:
        shift: how many times as wide an image is as those that the schedule was made for. Its
            log-SNRs are lowered by 2 log(shift) (Hoogeboom 2023), which for times of a flow is the
            shift of Esser (2024, section 5.3.2); the ends stay.
        zero_terminal: a table is rescaled until no signal is left at its end (Lin 2024); the path
            goes there as far as `gamma_max`.

    Raises:
        UserError: for an unknown name, ends in the wrong order, ends the table never reaches, or a
            shift that is not positive.
    """
    if name not in NAMES:
        raise UserError(
            f"config.model.schedule={name!r} is not one of {', '.join(NAMES)}{nearest(name, NAMES)}"
        )
    if not gamma_min < gamma_max:
        raise UserError(
            f"config.model.gamma_min={gamma_min} must be below config.model.gamma_max={gamma_max}"
        )
    if not 0 < shift < np.inf:
        raise UserError(f"config.model.shift={shift} must be positive")
    if zero_terminal and name not in TABLES:
        raise UserError(
            f"config.model.zero_terminal=True rescales a table, and schedule {name!r} has none; "
            f"use {', '.join(TABLES)}, or a larger config.model.gamma_max"
        )
    ends, moved = np.array([gamma_min, gamma_max], np.float64), 2 * np.log(shift)
    if name == "log_linear":
        return Schedule(np.array([0.0, 1.0]), ends)
    if name == "normal":
        return _normal(ends, mean + moved, std)
    if name == "flow":
        first, last = special.expit(0.5 * (ends - moved))
        times = np.linspace(first, last, KNOTS)[1:-1]
        return _through(ends, 2 * special.logit(times) + moved)
    return _table(name, ends, moved, zero_terminal)


def _through(ends: np.ndarray, inner: np.ndarray) -> Schedule:
    """Between `ends` through `inner`, in even times."""
    gammas = np.concatenate([ends[:1], inner, ends[1:]])
    return Schedule(np.linspace(0, 1, len(gammas)), gammas)


def _normal(ends: np.ndarray, mean: float, std: float) -> Schedule:
    """A normal distribution of gamma, cut at `ends`."""
    if not std > 0:
        raise UserError(f"config.model.gamma_std={std} must be positive")
    low, high = special.ndtr((ends - mean) / std)
    share = np.linspace(0, 1, KNOTS)[1:-1]
    return _through(ends, mean + std * special.ndtri(low + (high - low) * share))


def _table(name: str, ends: np.ndarray, moved: float, zero_terminal: bool) -> Schedule:
    """The log-SNRs of a table, lowered by `moved`, between `ends`."""
    share = alpha_bar(TABLES[name]())
    gammas = moved + gamma_of_alpha_bar(without_signal(share) if zero_terminal else share)
    if zero_terminal:  # as near to its end as the path goes
        gammas[-1] = max(ends[1], gammas[-2] + 1)
    times = np.arange(1, len(gammas) + 1) / len(gammas)
    if ends[1] > gammas[-1] or ends[0] >= gammas[-1]:
        raise UserError(
            f"config.model.gamma_max={ends[1]} is beyond {gammas[-1]:.4f}, where schedule "
            f"{name!r} ends"
        )
    # t = 0 of a table is the clean image, gamma = -inf: the path there starts at the least gamma.
    start = float(np.interp(ends[0], gammas, times, left=0.0))
    end = float(np.interp(ends[1], gammas, times))
    inside = (gammas > ends[0]) & (gammas < ends[1])
    knots = np.concatenate([[start], times[inside], [end]])
    values = np.concatenate([ends[:1], gammas[inside], ends[1:]])
    return Schedule((knots - start) / (end - start), values)
