"""SDE-DPM-Solver++(2M): ancestral sampling along an extrapolated x_0 (Lu 2022, ++, section 5).

One call a step. Its first step is that of `ddpm`, and so is the last of few.
"""

from typing import Any

import jax
from jax import Array
from jax import numpy as jnp

from research.families.diffusion.process import step_back
from research.families.diffusion.samplers import Now, dpm_solver_pp_2m

start = dpm_solver_pp_2m.start


def step(
    denoise: Any, y: Array, now: Now, kept: tuple[Array, Array]
) -> tuple[Array, Array, tuple[Array, Array]]:
    """One step, with fresh noise."""
    x0 = denoise(y, now.gamma).x0
    along = dpm_solver_pp_2m.extrapolated(x0, now, kept)
    share, variance = step_back(now.gamma, now.to)
    fresh = jax.random.normal(now.key, y.shape, y.dtype)
    return y + share * (along - y) + jnp.sqrt(variance) * fresh, x0, (x0, now.gamma)
