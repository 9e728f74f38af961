"""Muon (Jordan et al. 2024): hidden matrices move by their momentum made orthogonal.

Everything else, tables, heads and scalars, moves by Adam. The length of a step is that of `scale`:

    rms       its root mean square is `update_rms`, about AdamW's, so that one learning rate serves
              both (Liu et al. 2025, eq. 4)
    spectral  its singular values are sqrt(max(1, outputs / inputs)) of the whole map, so that the
              best rate, near 0.02, is the same at every width (Jordan et al. 2024; Yang et al.
              2023, condition 1)

With `neuron_b2` it is a NorMuon (Li et al. 2025, algorithm 1): the weights of each output neuron
are divided by the root of their own second moment. Two things differ from the paper: the momentum
is Muon's, Nesterov's and free of bias, and each matrix keeps the norm that it had before.
"""

import functools
import itertools
import math
from collections.abc import Mapping
from typing import Any

import jax
import optax
from jax import numpy as jnp
from optax import contrib

from research import mesh, parts
from research.optim import adamw
from research.optim.roles import ROLES, Parameter, map_names, path_name

RANGES = {
    "momentum": (0, 1),
    "newton_schulz_steps": (1, 100),
    "update_rms": (0, float("inf")),
    "neuron_b2": (0, 1),
    **adamw.RANGES,
}
SCALES = ("rms", "spectral")
MOVES = "hidden"  # parameters of this role; all others move by Adam


def default_train():
    return dict(
        momentum=0.95,
        newton_schulz_steps=5,
        scale="spectral",
        update_rms=0.2,  # of the scale "rms"
        heads_apart=False,  # each head of q, k, v and out is a matrix by itself
        neuron_b2=0.95,  # of NorMuon's second moments; 0: there are none
        decayed=("hidden",),  # roles; tables and heads, at rates of their own, would shrink faster
        **adamw.default_train(),
    )


def check(train):
    """Raise UserError for a scale or a role that is unknown."""
    parts.check_choice("train.scale", train.scale, SCALES)
    for role in train.decayed:
        parts.check_choice("train.decayed", role, ROLES)


def step_kind(settings, parameter):
    """What is the same of its steps at every width (`parametrization.Weight`)."""
    if parameter.role != "hidden":
        return "element"
    return "spectral" if settings.scale == "spectral" else "orthogonal"


def transform(settings, parameters):
    def kinds(tree):
        hidden = {name for name, each in parameters.items() if each.role == "hidden"}
        return map_names(lambda name, _: "hidden" if name in hidden else "others", tree)

    def stepped(momenta, params):
        del params
        return map_names(lambda name, x: step(settings, parameters[name], x), momenta)

    stages = [nesterov(settings.momentum), optax.stateless(stepped)]
    if settings.neuron_b2:
        stages.append(even_neurons(settings.neuron_b2, parameters))
    others = adamw.transform(settings, parameters)
    return optax.partition({"hidden": optax.chain(*stages), "others": others}, param_labels=kinds)


def nesterov(beta: float) -> optax.GradientTransformation:
    """The momentum of optax's Muon, free of bias, before any product: its state is optax's."""
    whole = contrib.scale_by_muon(beta=beta)

    def update(grads, state, params=None):
        del params
        count = optax.safe_increment(state.count)
        mean = optax.tree.update_moment(grads, state.mu, beta, 1)
        ahead = optax.tree.bias_correction(mean, beta, optax.safe_increment(count))
        now = optax.tree.bias_correction(grads, beta, count)
        momenta = optax.tree.add(optax.tree.scale(beta, ahead), optax.tree.scale(1 - beta, now))
        return momenta, state._replace(count=count, mu=mean)

    return optax.GradientTransformation(whole.init, update)


def step(settings: Any, each: Parameter, x: jax.Array) -> jax.Array:
    """The momentum `x` of a parameter, orthogonal and as long as `settings.scale` says."""

    def cut(x):
        return matrices(x, each, settings.heads_apart)[0]

    stack, names = matrices(x, each, settings.heads_apart)
    iterate = functools.partial(orthogonal, steps=settings.newton_schulz_steps)
    stack = mesh.each_whole(iterate, stack, names)
    if settings.scale == "rms":
        scale = settings.update_rms * max(stack.shape[1:]) ** 0.5
    else:
        inputs, outputs = (
            math.prod(x.shape[a] for a in side) for side in (each.reads, each.writes)
        )
        scale = max(1.0, outputs / inputs) ** 0.5
    return scale * jax.linear_transpose(cut, x)(stack)[0]  # a permutation's transpose undoes it


def matrices(
    x: jax.Array, each: Parameter, heads_apart: bool
) -> tuple[jax.Array, tuple[str | None, ...]]:
    """The matrices of a parameter, [matrices, inputs, outputs], and the names of these axes.

    What a mesh splits comes first along each of them, so that it stays where it is.
    """
    names, sides = each.axes or (None,) * x.ndim, (each.reads, each.writes)
    if heads_apart and each.heads:
        axis, features = each.heads  # of one axis two: which head, and what is in it
        x = x.reshape(*x.shape[:axis], -1, features, *x.shape[axis + 1 :])
        names = (*names[: axis + 1], None, *names[axis + 1 :])
        sides = tuple(tuple(a + (a >= axis) for a in side) for side in sides)
    apart = [a for a in range(x.ndim) if a not in sides[0] + sides[1]]
    order = [
        sorted(side, key=lambda a: -mesh.size(*mesh.RULES.get(names[a] or "", ())))
        for side in (apart, *sides)
    ]
    lengths = [math.prod(x.shape[a] for a in side) for side in order]
    stack = x.transpose(*itertools.chain(*order)).reshape(lengths)
    return stack, tuple(names[side[0]] if side else None for side in order)


def orthogonal(x: jax.Array, steps: int) -> jax.Array:
    """About U V^T of each matrix U S V^T in `x` [matrices, inputs, outputs], by products alone.

    Newton and Schulz's iteration, whose quintic (Jordan et al. 2024) takes singular values above
    about 0.002 of the norm to between 0.7 and 1.2 in five steps; smaller ones grow 485-fold.
    """
    if x.shape[1] > x.shape[2]:
        return orthogonal(x.mT, steps).mT  # so that squares are of the shorter side
    x = x / (jnp.linalg.norm(x, axis=(1, 2), keepdims=True) + 1e-8)
    for _ in range(steps):
        square = x @ x.mT
        x = 3.4445 * x + (2.0315 * square @ square - 4.7750 * square) @ x
    return x


def even_neurons(b2: float, parameters: Mapping[str, Parameter]) -> optax.GradientTransformation:
    """Divide the weights of each output neuron by the root of their second moment."""

    def squares(tree):
        return map_names(lambda name, x: jnp.square(x).mean(parameters[name].reads), tree)

    def update(updates, moments, params=None):
        del params
        moments = optax.tree.update_moment(squares(updates), moments, b2, 1)

        def even(path, x, moment):
            each = parameters[path_name(path)]
            y = x * jax.lax.rsqrt(jnp.expand_dims(moment, each.reads) + 1e-16)
            both = each.reads + each.writes
            before, after = (jnp.square(z).sum(both, keepdims=True) for z in (x, y))
            return y * jnp.sqrt(before / (after + 1e-16))

        return jax.tree_util.tree_map_with_path(even, updates, moments), moments

    return optax.GradientTransformation(
        lambda params: squares(optax.tree.zeros_like(params)), update
    )
