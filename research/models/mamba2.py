"""The mixer "mamba2": a state-space layer with scalar decay (Dao & Gu 2024, arXiv 2405.21060).

Its heads write values into states by one key and read them by one query for all of them (their B
and C; section 7.2, "multi-value"); over a chunk it is attention masked by decay (section 6). The
norm is each head's own, so that heads can lie on several devices (section 8.1).
"""

from typing import Any

import flax.linen as nn
import jax
from jax import numpy as jnp
from ml_collections import ConfigDict, FrozenConfigDict
from ml_collections.config_dict import placeholder

from research import config as configs
from research.mesh import constrain
from research.models.attention import IN_ORDER, Where
from research.models.common import Dense, Norm, parameter, residual_map
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

RANGES = {"inner_ratio": (1.0, 2.0**31), "state_size": (1.0, 2.0**31)}


def default_model() -> dict[str, Any]:
    """Its keys of `config.model`; `num_heads` None means "the recipe decides"."""
    return dict(
        num_heads=placeholder(int),
        inner_ratio=2,  # features of all heads together over the width
        state_size=64,  # features of a key: numbers kept of each feature
        conv_window=4,  # taps of the convolutions of values, keys and queries
        chunk=64,  # positions computed at once; 1: one after another
    )


def check(config: ConfigDict) -> None:
    """Raise UserError, naming the key, for heads, states, a window or chunks that cannot be."""
    configs.check_ranges(config.model, "config.model", RANGES)
    check_heads(config, config.model.inner_ratio)
    check_window(config)
    check_chunk(config)


def empty_cache(model: Any, batch: int, length: int, dtype: Any) -> dict[str, jax.Array]:
    """States of nothing and the taps before the first position, whatever the length."""
    heads, window = model.num_heads, model.conv_window
    features = model.inner_ratio * model.width // heads
    return {
        "state": jnp.zeros((batch, heads, model.state_size, features), jnp.float32),
        "values": jnp.zeros((batch, window - 1, heads, features), dtype),
        "keys": jnp.zeros((batch, window - 1, 2 * model.state_size), dtype),
    }


class Mamba2(nn.Module):
    """x [B, L, D] to [B, L, D]; values are read as they are, too, by a learned share of each head.

    With a cache (`empty_cache`) x are the next L positions. Returns the cache too, None without.
    """

    model: FrozenConfigDict
    dtype: Any

    @nn.compact
    def __call__(
        self, x_BxLxD: jax.Array, where: Where = IN_ORDER, cache: Any = None
    ) -> tuple[jax.Array, Any]:
        model, heads = self.model, self.model.num_heads
        batch, length, width = x_BxLxD.shape
        given, cache = cache is not None, cache or dict.fromkeys(("state", "values", "keys"))

        def dense(name, features, *axes):
            axes = ("embed", *axes)
            return Dense(features, axes, model.bias, dtype=self.dtype, name=name)(x_BxLxD)

        def convolve(name, x, *axes):
            convolution = CausalConvolution(
                model.conv_window, axes, self.dtype, name=f"{name}_conv"
            )
            y, taps = convolution(x, where, cache[name])
            return jax.nn.silu(y), taps

        features = (heads, 2, model.inner_ratio * width // heads)
        wide = dense("values", features, "heads", None, "head_dim")
        wide = constrain(wide, "batch", None, "heads", None, None)
        v_BxLxNxU, gate_BxLxNxU = wide[:, :, :, 0], wide[:, :, :, 1]
        v_BxLxNxU, values = convolve("values", v_BxLxNxU, "heads", "head_dim")
        kq_BxLx2K, keys = convolve("keys", dense("keys", (2 * model.state_size,), None), "norm")
        k_Bx1xLxK, q_Bx1xLxK = jnp.split(kq_BxLx2K[:, None], 2, -1)
        step_BxLxN, log_decay_BxLxN = (
            masked(x, real(where)) for x in step_and_decay(self, dense("step", (heads,), "mlp"))
        )
        o_BxNxLxU, state = recur(
            q_Bx1xLxK,
            k_Bx1xLxK,
            (step_BxLxN[..., None] * v_BxLxNxU).swapaxes(1, 2),
            log_decay_BxLxN.swapaxes(1, 2),
            runs_BxL=runs(where),
            state_BxNxKxU=cache["state"],
            chunk=model.chunk,
        )
        share_N = parameter(self, "share", nn.initializers.ones, ("mlp",), (heads,))
        o_BxLxNxU = o_BxNxLxU.swapaxes(1, 2) + share_N[:, None] * v_BxLxNxU
        o_BxLxNxU = constrain(o_BxLxNxU.astype(self.dtype), "batch", None, "heads", None)
        y = Norm("rmsnorm", name="out_norm")(o_BxLxNxU * jax.nn.silu(gate_BxLxNxU))
        y_BxLxD = residual_map(model, width, self.dtype)(y.reshape(batch, length, -1))
        return y_BxLxD, {"state": state, "values": values, "keys": keys} if given else None


def build(model: FrozenConfigDict, causal: bool, kernel: str, dtype: Any) -> nn.Module:
    """The mixer of one block."""
    return directed(Mamba2, model, causal, dtype, "mamba2")
