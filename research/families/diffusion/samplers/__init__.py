"""Samplers: from noise to an image, from one log-SNR to the next, in one `lax.scan`.

They walk in y = x / alpha = x_0 + exp(gamma / 2) eps, where every process is the same, and know the
network by `denoise(y, gamma [batch], guess) -> Denoised` alone; `guess` is the x_0 that the step
before found. A sampler is a module with

    step(denoise, y, now, kept) -> (y at now.to, x_0 as it was seen, what it keeps)

and, where it keeps something from step to step, start(y) -> what it keeps before the first; where
its step calls the network more than once, CALLS, how often.
"""

import functools
from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from research.parts import load

SAMPLERS = {
    "ddpm": "research.families.diffusion.samplers.ddpm",
    "ddim": "research.families.diffusion.samplers.ddim",
}


class Denoised(NamedTuple):
    """What a network says of a noisy image.

    Attributes:
        x0: E[x_0 | y], [batch, ...].
        place: of a step's variance between its bounds, [batch, ...] (`process.step_back`).
    """

    x0: Array
    place: Array | float = -1.0


Denoise = Callable[[Array, Array, Array], Denoised]


class Now(NamedTuple):
    """One step of a sampler: scalars, the same for every image.

    Attributes:
        gamma, to: -log SNR before the step and after it.
        key: of its noise.
        index: how many steps went before.
        last: whether it is the last.
        options: `config.sampling`.
    """

    gamma: Array
    to: Array
    key: Array
    index: Array
    last: Array
    options: Any


def part(name: str) -> ModuleType:
    """The sampler `name`: one of SAMPLERS, or the dotted path of a module."""
    return load("sampling.sampler", name, SAMPLERS, ("step",))


def run(
    name: str, denoise: Denoise, y: Array, gammas: Array, key: Array, options: Any
) -> tuple[Array, Array]:
    """Walk from `y` [batch, ...] at gammas[0] through all `gammas` [steps + 1], which fall.

    Returns:
        y at the last of them, with the noise of that level still in it, and x_0 as it was seen at
        each step, [steps, batch, ...].
    """
    sampler = part(name)
    batch, steps = len(y), len(gammas) - 1

    def body(carry: Any, now: Now) -> Any:
        y, guess, kept = carry
        with_guess = functools.partial(_with_guess, denoise, guess, batch)
        y, guess, kept = sampler.step(with_guess, y, now, kept)
        return (y, guess, kept), guess

    index = jnp.arange(steps)
    now = Now(
        gammas[:-1], gammas[1:], jax.random.split(key, steps), index, index == steps - 1, None
    )

    def step(carry: Any, now: Now) -> Any:
        return body(carry, now._replace(options=options))

    kept = sampler.start(y) if hasattr(sampler, "start") else None
    (y, _, _), seen = jax.lax.scan(step, (y, jnp.zeros_like(y), kept), now)
    return y, seen


def _with_guess(denoise: Denoise, guess: Array, batch: int, y: Array, gamma: Array) -> Denoised:
    """`denoise` as samplers call it: of y and a scalar gamma."""
    return denoise(y, jnp.full(batch, gamma), guess)
