"""The channel part "moe": a mixture of perceptrons (Shazeer 2017; Lepikhin et al. 2020).

A position's output is the weighted sum of what its experts make of it. A router says which: either
each position chooses experts, which then have room for some of those who chose them or, with
`capacity_factor` 0, for all; or each expert chooses positions.

An expert has width * mlp_ratio hidden units. Fine-grained ones (Dai et al. 2024; Krajewski 2024)
are those of a smaller ratio: a granularity G, the hidden units of a dense perceptron over those of
one expert, is mlp_ratio / G, with G times as many experts in all and a position.
"""

import functools
import sys
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
from jax import numpy as jnp
from ml_collections import ConfigDict, FrozenConfigDict

from research.errors import UserError
from research.mesh import constrain, gathered
from research.models import dropless, mlp
from research.models.common import GATED, activate, parameter, residual_scale
from research.models.expert_slots import capacity, dispatch, rows, take
from research.models.numerics import dot_experts
from research.models.token_choice import Routing
from research.parts import part

# A router has route(model, logits_BxLxE, bias_E or None) -> token_choice.Routing, and the keys of
# token_choice; or choose(model, logits_BxLxE) -> (weight, position), [B, E, M] each.
ROUTERS = {
    "top_k": "research.models.top_k_router",
    "sigmoid": "research.models.sigmoid_router",
    "expert_choice": "research.models.expert_choice_router",
}
PARTS = {"router": ROUTERS}
UP, DOWN = ("experts", "expert_embed", "mlp"), ("experts", "mlp", "expert_embed")
STEER = 1e-4  # of the bias's gradient: to an optimizer any size is one, no norm is to see it
_SELF = sys.modules[__name__]


def default_model() -> dict[str, Any]:
    """Its keys of `config.model`, beside those of each expert's perceptron and of the router."""
    return mlp.default_model() | dict(
        router="top_k",
        num_experts=8,
        experts_per_token=2,  # those that a position passes, of these
        shared_experts=0,  # as many more that every position passes (Dai et al. 2024, section 3.2)
        router_z_weight=0.0,  # of the mean square of log sum exp of the router's logits
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
    for key in ("shared_experts", "router_z_weight"):
        if model[key] < 0:
            raise UserError(f"config.model.{key}={model[key]} must not be negative")


def is_dropless(model: Any) -> bool:
    """Whether there is room for every choice, so that no expert has slots."""
    return model.get("capacity_factor") == 0


def visits(model: Any, length: int) -> float:
    """Rows of routed experts for each of `length` positions, empty slots among them."""
    if is_dropless(model):
        return model.experts_per_token
    return model.num_experts * capacity(model, length) / length


def penalty(model: Any, measures: dict[str, jax.Array]) -> jax.Array:
    """What routing adds to a training loss, and a zero by which a balancing bias is steered.

    The load-balancing loss is that of Fedus et al. (2021, eq. 4), a sequence at a time; the loss
    of the router's logits that of Zoph et al. (2022, eq. 5).
    """
    total = model.router_z_weight * measures.get("router_z", 0.0)
    if "balance" in measures:
        total += model.balance_weight * measures["balance"]
    if model.get("balance_rate"):
        total += measures["load_max"] - jax.lax.stop_gradient(measures["load_max"])
    return total


def empty_cache(model: Any, batch: int, length: int) -> dict[str, jax.Array] | None:
    """How many choices each expert has had, [B, E], and how many it takes of `length` positions.

    None where nobody is dropped: then a position asks for nothing of those before it.
    """
    if is_dropless(model):
        return None
    taken_BxE = jnp.zeros((batch, model.num_experts), jnp.int32)
    return {"taken": taken_BxE, "room": jnp.int32(capacity(model, length))}


def load(routing: Routing, bias_E: jax.Array | None) -> dict[str, jax.Array]:
    """How evenly a batch uses its experts.

    "balance" is the load-balancing loss, "load_max" how often the busiest expert is chosen over an
    even share, "experts_used" the exponential of the loads' entropy over the number of experts:
    all 1 when even, and E, E and 1 / E when every position chooses one.

    A bias steers by no loss (Wang et al. 2024): its gradient, which "load_max" carries, is said to
    be how far an expert's load is from an even one, so that a step makes the busy less liked. The
    optimizer moves it as other scalars, and where that is Adam by about the rate, whatever STEER.
    """
    experts = routing.probability_BxLxE.shape[-1]
    share_BxE = jax.nn.one_hot(routing.expert_BxLxP, experts).mean((1, 2))
    balance_B = experts * (share_BxE * routing.probability_BxLxE.mean(1)).sum(-1)
    share_E = share_BxE.mean(0)
    load_max = experts * share_E.max()
    if bias_E is not None:
        direction_E = STEER * (experts * share_E - 1)
        load_max += ((bias_E - jax.lax.stop_gradient(bias_E)) * direction_E).sum()
    used = jnp.exp(jax.scipy.special.entr(share_E).sum()) / experts
    return {"balance": balance_B.mean(), "load_max": load_max, "experts_used": used}


class MoE(nn.Module):
    """x [B, L, D] through the experts that its router chooses, their outputs weighed and summed.

    It measures, where positions choose, `load` and, where experts have slots, "dropped", the share
    of choices that found their expert full; where experts choose, "unchosen", the share of
    positions that none took; and "router_z" where that is in the loss. With a cache x are the next
    `positions` of a longer sequence, negative ones of which are padding.
    """

    model: FrozenConfigDict
    dtype: Any

    @nn.compact
    def __call__(
        self, x_BxLxD: jax.Array, cache: Any = None, positions: Any = None
    ) -> tuple[jax.Array, dict[str, jax.Array], Any]:
        model, width = self.model, x_BxLxD.shape[-1]
        along = "length" if is_dropless(model) else None
        x_BxLxD = constrain(x_BxLxD, "batch", along, None)
        normal = nn.initializers.normal(width**-0.5)
        router = parameter(self, "router", normal, ("embed", None), (width, model.num_experts))
        logits_BxLxE = x_BxLxD.astype(jnp.float32) @ gathered(router, ("embed", None))
        kernels = self._kernels(width)
        chosen = part(_SELF, "router", model)
        if hasattr(chosen, "choose"):
            taken = chosen.choose(model, logits_BxLxE)
            y_BxLxD, measures = self._by_experts(x_BxLxD, taken, kernels)
        else:
            bias_E = None
            if model.balance_rate:
                zeros = nn.initializers.zeros
                bias_E = parameter(self, "bias", zeros, (None,), (model.num_experts,))
            liked = None if bias_E is None else model.balance_rate * jax.lax.stop_gradient(bias_E)
            routing = chosen.route(model, logits_BxLxE, liked)
            if cache is not None:  # padding before a text takes nobody's place
                there = jnp.atleast_2d(positions)[..., None] >= 0
                expert_BxLxP = jnp.where(there, routing.expert_BxLxP, model.num_experts)
                routing = routing._replace(expert_BxLxP=expert_BxLxP)
            y_BxLxD, measures, cache = self._by_positions(x_BxLxD, routing, kernels, cache)
            measures |= load(routing, bias_E)
        if model.router_z_weight:
            normaliser_BxL = jax.nn.logsumexp(logits_BxLxE, -1)
            measures["router_z"] = jnp.square(normaliser_BxL).mean()
        if model.shared_experts:
            hidden = model.shared_experts * round(width * model.mlp_ratio)
            together = FrozenConfigDict({**model, "mlp_ratio": hidden / width})
            y_BxLxD += mlp.MLP(together, self.dtype, name="shared")(x_BxLxD)[0]
        return y_BxLxD, measures, cache

    def _kernels(self, width: int) -> dropless.Kernels:
        """The matrices of all experts, [E, I, O], as products read them."""
        model, hidden = self.model, round(width * self.model.mlp_ratio)

        def kernel(name, axes, shape, scale=1.0):
            init = nn.initializers.normal(scale * shape[0] ** -0.5)
            found = parameter(self, name, init, axes, (model.num_experts, *shape))
            return gathered(found.astype(self.dtype), axes)

        names = ("gate", "up") if model.activation in GATED else ("up",)
        kernels = {name: kernel(name, UP, (width, hidden)) for name in names}
        return kernels | {"down": kernel("down", DOWN, (hidden, width), residual_scale(model))}

    def _by_positions(
        self, x_BxLxD: jax.Array, routing: Routing, kernels: dropless.Kernels, cache: Any
    ) -> tuple[jax.Array, dict[str, jax.Array], Any]:
        """What each position's experts make of it, and the share of choices that had no room."""
        model = self.model
        (batch, length, width), experts = x_BxLxD.shape, model.num_experts
        if is_dropless(model):
            run = functools.partial(perceptron, model)
            x_BxLxD = x_BxLxD.astype(self.dtype)
            chosen = routing.weight_BxLxP, routing.expert_BxLxP
            return dropless.run(x_BxLxD, *chosen, kernels, run), {}, cache
        per_token = model.experts_per_token
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
        y_BxExMxD = self._in_slots(y.reshape(batch, experts, slots, width), kernels)
        y = take(y_BxExMxD.reshape(batch, -1, width), slot_BxT, choice[..., None])
        y_BxLxPxD = y.reshape(batch, length, per_token, width)
        y_BxLxD = (y_BxLxPxD * routing.weight_BxLxP[..., None].astype(self.dtype)).sum(2)
        dropped = (slot_BxT == experts * slots).mean(dtype=jnp.float32)
        return y_BxLxD, {"dropped": dropped}, cache

    def _by_experts(
        self, x_BxLxD: jax.Array, taken: tuple[jax.Array, jax.Array], kernels: dropless.Kernels
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """What experts make of the positions they took, and the share that none did."""
        weight_BxExM, position_BxExM = taken
        batch, length, width = x_BxLxD.shape
        position_BxT = position_BxExM.reshape(batch, -1)
        y = rows(x_BxLxD.astype(self.dtype), position_BxT)
        y_BxExMxD = self._in_slots(y.reshape(*position_BxExM.shape, width), kernels)
        y_BxExMxD *= weight_BxExM[..., None].astype(self.dtype)

        def add(position_T, y_TxD):
            return jnp.zeros((length, *y_TxD.shape[1:]), y_TxD.dtype).at[position_T].add(y_TxD)

        y_BxLxD = jax.vmap(add)(position_BxT, y_BxExMxD.reshape(batch, -1, width))
        takers_BxL = jax.vmap(add)(position_BxT, jnp.ones_like(position_BxT))
        return y_BxLxD, {"unchosen": (takers_BxL == 0).mean(dtype=jnp.float32)}

    def _in_slots(self, y_BxExMxD: jax.Array, kernels: dropless.Kernels) -> jax.Array:
        """Every expert on its own slots."""

        def move(y, *names):
            return constrain(y, *names, None)

        y = move(y_BxExMxD, "batch", None, None)
        y = move(y, "expert_batch", "experts", "length")  # all to all
        y = perceptron(self.model, dot_experts, y, kernels)
        y = move(y, "expert_batch", "experts", "length")
        return move(y, "batch", None, None)  # and back


def perceptron(model: Any, dot: Callable, x: jax.Array, kernels: dropless.Kernels) -> jax.Array:
    """What experts make of their rows x, by `dot` of rows and the kernels of all."""
    gate = dot(x, kernels["gate"]) if "gate" in kernels else None
    return dot(activate(model.activation, dot(x, kernels["up"]), gate), kernels["down"])


def build(model: FrozenConfigDict, dtype: Any) -> MoE:
    """The channel part of one block, named "mlp" there as the perceptron is."""
    return MoE(model, dtype, name="mlp")
