"""Hidden matrices on spheres: they turn, and keep the norm that they began with.

A step goes the way that `direction` goes, along the great circle there (nGPT, Loshchilov et al.
2024; with Muon's and Adam's direction MuonH and AdamH, Wen et al. 2026, arXiv 2606.16899): the
learning rate is the angle in radians by which a step turns a matrix of any shape when all of it is
tangent. Decay, which is radial, does nothing. A matrix that begins at zero has no sphere: it moves
freely, each step the rate times the norm that a map of its shape is drawn with. What is no hidden
matrix moves by Adam.
"""

import math
from typing import Any, NamedTuple

import jax
import optax
from jax import numpy as jnp

from research import parts
from research.errors import UserError
from research.optim import adamw, muon
from research.optim.roles import Parameter, map_names, path_name

DIRECTIONS = {"muon": muon, "adamw": adamw}
RANGES, MOVES = muon.RANGES, muon.MOVES


class State(NamedTuple):
    """The direction's state, and the norm [.., 1, ..] of each matrix of a parameter by name."""

    inner: Any
    radii: dict[str, jax.Array]


def default_train():
    return dict(direction="muon", **muon.default_train())


def check(train):
    """Raise UserError for an unknown direction or scale, or a decay that would turn a matrix."""
    parts.check_choice("train.direction", train.direction, DIRECTIONS)
    muon.check(train)
    if train.cautious_decay:
        raise UserError(
            "config.train.cautious_decay=True decays some elements only, which turns a matrix; "
            "optimizer 'hypersphere' keeps its norm, so that decay is for nothing: set it to False"
        )


def step_kind(settings, parameter):
    """Hidden matrices turn (`parametrization.Weight`)."""
    del settings
    return "angle" if parameter.role == "hidden" else "element"


def transform(settings, parameters):
    def lengthen(updates, state, params=None, *, radii, **extra):
        """Make each matrix's update as long as the matrix, whatever the length of Muon's steps."""
        del params, extra

        def one(name, x):
            if name not in radii:
                return x
            each = parameters[name]
            drawn = math.prod(x.shape[axis] for axis in each.writes) ** 0.5
            length = jnp.where(radii[name] > 0, radii[name], drawn)
            return x * length / (norm(x, each) + 1e-16)

        return map_names(one, updates), state

    direction = DIRECTIONS[settings.direction].transform(settings, parameters)
    stage = optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), lengthen)
    return optax.chain(direction, stage)


def wrap(settings, inner, parameters):
    """`inner`, the whole of an optimizer but its rate, whose steps turn hidden matrices."""
    del settings

    def init(params):
        leaves = jax.tree_util.tree_leaves_with_path(params)
        named = {path_name(path): x for path, x in leaves}
        radii = {
            name: norm(x, parameters[name])
            for name, x in named.items()
            if name in parameters and parameters[name].role == "hidden"
        }
        return State(inner.init(params), radii)

    def update(grads, state, params=None, *, learning_rate, **extra):
        radii = state.radii
        steps, held = inner.update(
            grads, state.inner, params, radii=radii, learning_rate=learning_rate, **extra
        )

        def one(path, step, x):
            name = path_name(path)
            if name not in radii:
                return step
            turned = turn(step, x, learning_rate, parameters[name])
            return jnp.where(radii[name] > 0, turned, step)

        return jax.tree_util.tree_map_with_path(one, steps, params), State(held, radii)

    return optax.GradientTransformationExtraArgs(init, update)


def turn(step: jax.Array, x: jax.Array, rate: jax.Array, each: Parameter) -> jax.Array:
    """What the rate multiplies so that x goes along the great circle that `step` is tangent to.

    Of the tangent part t of the step and the angle a = rate |t| / |x|, x becomes cos(a) x -
    sin(a) |x| t / |t|; written in sinc, nothing is divided by a rate or a tangent that may be 0.
    """
    axes = each.reads + each.writes
    square = jnp.square(x).sum(axes, keepdims=True) + 1e-30
    tangent = step - x * (step * x).sum(axes, keepdims=True) / square
    speed = norm(tangent, each) * jax.lax.rsqrt(square)
    angle = rate * speed
    half = angle / 2
    along, inwards = jnp.sinc(angle / jnp.pi), jnp.sin(half) * jnp.sinc(half / jnp.pi)
    return along * tangent + speed * inwards * x


def norm(x: jax.Array, each: Parameter) -> jax.Array:
    """The norm of each of the matrices of a parameter, their axes of length 1."""
    return jnp.sqrt(jnp.square(x).sum(each.reads + each.writes, keepdims=True))
