"""Maps along the probability flow: from an image at one log-SNR to where the flow takes it.

They work in y = x / alpha = x_0 + exp(gamma / 2) eps, where the flow of every process is
dy / ds = (y - E[x_0 | y]) / s with s = exp(gamma / 2) (Karras 2022, eq. 3). A network is a map by
one step of DDIM with what it predicts, whatever that is: the identity for a step of no length.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from research.errors import UserError
from research.families.diffusion import denoiser
from research.families.diffusion.process import along
from research.families.diffusion.samplers import Denoise, Denoised
from research.models import common
from research.models.conditions import Conditions

SOLVERS = ("ddim", "heun")


def add_noise(x0: Array, eps: Array, gamma_B: Array) -> Array:
    """y of an image and its noise, [B, ...]."""
    return x0 + along(jnp.exp(0.5 * gamma_B), x0) * eps


def toward(y: Array, x0: Array, gamma_B: Array, to_B: Array) -> Array:
    """y at `to_B` by one step of DDIM; y itself, to the bit, where that is `gamma_B`."""
    change_B = 0.5 * (to_B - gamma_B)
    return along(jnp.exp(change_B), y) * y - along(jnp.expm1(change_B), y) * x0


def predict(
    config: Any, params: common.Params, y: Array, given: Conditions
) -> tuple[Array, dict[str, Array]]:
    """x_0 as the network has it, [B, H, W, C], and what it measures."""
    x0, _, measures = denoiser.look(config, params, y, given)
    return x0, measures


def jump(
    config: Any, params: common.Params, y: Array, given: Conditions, to_B: Array
) -> tuple[Array, dict[str, Array]]:
    """Where the network's map takes y, from `given.gamma_B` to `to_B`, and what it measures."""
    x0, measures = predict(config, params, y, given)
    return toward(y, x0, given.gamma_B, to_B), measures


def denoise_of(config: Any, params: common.Params, given: Conditions) -> Denoise:
    """The network as samplers and solvers call it, clipped to the range that pixels have."""

    def denoise(y: Array, gamma_B: Array, guess: Array | None = None) -> Denoised:
        del guess  # only a network of denoising is given its own
        x0, _ = predict(config, params, y, given._replace(gamma_B=gamma_B))
        return Denoised(jnp.clip(x0, -1, 1) if config.model.discrete else x0)

    return denoise


def step(solver: str, denoise: Any, y: Array, gamma_B: Array, to_B: Array) -> Array:
    """One step of the flow's ODE; Heun's costs two calls (Karras 2022, algorithm 1)."""
    x0 = denoise(y, gamma_B).x0
    euler = toward(y, x0, gamma_B, to_B)
    if solver == "ddim":
        return euler
    s, r = along(jnp.exp(0.5 * gamma_B), y), along(jnp.exp(0.5 * to_B), y)
    slopes = (y - x0) / s + (euler - denoise(euler, to_B).x0) / r
    return y + 0.5 * (r - s) * slopes


def walk(solver: str, denoise: Any, y: Array, gammas: Array) -> tuple[Array, Array]:
    """y at the last of `gammas` [steps + 1], which fall, and y before each step [steps, B, ...]."""

    def body(y: Array, pair: tuple[Array, Array]) -> tuple[Array, Array]:
        gamma_B, to_B = (jnp.full(len(y), each) for each in pair)
        return step(solver, denoise, y, gamma_B, to_B), y

    return jax.lax.scan(body, y, (gammas[:-1], gammas[1:]))


def even(config: Any, steps: int) -> Array:
    """-log SNRs from the most noise to the least, even in the schedule's time, [steps + 1]."""
    return denoiser.make_schedule(config)(jnp.linspace(1.0, 0.0, steps + 1))[0]


def check(config: Any) -> None:
    """Raise UserError for what only a denoiser has use of."""
    model = config.model
    for key in ("self_conditioning", "learned_variance"):
        if model[key]:
            raise UserError(
                f"config.model.{key}=True: objective {model.objective!r} makes no use of it; set "
                "it to False, or objective='denoising'"
            )
