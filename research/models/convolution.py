"""The mixer "convolution": a gated short convolution (LFM2, Liquid AI 2025, arXiv 2511.23404).

A position sees as many positions as the convolution has taps, and a stack of such blocks the sum.
"""

from typing import Any

import flax.linen as nn
import jax
from jax import numpy as jnp
from ml_collections import FrozenConfigDict

from research.mesh import constrain
from research.models.attention import IN_ORDER, Where
from research.models.common import Dense, residual_map
from research.models.recurrence import CausalConvolution, check_window, directed

check = check_window


def default_model() -> dict[str, Any]:
    """Its key of `config.model`."""
    return dict(conv_window=4)  # taps of the convolution, that of a position's own included


def empty_cache(model: Any, batch: int, length: int, dtype: Any) -> dict[str, jax.Array]:
    """The taps before the first position, whatever the length."""
    return {"taps": jnp.zeros((batch, model.conv_window - 1, model.width), dtype)}


class GatedConvolution(nn.Module):
    """x [B, L, D] to [B, L, D]: a gate before the convolution and one behind it.

    With a cache (`empty_cache`) x are the next L positions. Returns the cache too, None without.
    """

    model: FrozenConfigDict
    dtype: Any

    @nn.compact
    def __call__(
        self, x_BxLxD: jax.Array, where: Where = IN_ORDER, cache: Any = None
    ) -> tuple[jax.Array, Any]:
        model, width = self.model, x_BxLxD.shape[-1]
        axes = ("embed", None, "mlp")
        wide = Dense((3, width), axes, model.bias, dtype=self.dtype, name="gates")(x_BxLxD)
        wide = constrain(wide, "batch", None, None, "mlp")
        admit, show, y_BxLxD = (wide[:, :, each] for each in range(3))
        convolve = CausalConvolution(model.conv_window, ("mlp",), self.dtype, name="conv")
        y_BxLxD, taps = convolve(admit * y_BxLxD, where, cache and cache["taps"])
        out = residual_map(model, width, self.dtype, "mlp")
        return out(show * y_BxLxD), None if cache is None else {"taps": taps}


def build(model: FrozenConfigDict, causal: bool, kernel: str, dtype: Any) -> nn.Module:
    """The mixer of one block."""
    return directed(GatedConvolution, model, causal, dtype, "convolution")
