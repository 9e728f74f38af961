"""Which log-SNRs a sampler passes through: gammas that fall from the most noise to the least.

A schedule of steps is a function of (path, steps, options) -> [steps + 1], whose ends are those of
the model's own path.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from jax import Array
from jax import numpy as jnp

from research.families.diffusion.schedule import Schedule


def _time(path: Schedule, steps: int, options: Any) -> Array:
    """Even steps of the model's own time."""
    return path(jnp.linspace(1.0, 0.0, steps + 1))[0]


def _log_snr(path: Schedule, steps: int, options: Any) -> Array:
    """Even steps of log-SNR (Lu 2022, section 3.3)."""
    return jnp.linspace(path.gammas[-1], path.gammas[0], steps + 1)


def _edm(path: Schedule, steps: int, options: Any) -> Array:
    """Even steps of (sigma / alpha)^(1 / rho) (Karras 2022, eq. 5)."""
    first, last = np.exp(0.5 * path.gammas[[-1, 0]] / options.rho)
    return 2 * options.rho * jnp.log(jnp.linspace(first, last, steps + 1))


def _straight(path: Schedule, steps: int, options: Any) -> Array:
    """Even steps of sigma / (alpha + sigma), the time of a rectified flow (Liu 2023)."""
    first, last = 1 / (1 + np.exp(-0.5 * path.gammas[[-1, 0]]))
    tau = np.linspace(first, last, steps + 1)  # in float64, as the first can be 1 to 1e-8
    return jnp.asarray(2 * np.log(tau / (1 - tau)), jnp.float32)


def _quadratic(path: Schedule, steps: int, options: Any) -> Array:
    """Times that are squares of even steps: finer where there is little noise (Song 2021, D.2)."""
    return path(jnp.linspace(1.0, 0.0, steps + 1) ** 2)[0]


STEP_SCHEDULES: dict[str, Callable[[Schedule, int, Any], Array]] = {
    "time": _time,
    "log_snr": _log_snr,
    "edm": _edm,
    "flow": _straight,
    "quadratic": _quadratic,
}
