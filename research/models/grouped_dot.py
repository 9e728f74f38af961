"""Rows that are sorted by expert, each group through its own matrix: exact, and nothing is dropped.

TPUs have an instruction for it, `jax.lax.ragged_dot`, which elsewhere multiplies every row by every
matrix. On a CPU tiles of rows go through their expert's matrix in a loop that is as long as there
are tiles; a last tile that runs over its group's end is overwritten by the next group's first.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
from jax import lax
from jax import numpy as jnp

TILE = 256  # rows of a tile, at most: larger ones no longer run faster on a CPU


@jax.custom_vjp
def dot_grouped(x_TxI: jax.Array, w_ExIxO: jax.Array, rows_E: jax.Array) -> jax.Array:
    """x @ w[e] of each group of rows, [T, O]; rows that are in no group give zeros.

    Args:
        rows_E: how many rows are expert e's: the first are the first one's, and so on.
    """
    return _product(x_TxI, w_ExIxO, rows_E)


def _forward(x: Any, w: Any, rows: Any) -> tuple[jax.Array, tuple]:
    saved = x.value if w.perturbed else None, w.value if x.perturbed else None, rows.value
    return _product(x.value, w.value, rows.value), (*saved, w.value.shape)


def _backward(saved: tuple, g_TxO: Any) -> tuple:
    x_TxI, w_ExIxO, rows_E, shape = saved
    if isinstance(g_TxO, jax.custom_derivatives.SymbolicZero):
        return None, None, None
    x_gradient = None if w_ExIxO is None else _product(g_TxO, w_ExIxO, rows_E, transposed=True)
    if x_TxI is None:
        return x_gradient, None, None

    @_batched
    def ragged(x, g, rows):
        w = jax.ShapeDtypeStruct(shape, x.dtype)
        return jax.linear_transpose(lambda w: lax.ragged_dot(x, w, rows), w)(g)[0]

    w_gradient = lax.platform_dependent(x_TxI, g_TxO, rows_E, cpu=_tiled_sums, default=ragged)
    return x_gradient, w_gradient, None


dot_grouped.defvjp(_forward, _backward, symbolic_zeros=True)


def _product(x: jax.Array, w: jax.Array, rows_E: jax.Array, transposed: bool = False) -> jax.Array:
    """x @ w[e], or x @ w[e].T, of each group."""

    @_batched
    def ragged(x, w, rows):
        if not transposed:
            return lax.ragged_dot(x, w, rows)
        out = jax.ShapeDtypeStruct((len(x), w.shape[1]), x.dtype)
        return jax.linear_transpose(lambda y: lax.ragged_dot(y, w, rows), out)(x)[0]

    tiled = functools.partial(_tiled, transposed=transposed)
    y = lax.platform_dependent(x, w, rows_E, cpu=tiled, default=ragged)
    return jnp.where((jnp.arange(len(x)) < rows_E.sum())[:, None], y, 0)


def _batched(function: Callable) -> Callable:
    """`function`, a ragged product, so that a `vmap` finds all of its arrays stacked: JAX asks."""
    batched = jax.custom_batching.custom_vmap(function)

    @batched.def_vmap
    def rule(size, given, *arrays):
        stacked = (
            x if has else jnp.broadcast_to(x, (size, *x.shape))
            for x, has in zip(arrays, given, strict=True)
        )
        return jax.vmap(function)(*stacked), True

    return batched


def _tiled(x: jax.Array, w: jax.Array, rows_E: jax.Array, transposed: bool) -> jax.Array:
    size, count, tile = _tiles(len(x), rows_E)
    x_padded = jnp.pad(x, ((0, size), (0, 0)))
    contracted = ((1,), (1 if transposed else 0,)), ((), ())

    def step(index, y):
        expert, start, _ = tile(index)
        kernel = lax.dynamic_index_in_dim(w, expert, keepdims=False)
        made = lax.dot_general(lax.dynamic_slice_in_dim(x_padded, start, size), kernel, contracted)
        return lax.dynamic_update_slice_in_dim(y, made, start, 0)

    y = jnp.zeros((len(x_padded), w.shape[1 if transposed else 2]), x.dtype)
    return lax.fori_loop(0, count, step, y)[: len(x)]


def _tiled_sums(x: jax.Array, g: jax.Array, rows_E: jax.Array) -> jax.Array:
    """Each group's x.T @ g, [E, I, O]: the gradient of the matrices."""
    size, count, tile = _tiles(len(x), rows_E)
    x, g = (jnp.pad(each, ((0, size), (0, 0))) for each in (x, g))
    wide = jnp.promote_types(x.dtype, jnp.float32)

    def step(index, sums):
        expert, start, end = tile(index)
        here = (start + jnp.arange(size) < end)[:, None]
        rows = jnp.where(here, lax.dynamic_slice_in_dim(x, start, size), 0)
        made = lax.dot(
            rows.T, lax.dynamic_slice_in_dim(g, start, size), preferred_element_type=wide
        )
        former = lax.dynamic_index_in_dim(sums, expert, keepdims=False)
        return lax.dynamic_update_index_in_dim(sums, former + made, expert, 0)

    sums = jnp.zeros((len(rows_E), x.shape[1], g.shape[1]), wide)
    return lax.fori_loop(0, count, step, sums).astype(x.dtype)


def _tiles(rows: int, rows_E: jax.Array) -> tuple[int, jax.Array, Callable]:
    """Rows of a tile, how many tiles there are, and (expert, first row, group's end) of each."""
    size = min(TILE, 2 ** math.ceil(math.log2(max(8, rows / len(rows_E)))))
    tiles_E = -(-rows_E // size)
    last_E, end_E = jnp.cumsum(tiles_E), jnp.cumsum(rows_E)

    def tile(index):
        expert = (last_E <= index).sum()
        within = index - last_E[expert] + tiles_E[expert]
        return expert, end_E[expert] - rows_E[expert] + within * size, end_E[expert]

    return size, last_E[-1], tile
