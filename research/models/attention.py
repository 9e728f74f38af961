"""The mixer "attention": softmax self-attention with rotary positions, by any rule and kernel."""

import sys
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np
from jax import lax
from jax import numpy as jnp
from ml_collections import ConfigDict, FrozenConfigDict
from ml_collections.config_dict import placeholder

from research.errors import UserError
from research.mesh import constrain
from research.models import kernels
from research.models.common import Dense, Norm, look_up, parameter, residual_scale
from research.models.kernels import KERNELS, Places, Rule
from research.parts import part

# A kind is a module with sees(model, query, key) -> whether a query at one position sees a key at
# another, broadcast, or None for all; a causal network leaves out the future by itself. band(model)
# -> (left, right), where what it sees are that many neighbours, lets tiled kernels skip the rest.
KINDS = {
    "full": "research.models.full_attention",
    "window": "research.models.window_attention",
}
PARTS = {"attention": KINDS}
check_hardware = kernels.check_hardware


class Where(NamedTuple):
    """Where the positions of a batch stand, if not simply one after another.

    Attributes:
        positions: int [L] or [B, L], counted within a text; None is 0, 1, 2, ...
        segments: int [B, L], which of several texts; texts do not see each other.
        tokens: int [B, L], what stands there, for layers that look their values up.
    """

    positions: Any = None
    segments: Any = None
    tokens: Any = None


IN_ORDER = Where()


def default_model() -> dict[str, Any]:
    """Its keys of `config.model`; `num_heads` None means "the recipe decides"."""
    return dict(
        attention="full",
        num_heads=placeholder(int),
        num_kv_heads=0,  # 0: one key-value head a query head
        qk_norm=True,
        rotary=True,
    )


def check(config: ConfigDict) -> None:
    """Raise UserError, naming the key, for heads that the width does not allow."""
    model = config.model
    if model.num_heads < 1:
        raise UserError(f"config.model.num_heads={model.num_heads} must be at least 1")
    if model.num_kv_heads < 0:
        raise UserError(f"config.model.num_kv_heads={model.num_kv_heads} must not be negative")
    if model.width % model.num_heads:
        valid = [h for h in range(1, model.width + 1) if model.width % h == 0]
        near = min(valid, key=lambda h: abs(h - model.num_heads))
        raise UserError(
            f"config.model.width={model.width} is not divisible by num_heads={model.num_heads}; "
            f"nearest valid num_heads: {near}"
        )
    if model.num_kv_heads and model.num_heads % model.num_kv_heads:
        raise UserError(
            f"config.model.num_heads={model.num_heads} is not divisible by "
            f"num_kv_heads={model.num_kv_heads}"
        )
    if model.rotary and (model.width // model.num_heads) % 2:
        raise UserError(
            f"config.model.rotary needs an even head size, got width/num_heads="
            f"{model.width // model.num_heads}"
        )


def rotate(x: jax.Array, positions: jax.Array | None = None, base: float = 10_000.0) -> jax.Array:
    """Rotary positions (Su et al. 2021, eq. 34) on x [..., L, K]; `positions` [L] or [B, 1, L].

    Where positions are simply in order, the cosines and sines are constants of the program: XLA
    fuses them with the product otherwise, and on CPU finds them anew for each head of each example.
    """
    length, half = x.shape[-2], x.shape[-1] // 2
    xp: Any = np if positions is None else jnp
    at: Any = np.arange(length) if positions is None else positions
    frequency = base ** (-np.arange(half, dtype=np.float32) / half)
    angle = at.astype(np.float32)[..., None] * frequency
    cos, sin = xp.cos(angle).astype(x.dtype), xp.sin(angle).astype(x.dtype)
    first, second = jnp.split(x, 2, -1)
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], -1)


def empty_cache(model: Any, batch: int, length: int, dtype: Any) -> dict[str, jax.Array]:
    """Room for the keys and values of `length` positions: what a later position needs of them."""
    kv_heads = model.num_kv_heads or model.num_heads
    shape = (batch, kv_heads, length, model.width // model.num_heads)
    return {"key": jnp.zeros(shape, dtype), "value": jnp.zeros(shape, dtype)}


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
        if model.rotary:
            at = where.positions
            at = at[:, None] if at is not None and at.ndim == 2 else at
            q_GxBxNxLxK, k_BxNxLxK = rotate(q_GxBxNxLxK, at), rotate(k_BxNxLxK, at)
        q_BxNxRxK = q_GxBxNxLxK.transpose(1, 2, 3, 0, 4).reshape(batch, kv_heads, -1, head_dim)
        q_BxNxRxK = constrain(q_BxNxRxK, "batch", "heads", "length", None)
        attend = KERNELS[self.kernel if cache is None else "dense"]  # few rows need no tiles
        if cache is not None:
            start = (0, 0, where.positions[0], 0)
            new = {"key": k_BxNxLxK, "value": v_BxNxLxK}
            cache = {name: lax.dynamic_update_slice(cache[name], new[name], start) for name in new}
            k_BxNxLxK, v_BxNxLxK = cache["key"], cache["value"]
        k_BxNxSxK = constrain(k_BxNxLxK, "batch", "heads", None, None)  # of every position
        v_BxNxSxK = constrain(v_BxNxLxK, "batch", "heads", None, None)
        places = _places(where, length, k_BxNxSxK.shape[2], groups, cache is not None)
        rule = Rule(part(_SELF, "attention", model), model, self.causal)
        y: Any = attend(q_BxNxRxK, k_BxNxSxK, v_BxNxSxK, places, rule)
        y = constrain(y, "batch", "heads", "length", None)
        y = y.reshape(batch, kv_heads, length, groups, head_dim)
        y_BxLxD = y.transpose(0, 2, 1, 3, 4).reshape(batch, length, width)
        scale = residual_scale(model)
        out = Dense((width,), ("heads", "embed"), model.bias, scale, self.dtype, name="out")
        return out(y_BxLxD), cache

    def _looked_up(self, tokens_BxL: jax.Array, kv_heads: int, head_dim: int) -> jax.Array:
        """The values that each token has in this layer whatever is around it, [B, N, L, K]."""
        zeros, ones = jax.nn.initializers.zeros, jax.nn.initializers.ones
        shape = (self.model.vocab_size, kv_heads * head_dim)
        table = parameter(self, "values", zeros, ("lookup", "embed"), shape)
        gate_N = parameter(self, "values_gate", ones, (None,), (kv_heads,))
        rows_BxLxD = look_up(table, tokens_BxL, self.dtype)
        rows_BxLxNxK = rows_BxLxD.reshape(*tokens_BxL.shape, kv_heads, head_dim)
        return (rows_BxLxNxK * gate_N.astype(self.dtype)[:, None]).transpose(0, 2, 1, 3)


def _places(where: Where, length: int, keys: int, groups: int, cached: bool) -> Places:
    """Places of `length` * `groups` rows and of `keys` keys; those of a cache begin at 0."""
    positions = jnp.arange(length) if where.positions is None else where.positions
    of_keys = jnp.arange(keys) if cached else positions
    segments = where.segments
    of_rows = None if segments is None else jnp.repeat(segments, groups, -1)
    return Places(jnp.repeat(positions, groups, -1), of_keys, of_rows, segments)


def build(model: FrozenConfigDict, causal: bool, kernel: str, dtype: Any) -> Attention:
    """The mixer of one block, named "attention" there."""
    return Attention(model, causal, kernel, dtype, name="attention")


_SELF = sys.modules[__name__]
