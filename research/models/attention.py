"""The mixer "attention": softmax attention of many heads, by any rule, positions and kernel.

What other attentions share with it stands here, too: who stands where, the kinds of rules, and
`attend`, which takes queries, keys and values through cache and kernel.
"""

import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
from jax import numpy as jnp
from ml_collections import ConfigDict, FrozenConfigDict
from ml_collections.config_dict import placeholder

from research.errors import UserError
from research.mesh import constrain
from research.models import attention_cache, kernels, positions
from research.models.attention_cache import Cache
from research.models.common import Dense, Norm, look_up, parameter, residual_map
from research.models.kernels import KERNELS, Places, Rule
from research.models.positions import POSITIONS
from research.parts import load

# A kind is a module with sees(model, query, key) -> whether a query at one position sees a key at
# another, broadcast, or None for all; a causal network leaves out the future by itself. band(model)
# -> (left, right), where what it sees are that many neighbours, lets tiled kernels skip the rest,
# and caches forget it.
KINDS = {
    "full": "research.models.full_attention",
    "window": "research.models.window_attention",
    "strided": "research.models.strided_attention",
    "sinks": "research.models.sink_attention",
}
PARTS = {"attention": KINDS, "positions": POSITIONS}
NARROW = True  # its cache may be
check_hardware = kernels.check_hardware


class Where(NamedTuple):
    """Where the positions of a batch stand, if not simply one after another.

    Attributes:
        positions: int [L] or [B, L], counted within a text; None is 0, 1, 2, ... Where there is a
            cache, what is below 0 is padding before a text, which nothing sees.
        segments: int [B, L], which of several texts; texts do not see each other.
        tokens: int [B, L], what stands there, for layers that look their values up.
        open: bool [B, L], what all positions see, also those before it: a prefix. Where there is a
            cache, given at all it says that all that is there is so.
        order: int [L] or [B, L], when a text comes to be: a position sees what has its own number,
            and what has a lower one that is odd, which is settled; one that is even is a draft.
        before: int [L], at which index stands what is before each in the text, where it is not the
            one before; of networks that look there (`research.models.decoder`).
        there: bool [B, S], which positions of a memory are there; None is all of them.
    """

    positions: Any = None
    segments: Any = None
    tokens: Any = None
    open: Any = None
    order: Any = None
    before: Any = None
    there: Any = None


IN_ORDER = Where()


def default_model() -> dict[str, Any]:
    """Its keys of `config.model`; `num_heads` None means "the recipe decides"."""
    return shared_keys() | dict(
        num_kv_heads=0,  # 0: one key-value head a query head
        sink_logits=False,  # a learned logit a head, of nothing (gpt-oss 2025; Miller 2023)
        attention_gate=False,  # what each head says is gated by its input (Qiu et al. 2025)
    )


def shared_keys() -> dict[str, Any]:
    """Keys that all mixers made of softmax attention have."""
    return dict(
        attention="full",
        positions="rotary",
        num_heads=placeholder(int),
        qk_norm=True,
    )


def check(config: ConfigDict) -> None:
    """Raise UserError, naming the key, for heads that the width does not allow."""
    check_heads(config)
    model = config.model
    if model.num_kv_heads < 0:
        raise UserError(f"config.model.num_kv_heads={model.num_kv_heads} must not be negative")
    if model.num_kv_heads and model.num_heads % model.num_kv_heads:
        raise UserError(
            f"config.model.num_heads={model.num_heads} is not divisible by "
            f"num_kv_heads={model.num_kv_heads}"
        )


def check_heads(config: ConfigDict) -> None:
    """Raise UserError for heads that do not divide the width, or cannot be turned."""
    model = config.model
    if model.num_heads < 1:
        raise UserError(f"config.model.num_heads={model.num_heads} must be at least 1")
    if model.width % model.num_heads:
        valid = [h for h in range(1, model.width + 1) if model.width % h == 0]
        near = min(valid, key=lambda h: abs(h - model.num_heads))
        raise UserError(
            f"config.model.width={model.width} is not divisible by num_heads={model.num_heads}; "
            f"nearest valid num_heads: {near}"
        )
    if model.positions == "rotary" and (model.width // model.num_heads) % 2:
        raise UserError(
            f"config.model.positions='rotary' needs an even head size, got width/num_heads="
            f"{model.width // model.num_heads}"
        )


def empty_cache(model: Any, batch: int, length: int, dtype: Any) -> Cache:
    """Room for the keys and values of `length` positions: what a later position needs of them."""
    each = (model.num_kv_heads or model.num_heads, model.width // model.num_heads)
    kept = {"key": each, "value": each}
    return attention_cache.empty(kept, batch, length, back(model), dtype)


def back(model: Any) -> int | None:
    """How many positions before its own a position can see; None where there is no bound."""
    kind = load("model.attention", model.attention, KINDS)
    return kind.band(model)[0] if hasattr(kind, "band") else None


def turned(model: Any, where: Where, *arrays: jax.Array) -> list[jax.Array]:
    """Queries or keys [..., L, K] that know their positions, where those turn them."""
    part, at = positions.load(model), where.positions
    if not hasattr(part, "turn"):
        return list(arrays)
    at = at[:, None] if at is not None and at.ndim == 2 else at
    return [part.turn(model, x, at) for x in arrays]


def attend(
    model: Any,
    causal: bool,
    kernel: str,
    q_BxNxRxK: jax.Array,
    k_BxNxSxK: jax.Array,
    v_BxNxSxV: jax.Array,
    where: Where,
    key_positions: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array | None]:
    """What the rows gather, [B, N, R, V], and the logs of their normalisers.

    Args:
        key_positions: [B, S] of what a cache holds; None without one.
    """
    k_BxNxSxK = constrain(k_BxNxSxK, "batch", "heads", None, None)  # of every position
    v_BxNxSxV = constrain(v_BxNxSxV, "batch", "heads", None, None)
    kind = load("model.attention", model.attention, KINDS)
    rule = Rule(kind, model, causal, positions.load(model))
    length = where.positions.shape[-1] if key_positions is not None else k_BxNxSxK.shape[2]
    places = _places(where, length, q_BxNxRxK.shape[2] // length, key_positions, rule.biased)
    run = KERNELS[kernel if key_positions is None else "dense"]  # few rows need no tiles
    return run(q_BxNxRxK, k_BxNxSxK, v_BxNxSxV, places, rule)


def _places(
    where: Where, length: int, groups: int, key_positions: jax.Array | None, biased: bool
) -> Places:
    """Places of `length` * `groups` rows and of the keys."""
    own = jnp.arange(length) if where.positions is None else where.positions
    segments, order = where.segments, where.order
    there = None if key_positions is None else key_positions >= 0
    opened = where.open if where.open is None or there is None else there
    return Places(
        query=jnp.repeat(own, groups, -1),
        key=own if key_positions is None else key_positions,
        query_segment=None if segments is None else jnp.repeat(segments, groups, -1),
        key_segment=segments,
        key_open=opened,
        key_there=there,
        query_group=jnp.tile(jnp.arange(groups), length) if biased else None,
        query_order=None if order is None else jnp.repeat(order, groups, -1),
        key_order=order,
    )


def attended(cache: Any, where: Where, new: Cache, attend_to: Callable) -> tuple[Any, Any]:
    """`attend_to` of the `new` keys and values, after all that a cache holds; and the next cache.

    Args:
        new: arrays [B, N, L, K] by name.
        attend_to: (arrays [B, N, S, K] by name, positions [B, S] or None without a cache) -> any.
    """
    if cache is None:
        return attend_to(new, None), None
    batch = len(next(iter(new.values())))
    at = jnp.broadcast_to(where.positions, (batch, where.positions.shape[-1]))
    return attention_cache.attended(cache, at, new, attend_to)


class Attention(nn.Module):
    """x [B, L, D] to [B, L, D], with one product for queries, keys and values.

    With a cache (`empty_cache`) x are the next L positions, `where.positions` [L]: they attend to
    what the cache holds and to each other, and join it. Returns the cache too, None without one.
    """

    model: FrozenConfigDict
    causal: bool
    kernel: str
    dtype: Any

    @nn.compact
    def __call__(
        self, x_BxLxD: jax.Array, where: Where = IN_ORDER, cache: Any = None
    ) -> tuple[jax.Array, Any]:
        model = self.model
        batch, length, width = x_BxLxD.shape
        head_dim = width // model.num_heads
        kv_heads = model.num_kv_heads or model.num_heads
        groups = model.num_heads // kv_heads
        qkv = Dense(
            (kv_heads, groups + 2, head_dim),
            ("embed", "heads", None, "head_dim"),
            model.bias,
            dtype=self.dtype,
            name="qkv",
        )(x_BxLxD)
        qkv = constrain(qkv, "batch", "length", "heads", None, None)
        # Split before heads come forward: the gradient then is put together in one pass.
        q_BxLxNxGxK, k_BxLxNx1xK, v_BxLxNx1xK = jnp.split(qkv, [groups, groups + 1], 3)
        q_GxBxNxLxK = q_BxLxNxGxK.transpose(3, 0, 2, 1, 4)
        k_BxNxLxK, v_BxNxLxK = (x[:, :, :, 0].swapaxes(1, 2) for x in (k_BxLxNx1xK, v_BxLxNx1xK))
        if where.tokens is not None:
            v_BxNxLxK += self._looked_up(where.tokens, kv_heads, head_dim)
        if model.qk_norm:
            q_GxBxNxLxK = Norm("rmsnorm", name="query_norm")(q_GxBxNxLxK)
            k_BxNxLxK = Norm("rmsnorm", name="key_norm")(k_BxNxLxK)
        q_GxBxNxLxK, k_BxNxLxK = turned(model, where, q_GxBxNxLxK, k_BxNxLxK)
        q_BxNxRxK = q_GxBxNxLxK.transpose(1, 2, 3, 0, 4).reshape(batch, kv_heads, -1, head_dim)
        q_BxNxRxK = constrain(q_BxNxRxK, "batch", "heads", "length", None)

        def attend_to(seen, at):
            key, value = seen["key"], seen["value"]
            return attend(model, self.causal, self.kernel, q_BxNxRxK, key, value, where, at)

        new = {"key": k_BxNxLxK, "value": v_BxNxLxK}
        (y, normaliser_BxNxR), cache = attended(cache, where, new, attend_to)
        y = constrain(y, "batch", "heads", "length", None)
        y = y.reshape(batch, kv_heads, length, groups, head_dim)
        if model.sink_logits:
            zeros, shape = jax.nn.initializers.zeros, (kv_heads, groups)
            sink_NxG = parameter(self, "sink", zeros, (None, None), shape)
            logs: Any = normaliser_BxNxR  # a kernel without them is refused
            share = jax.nn.sigmoid(logs.reshape(y.shape[:-1]) - sink_NxG[:, None])
            y = y * share[..., None].astype(y.dtype)
        y_BxLxD = y.transpose(0, 2, 1, 3, 4).reshape(batch, length, width)
        if model.attention_gate:
            gate = Dense((width,), ("embed", "heads"), model.bias, dtype=self.dtype, name="gate")
            y_BxLxD *= jax.nn.sigmoid(gate(x_BxLxD))
        return residual_map(model, width, self.dtype)(y_BxLxD), cache

    def _looked_up(self, tokens_BxL: jax.Array, kv_heads: int, head_dim: int) -> jax.Array:
        """The values that each token has in this layer whatever is around it, [B, N, L, K]."""
        zeros, ones = jax.nn.initializers.zeros, jax.nn.initializers.ones
        shape = (self.model.vocab_size, kv_heads * head_dim)
        table = parameter(self, "values", zeros, ("lookup", "embed"), shape)
        gate_N = parameter(self, "values_gate", ones, (None,), (kv_heads,))
        rows_BxLxD = look_up(table, tokens_BxL, self.dtype)
        rows_BxLxNxK = rows_BxLxD.reshape(*tokens_BxL.shape, kv_heads, head_dim)
        return (rows_BxLxNxK * gate_N.astype(self.dtype)[:, None]).transpose(0, 2, 1, 3)


def build(model: FrozenConfigDict, causal: bool, kernel: str, dtype: Any) -> Attention:
    """The mixer of one block, named "attention" there."""
    return Attention(model, causal, kernel, dtype, name="attention")


_SELF = sys.modules[__name__]
