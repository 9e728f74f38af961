"""Samplers in log-SNR: from noise at gamma(1) to an image at gamma(0), one `lax.scan`.

Model-agnostic: they take `denoise(x_t, gamma [batch]) -> E[x_0 | x_t]` and a schedule.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from research.families.diffusion.process import alpha_sigma
from research.families.diffusion.schedule import Schedule

Denoise = Callable[[Array, Array], Array]
NAMES = ("ddpm", "ddim")


def ddim_step(x_t: Array, x0: Array, gamma_t: Array, gamma_s: Array, noise: Array) -> Array:
    """Keep the implied noise and lower its level (Song 2021, eq. 12 with eta 0)."""
    alpha_t, sigma_t = alpha_sigma(gamma_t, x_t.ndim)
    alpha_s, sigma_s = alpha_sigma(gamma_s, x_t.ndim)
    return alpha_s * x0 + sigma_s / sigma_t * (x_t - alpha_t * x0)


def ddpm_step(x_t: Array, x0: Array, gamma_t: Array, gamma_s: Array, noise: Array) -> Array:
    """Sample q(x_s | x_t, x_0), the ancestral step (Ho 2020, eq. 7; Kingma 2021, eq. 27)."""
    alpha_t, _ = alpha_sigma(gamma_t, x_t.ndim)
    alpha_s, sigma_s = alpha_sigma(gamma_s, x_t.ndim)
    fresh = -jnp.expm1(gamma_s - gamma_t).reshape((-1,) + (1,) * (x_t.ndim - 1))
    mean = alpha_s / alpha_t * (1 - fresh) * x_t + alpha_s * fresh * x0
    return mean + sigma_s * jnp.sqrt(fresh) * noise


def run(
    name: str, denoise: Denoise, schedule: Schedule, noise: Array, key: Array, steps: int
) -> Array:
    """Integrate from `noise`, a standard normal [batch, ...], in `steps` even steps of t.

    Returns:
        z_0 / alpha_0: the sample with the noise of level gamma(0) still in it, like `noise`.
    """
    step = {"ddpm": ddpm_step, "ddim": ddim_step}[name]
    gammas, _ = schedule(jnp.linspace(1.0, 0.0, steps + 1))
    batch = noise.shape[0]

    def body(x_t: Array, now: tuple[Array, Array, Array]) -> tuple[Array, None]:
        gamma_t, gamma_s, step_key = now
        gamma_t, gamma_s = jnp.full(batch, gamma_t), jnp.full(batch, gamma_s)
        fresh = jax.random.normal(step_key, x_t.shape, x_t.dtype)
        return step(x_t, denoise(x_t, gamma_t), gamma_t, gamma_s, fresh), None

    keys = jax.random.split(key, steps)
    z0, _ = jax.lax.scan(body, noise, (gammas[:-1], gammas[1:], keys))
    return z0 / alpha_sigma(gammas[-1:], z0.ndim)[0]
