"""Every position through all the experts that it chose: sorted by expert, nobody is dropped.

Each device sorts the positions that it has. Where experts lie on several, those devices gather
each other's positions, each runs its own experts on them, and what was made is summed and dealt
out again: no shape depends on how even the routing is, as an exchange of chosen rows would.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
from jax import numpy as jnp

from research import mesh
from research.models.expert_slots import take
from research.models.grouped_dot import dot_grouped

Kernels = dict[str, jax.Array]  # of all experts, by name, [E, I, O]


def run(
    x_BxLxD: jax.Array,
    weight_BxLxP: jax.Array,
    expert_BxLxP: jax.Array,
    kernels: Kernels,
    perceptron: Callable,
) -> jax.Array:
    """The weighted sum of what each position's experts make of it, [B, L, D].

    Args:
        kernels: "down" and what is before it.
        perceptron: (dot, x, kernels) -> what experts make of x, by `dot` (x, kernel) of experts.
    """
    local = functools.partial(_local, perceptron=perceptron)
    if mesh.size(*mesh.AXES) == 1:
        return local(x_BxLxD, weight_BxLxP, expert_BxLxP, kernels)
    rows = mesh.spec(("batch", "length", None), x_BxLxD.shape)
    read = {
        name: ("experts", *((None, "mlp") if name != "down" else ("mlp", None))) for name in kernels
    }
    specs = {name: mesh.spec(read[name], kernel.shape) for name, kernel in kernels.items()}
    apart, hidden, _ = (tuple(jax.tree.leaves(axes)) for axes in specs["down"])
    spread = bool(apart) and "expert" in jax.tree.leaves(rows[0])
    local = functools.partial(
        local, apart=bool(apart), spread=spread, summed=hidden if spread else apart + hidden
    )
    run: Any = jax.shard_map(
        local, in_specs=(rows, rows, rows, specs), out_specs=rows, check_vma=False
    )
    return run(x_BxLxD, weight_BxLxP, expert_BxLxP, kernels)


def _local(
    x_BxLxD: jax.Array,
    weight_BxLxP: jax.Array,
    expert_BxLxP: jax.Array,
    kernels: Kernels,
    perceptron: Callable,
    apart: bool = False,
    spread: bool = False,
    summed: tuple[str, ...] = (),
) -> jax.Array:
    """`run` on one device.

    Args:
        apart: whether other devices have other experts.
        spread: whether these have other examples, too.
        summed: mesh axes along which devices make a part of each position's sum.
    """
    experts, first = len(kernels["up"]), 0
    if spread:
        x_BxLxD, weight_BxLxP, expert_BxLxP = (
            jax.lax.all_gather(each, "expert", axis=0, tiled=True)
            for each in (x_BxLxD, weight_BxLxP, expert_BxLxP)
        )
    if apart:
        first = jax.lax.axis_index("expert") * experts
    batch, length, width = x_BxLxD.shape
    per_token = expert_BxLxP.shape[-1]
    expert_T = expert_BxLxP.reshape(-1) - first
    expert_T = jnp.where((expert_T >= 0) & (expert_T < experts), expert_T, experts)  # elsewhere
    order_T = jnp.argsort(expert_T, stable=True)
    place_T = jnp.zeros_like(order_T).at[order_T].set(jnp.arange(len(order_T)))
    rows_E = jnp.bincount(expert_T, length=experts + 1)[:experts]

    x = x_BxLxD.reshape(1, -1, width)
    sorted_TxD = take(x, order_T[None] // per_token, place_T.reshape(1, -1, per_token))[0]
    y_TxD = perceptron(lambda x, w: dot_grouped(x, w, rows_E), sorted_TxD, kernels)
    y = take(y_TxD[None], place_T[None], order_T[None, :, None])
    y_BxLxPxD = y.reshape(batch, length, per_token, width)
    y_BxLxD = (y_BxLxPxD * weight_BxLxP[..., None].astype(y.dtype)).sum(2)
    if summed:
        y_BxLxD = jax.lax.psum(y_BxLxD, summed)
    if spread:
        y_BxLxD = jax.lax.psum_scatter(y_BxLxD, "expert", scatter_dimension=0, tiled=True)
    return y_BxLxD
