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


def alpha_bar(betas: np.ndarray) -> np.ndarray:
    """Share of the signal's variance left after each step, [steps]."""
    return np.cumprod(1 - betas)


def gamma_of_alpha_bar(share: np.ndarray) -> np.ndarray:
    """-log SNR of a variance-preserving process that keeps `share` of the signal's variance."""
    return np.log1p(-share) - np.log(share)


TABLES: dict[str, Callable[[], np.ndarray]] = {
    "linear": linear_betas,
    "scaled_linear": scaled_linear_betas,
    "cosine": cosine_betas,
}
NAMES = ("log_linear", "normal", *TABLES)
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
    name: str, gamma_min: float, gamma_max: float, mean: float = 0.0, std: float = 2.0
) -> Schedule:
    """Build the schedule `name` so that it runs exactly from `gamma_min` to `gamma_max`.

    `log_linear` is a straight line (Kingma 2021). `normal` spends its time as a normal
    distribution of gamma with this `mean` and `std`, cut at the ends: with 0 and 2 it is the
    logit-normal time of a rectified flow (Esser 2024, section 3.1), with -1.01
    and 2.4 the log-normal noise of Karras (2022, table 1), whose data have a deviation of 0.5. The
    others pass through the log-SNRs of their published 1000-step tables, cut at the two ends and
    stretched back over [0, 1].

    Raises:
        UserError: for an unknown name, ends in the wrong order, or ends the table never reaches.
    """
    if name not in NAMES:
        raise UserError(
            f"config.model.schedule={name!r} is not one of {', '.join(NAMES)}{nearest(name, NAMES)}"
        )
    if not gamma_min < gamma_max:
        raise UserError(
            f"config.model.gamma_min={gamma_min} must be below config.model.gamma_max={gamma_max}"
        )
    ends = np.array([gamma_min, gamma_max], np.float64)
    if name == "log_linear":
        return Schedule(np.array([0.0, 1.0]), ends)
    if name == "normal":
        if not std > 0:
            raise UserError(f"config.model.gamma_std={std} must be positive")
        times = np.linspace(0, 1, KNOTS)
        low, high = special.ndtr((ends - mean) / std)
        inner = mean + std * special.ndtri(low + (high - low) * times[1:-1])
        return Schedule(times, np.concatenate([ends[:1], inner, ends[1:]]))
    gammas = gamma_of_alpha_bar(alpha_bar(TABLES[name]()))
    times = np.arange(1, len(gammas) + 1) / len(gammas)
    if gamma_max > gammas[-1] or gamma_min >= gammas[-1]:
        raise UserError(
            f"config.model.gamma_max={gamma_max} is beyond {gammas[-1]:.4f}, where schedule "
            f"{name!r} ends"
        )
    # t = 0 of a table is the clean image, gamma = -inf: the path there starts at gamma_min.
    start = float(np.interp(gamma_min, gammas, times, left=0.0))
    end = float(np.interp(gamma_max, gammas, times))
    inside = (gammas > gamma_min) & (gammas < gamma_max)
    knots = np.concatenate([[start], times[inside], [end]])
    values = np.concatenate([ends[:1], gammas[inside], ends[1:]])
    return Schedule((knots - start) / (end - start), values)
