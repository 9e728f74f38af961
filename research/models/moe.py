"""A mixture of experts in place of the perceptron (Shazeer 2017; Lepikhin et al. 2020).

Each position goes to the experts its router likes best. An expert takes at most `capacity`
positions of a sequence, the earliest first: whom it leaves out depends on no later position, so a
causal model stays causal, and on no other sequence, so the loss does not depend on the layout.
"""

import math
from typing import Any

import flax.linen as nn
import jax
from jax import numpy as jnp
from ml_collections import FrozenConfigDict

from research.mesh import constrain, gathered
from research.models.common import parameter
from research.models.mlp import activate


def capacity(model: Any, length: int) -> int:
    """Most positions of a sequence of `length` that one expert takes."""
    even = length * model.experts_per_token / model.num_experts
    return min(length, math.ceil(even * model.capacity_factor))


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


def route(expert: jax.Array, experts: int, room: int) -> tuple[jax.Array, jax.Array]:
    """Give each choice a slot of its expert, and each slot its choice.

    Args:
        expert: [batch, choices], the expert of each choice, in order of position.
        experts: how many there are.
        room: slots of an expert.

    Returns:
        slot [batch, choices], among experts * room, or that number where the expert is full;
        choice [batch, experts * room], or the number of choices where the slot is empty.
    """
    batch, choices = expert.shape
    chosen = jax.nn.one_hot(expert, experts, dtype=jnp.int32)
    earlier = ((jnp.cumsum(chosen, 1) - chosen) * chosen).sum(-1)  # choices of the same expert
    slot = jnp.where(earlier < room, expert * room + earlier, experts * room)
    empty = jnp.full((batch, experts * room), choices)
    fill = jax.vmap(lambda empty, slot: empty.at[slot].set(jnp.arange(choices), mode="drop"))
    return slot, fill(empty, slot)


def penalty(model: Any, measures: dict[str, jax.Array]) -> jax.Array | float:
    """What uneven routing adds to a training loss; nothing without experts."""
    return model.balance_weight * measures["balance"] if model.num_experts else 0.0


class MoE(nn.Module):
    """x [batch, length, width] through the experts that its router chooses, their outputs weighed.

    The weights of a position's experts sum to 1 (Jiang et al. 2024). Also returns {"balance": the
    load-balancing loss (Fedus et al. 2021, eq. 4) of each sequence, 1 when even, "dropped": the
    share of choices that found their expert full}, both means over the batch.
    """

    model: FrozenConfigDict
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        model = self.model
        batch, length, width = x.shape
        experts, per_token = model.num_experts, model.experts_per_token
        room, hidden = capacity(model, length), round(width * model.mlp_ratio)
        x = constrain(x, "batch", None, None)

        normal = nn.initializers.normal(width**-0.5)
        router = parameter(self, "router", normal, ("embed", None), (width, experts))
        logits = x.astype(jnp.float32) @ gathered(router, ("embed", None))
        probability = jax.nn.softmax(logits)
        weight, expert = jax.lax.top_k(probability, per_token)
        weight /= weight.sum(-1, keepdims=True)
        slot, choice = route(expert.reshape(batch, -1), experts, room)

        by_position = slot.reshape(batch, length, per_token)
        y = take(x.astype(self.dtype), choice // per_token, by_position)
        y = self._experts(y.reshape(batch, experts, room, width), hidden)
        y = take(y.reshape(batch, -1, width), slot, choice[..., None])
        y = y.reshape(batch, length, per_token, width)
        y = (y * weight[..., None].astype(self.dtype)).sum(2)

        share = jax.nn.one_hot(expert, experts).mean((1, 2))
        balance = experts * (share * probability.mean(1)).sum(-1)
        dropped = slot == experts * room
        return y, {"balance": balance.mean(), "dropped": dropped.mean(dtype=jnp.float32)}

    def _experts(self, y: jax.Array, hidden: int) -> jax.Array:
        """Every expert on its own slots, y [batch, experts, room, width]."""
        model, width = self.model, y.shape[-1]

        def product(name, x, axes, shape, scale=1.0):
            init = nn.initializers.normal(scale * shape[0] ** -0.5)
            axes = ("experts", *axes)
            kernel = parameter(self, name, init, axes, (model.num_experts, *shape))
            kernel = gathered(kernel.astype(self.dtype), axes)
            return jnp.einsum("beci,eio->beco", x, kernel)

        def move(y, *names):
            return constrain(y, *names, None)

        y = move(y, "batch", None, None)
        y = move(y, "expert_batch", "experts", "length")  # all to all
        up, down = ("expert_embed", "mlp"), ("mlp", "expert_embed")
        gate = product("gate", y, up, (width, hidden)) if model.activation == "swiglu" else None
        y = activate(model.activation, product("up", y, up, (width, hidden)), gate)
        y = product("down", y, down, (hidden, width), (2 * model.depth) ** -0.5)
        y = move(y, "expert_batch", "experts", "length")
        return move(y, "batch", None, None)  # and back
