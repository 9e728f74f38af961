"""The channel part "moe": a mixture of perceptrons (Shazeer 2017; Lepikhin et al. 2020).

Each position goes to the experts its router likes best. An expert takes at most `capacity`
positions of a sequence, the earliest first: whom it leaves out depends on no later position, so a
causal model stays causal, and on no other sequence, so the loss does not depend on the layout.
"""

import math
import sys
from typing import Any, NamedTuple

import flax.linen as nn
import jax
from jax import numpy as jnp
from ml_collections import ConfigDict, FrozenConfigDict

from research.errors import UserError
from research.mesh import constrain, gathered
from research.models import mlp
from research.models.common import activate, parameter, residual_scale
from research.models.numerics import dot_experts
from research.parts import part

ROUTERS = {"top_k": "research.models.top_k_router"}
PARTS = {"router": ROUTERS}  # route(model, logits_BxLxE) -> Routing
_SELF = sys.modules[__name__]


class Routing(NamedTuple):
    """What a router decides of every position, before anyone asks whether there is room.

    Attributes:
        weight_BxLxP: of the P = experts_per_token experts of a position; they sum to 1.
        expert_BxLxP: which they are, the favourite first.
        balance_B: how unevenly each sequence uses the experts, 1 when even.
    """

    weight_BxLxP: jax.Array
    expert_BxLxP: jax.Array
    balance_B: jax.Array


def default_model() -> dict[str, Any]:
    """Its keys of `config.model`, beside those of each expert's perceptron."""
    return mlp.default_model() | dict(
        router="top_k",
        num_experts=8,
        experts_per_token=2,
        capacity_factor=1.25,  # slots of an expert over its even share
        balance_weight=0.01,  # of the load-balancing loss
    )


def check(config: ConfigDict) -> None:
    """Raise UserError, naming the key, for experts that cannot be routed to."""
    mlp.check(config)
    model = config.model
    if not 1 <= model.experts_per_token <= model.num_experts:
        raise UserError(
            f"config.model.experts_per_token={model.experts_per_token} must be from 1 to "
            f"num_experts={model.num_experts}"
        )
    if model.capacity_factor <= 0 or model.balance_weight < 0:
        raise UserError(
            f"config.model.capacity_factor={model.capacity_factor} must be positive and "
            f"balance_weight={model.balance_weight} not negative"
        )


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


def penalty(model: Any, measures: dict[str, jax.Array]) -> jax.Array:
    """What uneven routing adds to a training loss."""
    return model.balance_weight * measures["balance"]


def empty_cache(model: Any, batch: int, length: int) -> dict[str, jax.Array]:
    """How many choices each expert has had, [B, E], and how many it takes of `length` positions."""
    taken_BxE = jnp.zeros((batch, model.num_experts), jnp.int32)
    return {"taken": taken_BxE, "room": jnp.int32(capacity(model, length))}


class MoE(nn.Module):
    """x [B, L, D] through the experts that its router chooses, their outputs weighed.

    Measures {"balance": the mean of `Routing.balance_B`, "dropped": the share of choices that
    found their expert full}. With a cache x are the next positions of a longer sequence.
    """

    model: FrozenConfigDict
    dtype: Any

    @nn.compact
    def __call__(
        self, x_BxLxD: jax.Array, cache: Any = None
    ) -> tuple[jax.Array, dict[str, jax.Array], Any]:
        model = self.model
        batch, length, width = x_BxLxD.shape
        experts, per_token = model.num_experts, model.experts_per_token
        x_BxLxD = constrain(x_BxLxD, "batch", None, None)

        normal = nn.initializers.normal(width**-0.5)
        router = parameter(self, "router", normal, ("embed", None), (width, experts))
        logits_BxLxE = x_BxLxD.astype(jnp.float32) @ gathered(router, ("embed", None))
        routing = part(_SELF, "router", model).route(model, logits_BxLxE)

        expert_BxT = routing.expert_BxLxP.reshape(batch, -1)
        if cache is None:
            slots = capacity(model, length)
            slot_BxT, choice = dispatch(expert_BxT, experts, slots)
        else:
            slots = length  # a position chooses an expert once
            slot_BxT, choice = dispatch(expert_BxT, experts, slots, cache["taken"], cache["room"])
            counts = jax.nn.one_hot(expert_BxT, experts, dtype=jnp.int32).sum(1)
            cache = {**cache, "taken": cache["taken"] + counts}

        by_position = slot_BxT.reshape(batch, length, per_token)
        y = take(x_BxLxD.astype(self.dtype), choice // per_token, by_position)
        y_BxExMxD = self._experts(y.reshape(batch, experts, slots, width))
        y = take(y_BxExMxD.reshape(batch, -1, width), slot_BxT, choice[..., None])
        y_BxLxPxD = y.reshape(batch, length, per_token, width)
        y_BxLxD = (y_BxLxPxD * routing.weight_BxLxP[..., None].astype(self.dtype)).sum(2)

        dropped = (slot_BxT == experts * slots).mean(dtype=jnp.float32)
        return y_BxLxD, {"balance": routing.balance_B.mean(), "dropped": dropped}, cache

    def _experts(self, y_BxExMxD: jax.Array) -> jax.Array:
        """Every expert on its own slots."""
        model, width = self.model, y_BxExMxD.shape[-1]
        hidden = round(width * model.mlp_ratio)

        def product(name, x, axes, shape, scale=1.0):
            init = nn.initializers.normal(scale * shape[0] ** -0.5)
            axes = ("experts", *axes)
            kernel = parameter(self, name, init, axes, (model.num_experts, *shape))
            return dot_experts(x, gathered(kernel.astype(self.dtype), axes))

        def move(y, *names):
            return constrain(y, *names, None)

        y = move(y_BxExMxD, "batch", None, None)
        y = move(y, "expert_batch", "experts", "length")  # all to all
        up, down = ("expert_embed", "mlp"), ("mlp", "expert_embed")
        gate = product("gate", y, up, (width, hidden)) if model.activation == "swiglu" else None
        y_BxExMxF = activate(model.activation, product("up", y, up, (width, hidden)), gate)
        y = product("down", y_BxExMxF, down, (hidden, width), residual_scale(model))
        y = move(y, "expert_batch", "experts", "length")
        return move(y, "batch", None, None)  # and back


def build(model: FrozenConfigDict, dtype: Any) -> MoE:
    """The channel part of one block, named "mlp" there as the perceptron is."""
    return MoE(model, dtype, name="mlp")
