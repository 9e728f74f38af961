"""Slots of experts: each takes at most `capacity` positions of a sequence, and the rest is dropped.

Whom a full expert leaves out depends on no later position, so a causal model stays causal, and on
no other sequence, so the loss does not depend on the layout (Lepikhin et al. 2020).
"""

import math
from typing import Any

import jax
from jax import numpy as jnp


def capacity(model: Any, length: int) -> int:
    """Most positions of a sequence of `length` that one expert takes.

    Its even share, times `capacity_factor` where the router has one.
    """
    even = length * model.experts_per_token / model.num_experts
    return min(length, math.ceil(even * model.get("capacity_factor", 1.0)))


def rows(x: jax.Array, index: jax.Array) -> jax.Array:
    """Rows of x [batch, n, width] at `index` [batch, m]; row n is zero."""
    return jax.vmap(lambda x, index: jnp.take(x, index, 0, mode="fill", fill_value=0))(x, index)


@jax.custom_vjp
def take(x: jax.Array, index: jax.Array, readers: jax.Array) -> jax.Array:
    """`rows`, with its gradient a `rows` too: a scatter is slow on a TPU.

    `readers` [batch, n, r] are the places in `index` that name each row, m for none.
    """
    del readers
    return rows(x, index)


def _take_backward(readers: jax.Array, g: jax.Array) -> tuple:
    parts = [rows(g, readers[..., each]) for each in range(readers.shape[-1])]
    return sum(parts[1:], parts[0]), None, None


take.defvjp(lambda x, index, readers: (rows(x, index), readers), _take_backward)


def dispatch(
    expert_BxT: jax.Array,
    experts: int,
    slots: int,
    taken_BxE: jax.Array | int = 0,
    room: Any = None,
) -> tuple[jax.Array, jax.Array]:
    """Give each choice a slot of its expert, and each slot its choice.

    Args:
        expert_BxT: the expert of each choice, in order of position.
        experts: how many there are.
        slots: of an expert, for these choices.
        taken_BxE: choices of each expert in the positions before.
        room: choices that an expert takes in all, these `slots` unless said.

    Returns:
        slot [B, T], among experts * slots, or that number where the expert is full;
        choice [B, experts * slots], or T where the slot is empty.
    """
    batch, choices = expert_BxT.shape
    chosen = jax.nn.one_hot(expert_BxT, experts, dtype=jnp.int32)
    earlier = ((jnp.cumsum(chosen, 1) - chosen) * chosen).sum(-1)  # choices of the same expert
    before = earlier
    if room is not None:
        before = earlier + jnp.take_along_axis(taken_BxE, expert_BxT, 1)
    full = before >= (slots if room is None else room)
    slot_BxT = jnp.where(full, experts * slots, expert_BxT * slots + earlier)
    empty = jnp.full((batch, experts * slots), choices)
    fill = jax.vmap(lambda empty, slot: empty.at[slot].set(jnp.arange(choices), mode="drop"))
    return slot_BxT, fill(empty, slot_BxT)
