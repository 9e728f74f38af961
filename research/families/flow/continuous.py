"""A continuous flow, FFJORD (Grathwohl et al. 2019, arXiv 1810.01367): a network says dx/dt.

The log-determinant is the integral of the trace of the network's Jacobian (equation 3), exact for
images of few dimensions, else estimated by one random vector of signs for the whole path (section
3.1). The solver takes equal steps (Runge-Kutta, fourth order), so that the ledger can count them
and gradients go through them; likelihoods are as exact as it is, hence estimates.
"""

import sys
from typing import Any

import jax
from jax import Array
from jax import numpy as jnp
from ml_collections import ConfigDict, FrozenConfigDict

from research.errors import UserError
from research.families.flow import coupling, layered
from research.models import common
from research.models.conditioners import CONDITIONERS
from research.models.numerics import forwards
from research.parts import part

PARTS = {"network": CONDITIONERS}
KIND = "estimate"


def default_model() -> dict[str, Any]:
    """Its keys of `config.model`."""
    return dict(
        network="conv_conditioner",
        solver_steps=8,  # of four calls of the network each
        exact_dims=16,  # the trace is exact for images of at most so many dimensions
    )


def check(config: ConfigDict) -> None:
    """Raise UserError for a path that cannot be."""
    layered.check_count(config.model, "solver_steps")
    if config.model.exact_dims < 0:
        raise UserError(
            f"config.model.exact_dims={config.model.exact_dims} must be at least 0, which "
            "estimates every trace"
        )


def check_image(model: Any) -> None:
    """Raise UserError for images that the layers cannot cut up."""
    coupling.check_network(sys.modules[__name__], model, _grid(model))


def _grid(model: Any) -> tuple[int, int, int]:
    """Of an image, with the time as one more channel."""
    height, across, channels = model.image_shape
    return height, across, channels + 1


def _module(model: Any, hardware: Any) -> tuple[Any, tuple]:
    """The network, and inputs to start it with."""
    model, grid = FrozenConfigDict(model), _grid(model)
    network = part(sys.modules[__name__], "network", model)
    module = network.build(model, FrozenConfigDict(hardware), grid, model.image_shape[-1])
    return module, (jnp.zeros((1, *grid)), layered.label(model))


def positions(model: Any) -> int:
    """Positions that the network processes for one image."""
    return part(sys.modules[__name__], "network", model).positions(model, _grid(model))


def calls(model: Any) -> int:
    """How often drawing an image calls the network."""
    return 4 * model.solver_steps


def init(model: Any, hardware: Any, key: Array) -> common.Params:
    """Parameters of the network."""
    module, inputs = _module(model, hardware)
    return common.init(module, key, *inputs)


def axes(model: Any, hardware: Any) -> common.Params:
    """Logical axes of every parameter."""
    module, inputs = _module(model, hardware)
    return common.logical_axes(module, *inputs)


def velocity(model: Any, hardware: Any, params: Any, x: Array, time: Any, label: Any) -> Array:
    """dx/dt of images x at a time from 0, where images are, to 1."""
    module, _ = _module(model, hardware)
    now = jnp.full((*x.shape[:-1], 1), time, x.dtype)
    with forwards():
        return common.apply(module, params, jnp.concatenate([x, now], -1), label)


def divergence(function: Any, x: Array, signs: Array | None) -> tuple[Array, Array]:
    """What a function gives of x, and the trace of its Jacobian for each example, [B].

    Exact without `signs`; else their product with the Jacobian from both sides, an estimate.
    """
    if signs is not None:
        y, moved = jax.jvp(function, (x,), (signs,))
        return y, layered.total(signs * moved)
    y, push = jax.linearize(function, x)
    size = x[0].size
    basis = jnp.broadcast_to(jnp.eye(size, dtype=x.dtype)[:, None], (size, len(x), size)).reshape(
        size, *x.shape
    )
    return y, jax.vmap(lambda each: layered.total(each * push(each)))(basis).sum(0)


def solve(steps: int, field: Any, start: Any, begin: float, end: float) -> Any:
    """The pytree that `start` becomes by d/dt = field(time, it), in equal steps of fourth order."""
    step = (end - begin) / steps

    def plus(state, slope, by):
        return jax.tree.map(lambda x, k: x + by * k, state, slope)

    def move(state, index):
        time = begin + index * step
        first = field(time, state)
        second = field(time + step / 2, plus(state, first, step / 2))
        third = field(time + step / 2, plus(state, second, step / 2))
        fourth = field(time + step, plus(state, third, step))
        for slope, weight in ((first, 1), (second, 2), (third, 2), (fourth, 1)):
            state = plus(state, slope, weight * step / 6)
        return state, None

    return jax.lax.scan(move, start, jnp.arange(steps))[0]


def forward(
    model: Any, hardware: Any, params: Any, x: Array, label: Any = None, key: Any = None
) -> tuple[Array, Array]:
    """z of images x, of one shape, and log|det dz/dx| of each.

    Args:
        key: of the signs, where the trace is estimated.
    """
    signs = None
    if x[0].size > model.exact_dims:
        signs = jax.random.rademacher(jax.random.key(0) if key is None else key, x.shape, x.dtype)

    def field(time, state):
        return divergence(
            lambda x: velocity(model, hardware, params, x, time, label), state[0], signs
        )

    return solve(model.solver_steps, field, (x, layered.nothing(x)), 0.0, 1.0)


def inverse(model: Any, hardware: Any, params: Any, z: Array, label: Any = None) -> Array:
    """x of `forward`, as near as the solver's steps come."""

    def field(time, x):
        return velocity(model, hardware, params, x, time, label)

    return solve(model.solver_steps, field, z, 1.0, 0.0)
