"""The mixer "gated_delta": Gated DeltaNet (Yang, Kautz & Hatamizadeh 2024, arXiv 2412.06464).

A head's memory decays, and what is written for a key takes the place of what was there for it
(section 3 and figure 1): time linear in length, and a state of constant size.
"""

from typing import Any

import flax.linen as nn
import jax
from jax import numpy as jnp
from ml_collections import ConfigDict, FrozenConfigDict
from ml_collections.config_dict import placeholder

from research.errors import UserError
from research.mesh import constrain
from research.models.attention import IN_ORDER, Where
from research.models.common import Dense, Norm, residual_map
from research.models.linear_recurrence import check_chunk, recur
from research.models.recurrence import (
    CausalConvolution,
    check_heads,
    check_window,
    directed,
    masked,
    real,
    runs,
    step_and_decay,
)

HEADS = ("heads", None, "head_dim")


def default_model() -> dict[str, Any]:
    """Its keys of `config.model`; `num_heads` None means "the recipe decides"."""
    return dict(
        num_heads=placeholder(int),
        value_ratio=1,  # features of a head's value over those of its key, width / num_heads
        conv_window=4,  # taps of the convolutions of queries, keys and values
        chunk=32,  # positions computed at once; 1: one after another
    )


def check(config: ConfigDict) -> None:
    """Raise UserError, naming the key, for heads, a window or chunks that cannot be."""
    check_heads(config)
    check_window(config)
    check_chunk(config)
    if config.model.value_ratio < 1:
        raise UserError(f"config.model.value_ratio={config.model.value_ratio} must be at least 1")


def empty_cache(model: Any, batch: int, length: int, dtype: Any) -> dict[str, jax.Array]:
    """Memories that hold nothing and the taps before the first position, whatever the length."""
    heads, ratio = model.num_heads, model.value_ratio
    features = model.width // heads
    return {
        "state": jnp.zeros((batch, heads, features, ratio * features), jnp.float32),
        "taps": jnp.zeros((batch, model.conv_window - 1, heads, 2 + ratio, features), dtype),
    }


def unit(x: jax.Array) -> jax.Array:
    """x over its length along the last axis, in float32."""
    x = x.astype(jnp.float32)
    return x * jax.lax.rsqrt(jnp.square(x).sum(-1, keepdims=True) + 1e-6)


class GatedDelta(nn.Module):
    """x [B, L, D] to [B, L, D], with one product for queries, keys, values and output gates.

    With a cache (`empty_cache`) x are the next L positions. Returns the cache too, None without.
    """

    model: FrozenConfigDict
    dtype: Any

    @nn.compact
    def __call__(
        self, x_BxLxD: jax.Array, where: Where = IN_ORDER, cache: Any = None
    ) -> tuple[jax.Array, Any]:
        model, kept = self.model, real(where)
        batch, length, width = x_BxLxD.shape
        heads, ratio = model.num_heads, model.value_ratio
        given, cache = cache is not None, cache or dict.fromkeys(("state", "taps"))
        wide = Dense(
            (heads, 2 + 2 * ratio, width // heads),
            ("embed", *HEADS),
            model.bias,
            dtype=self.dtype,
            name="qkvg",
        )(x_BxLxD)
        wide = constrain(wide, "batch", None, "heads", None, None)
        qkv, gate = jnp.split(wide, [2 + ratio], 3)
        convolve = CausalConvolution(model.conv_window, HEADS, self.dtype, name="conv")
        qkv, taps = convolve(qkv, where, cache["taps"])
        q, k, v = jnp.split(jax.nn.silu(qkv).swapaxes(1, 2), [1, 2], 3)
        v_BxNxLxU = v.reshape(batch, heads, length, -1)

        rates = Dense((2, heads), ("embed", None, "mlp"), dtype=self.dtype, name="rates")(x_BxLxD)
        _, log_decay_BxLxN = step_and_decay(self, rates[:, :, 0])
        strength_BxLxN = jax.nn.sigmoid(rates[:, :, 1].astype(jnp.float32))
        o_BxNxLxU, state = recur(
            unit(q[:, :, :, 0]),
            unit(k[:, :, :, 0]),
            v_BxNxLxU,
            masked(log_decay_BxLxN, kept).swapaxes(1, 2),
            masked(strength_BxLxN, kept).swapaxes(1, 2),
            runs(where),
            cache["state"],
            model.chunk,
        )
        o = constrain(o_BxNxLxU.swapaxes(1, 2), "batch", None, "heads", None)
        o = Norm("rmsnorm", name="out_norm")(o).astype(self.dtype)
        y_BxLxI = (o * jax.nn.silu(gate.reshape(o.shape))).reshape(batch, length, -1)
        y_BxLxD = residual_map(model, width, self.dtype)(y_BxLxI)
        return y_BxLxD, {"state": state, "taps": taps} if given else None


def build(model: FrozenConfigDict, causal: bool, kernel: str, dtype: Any) -> nn.Module:
    """The mixer of one block."""
    return directed(GatedDelta, model, causal, dtype, "gated_delta")
