"""Samplers: from noise to an image, from one log-SNR to the next.

They walk in y = x / alpha = x_0 + s eps, with s = exp(gamma / 2) the noise's level, where every
process is the same, and know the network by `denoise(y, gamma) -> Denoised` alone. A sampler is a
module with

    step(denoise, y, now, kept) -> (y at now.to, x_0 as it was seen, what it keeps)

and, where it needs them,

    start(y) -> what it keeps before the first step
    calls(options) -> how often a step calls the network, where that is not once
    default_sampling() -> its keys of `config.sampling`
    RANGES = {key: (lowest, highest)} of those
"""

import functools
from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from research.errors import UserError
from research.parts import load

SAMPLERS = {
    name: f"research.families.diffusion.samplers.{name}"
    for name in (
        "ddpm",
        "ddim",  # Euler's method
        "heun",
        "dpm_solver_2",
        "dpm_solver_3",
        "dpm_solver_pp_2m",
        "dpm_solver_pp_sde",
        "unipc",
        "euler_maruyama",
        "predictor_corrector",
        "langevin",
    )
}
FEW = 15  # steps; with fewer, methods of several steps end at a lower order (Lu 2022, ++)


class Denoised(NamedTuple):
    """What a network says of a noisy image.

    Attributes:
        x0: E[x_0 | y], [batch, ...].
        place: of a step's variance between its bounds, [batch, ...] (`process.step_back`).
    """

    x0: Array
    place: Array | float = -1.0


Denoise = Callable[[Array, Array, Array], Denoised]  # of (y, gamma [batch], the x_0 seen before)


class Now(NamedTuple):
    """One step of a sampler: scalars, the same for every image.

    Attributes:
        gamma, to: -log SNR before the step and after it.
        key: of its noise.
        index: how many steps went before.
        steps: of the whole walk.
        options: `config.sampling`.
        again: whether the step was made before, from another y.
    """

    gamma: Array
    to: Array
    key: Array
    index: Array
    steps: Array
    options: Any
    again: Array | bool = False

    def order(self, most: int) -> Array:
        """Of a step that looks back at up to `most` - 1 others: no more than were made or, where
        the walk is of few steps, than are left.
        """
        left = jnp.where(self.steps < FEW, self.steps - self.index, most)
        return jnp.minimum(jnp.minimum(self.index + 1, left), most)


def part(name: str) -> ModuleType:
    """The sampler `name`: one of SAMPLERS, or the dotted path of a module."""
    return load("sampling.sampler", name, SAMPLERS, ("step",))


def default_sampling() -> dict[str, Any]:
    """The keys of every sampler in the table, and how often each step is made."""
    found: dict[str, Any] = dict(repeats=1)
    for name in SAMPLERS:
        found |= getattr(part(name), "default_sampling", dict)()
    return found


def check(options: Any) -> None:
    """Raise UserError for an unknown sampler, or a key of any that is out of its range."""
    if options.repeats < 1:
        raise UserError(f"config.sampling.repeats={options.repeats} must be at least 1")
    for name in (options.sampler, *SAMPLERS):
        for key, (low, high) in getattr(part(name), "RANGES", {}).items():
            if not low <= options[key] <= high:
                raise UserError(
                    f"config.sampling.{key}={options[key]} must be from {low:g} to {high:g}"
                )


def network_calls(options: Any) -> int:
    """How often a whole walk calls the network."""
    calls = getattr(part(options.sampler), "calls", lambda options: 1)
    return options.steps * options.get("repeats", 1) * calls(options)


def run(
    name: str, denoise: Denoise, y: Array, gammas: Array, key: Array, options: Any
) -> tuple[Array, Array]:
    """Walk from `y` [batch, ...] at gammas[0] through all `gammas` [steps + 1], which fall.

    Returns:
        y at the last of them, with the noise of that level still in it, and x_0 as it was seen at
        each step, [steps, batch, ...].
    """
    steps = len(gammas) - 1
    step = _stepper(name, denoise, gammas, key, options, steps)

    def body(carry: Any, index: Array) -> Any:
        carry = step(index, carry)
        return carry, carry[1]

    (y, _, _), seen = jax.lax.scan(body, _begin(name, y), jnp.arange(steps))
    return y, seen


def walk(
    name: str, denoise: Denoise, y: Array, gammas: Array, steps: Array, key: Array, options: Any
) -> Array:
    """`run` through the first `steps` + 1 of `gammas`, of which there may be more.

    `steps` is a number that a compiled program is given, so that one serves for any number.
    """
    step = _stepper(name, denoise, gammas, key, options, steps)
    return jax.lax.fori_loop(0, steps, step, _begin(name, y))[0]


def _begin(name: str, y: Array) -> tuple[Array, Array, Any]:
    """What is carried: y, the x_0 last seen, and what the sampler keeps."""
    start = getattr(part(name), "start", lambda y: None)
    return y, jnp.zeros_like(y), start(y)


def _stepper(
    name: str, denoise: Denoise, gammas: Array, key: Array, options: Any, steps: Any
) -> Callable[[Array, Any], Any]:
    """(index, what is carried) -> what is carried after that step."""
    sampler, gammas, repeats = part(name), jnp.asarray(gammas), options.get("repeats", 1)

    def step(index: Array, carry: Any) -> Any:
        before = carry[2]  # what is kept of the steps before this one, however often it is made

        def made(number: Any, carry: Any) -> Any:
            y, guess, kept = carry
            own = key if repeats == 1 else jax.random.fold_in(key, steps + number)
            now = Now(
                gammas[index],
                gammas[index + 1],
                jax.random.fold_in(own, index),
                index,
                jnp.asarray(steps),
                options,
                number > 0,
            )
            return sampler.step(functools.partial(_told, denoise, guess), y, now, kept)

        def again(number: Any, carry: Any) -> Any:
            fresh = jax.random.fold_in(jax.random.fold_in(key, index), number)
            return made(number, (_back(carry[0], gammas, index, fresh), carry[1], before))

        carry = made(0, carry)
        return carry if repeats == 1 else jax.lax.fori_loop(1, repeats, again, carry)

    return step


def _back(y: Array, gammas: Array, index: Array, key: Array) -> Array:
    """y at the end of a step with as much noise as at its beginning, to make the step once more.

    What is drawn then agrees better with what is known of an image (Lugmayr 2022, RePaint).
    """
    spread = jnp.sqrt(jnp.exp(gammas[index]) - jnp.exp(gammas[index + 1]))
    return y + spread * jax.random.normal(key, y.shape, y.dtype)


def _told(denoise: Denoise, guess: Array, y: Array, gamma: Array) -> Denoised:
    """`denoise` as samplers call it: of y and a scalar gamma."""
    return denoise(y, jnp.full(len(y), gamma), guess)
