"""Attention into a memory: queries of the stream, keys and values of something else."""

from typing import Any

import flax.linen as nn
import jax
from jax import numpy as jnp
from ml_collections import FrozenConfigDict

from research.mesh import constrain
from research.models.attention import Where, attend
from research.models.common import Dense, Norm, residual_map


class CrossAttention(nn.Module):
    """x [B, L, D] and a memory [B, S, D], of which each position sees what is there, to [B, L, D].

    It knows no positions: the memory has its own (Raffel et al. 2020, section 2.1).
    """

    model: FrozenConfigDict
    dtype: Any

    @nn.compact
    def __call__(
        self, x_BxLxD: jax.Array, memory_BxSxD: jax.Array, there_BxS: jax.Array | None = None
    ) -> jax.Array:
        model = self.model
        (batch, length, width), heads = x_BxLxD.shape, self.model.num_heads
        head_dim = width // heads

        def heads_of(name, x, maps):
            axes = ("embed", "heads", None, "head_dim")
            features = (heads, maps, head_dim)
            y = Dense(features, axes, model.bias, dtype=self.dtype, name=name)(x)
            y = constrain(y, "batch", "length", "heads", None, None)
            return [y[:, :, :, each].swapaxes(1, 2) for each in range(maps)]

        (q_BxNxLxK,) = heads_of("query", x_BxLxD, 1)
        k_BxNxSxK, v_BxNxSxK = heads_of("key_value", memory_BxSxD, 2)
        if model.get("qk_norm"):
            q_BxNxLxK = Norm("rmsnorm", name="query_norm")(q_BxNxLxK)
            k_BxNxSxK = Norm("rmsnorm", name="key_norm")(k_BxNxSxK)
        plain = FrozenConfigDict({**model, "attention": "full", "positions": "none"})
        places = jnp.arange(memory_BxSxD.shape[1])[None]
        if there_BxS is not None:
            places = jnp.where(there_BxS, places, -1)
        where = Where(jnp.arange(length))
        y, _ = attend(plain, False, "dense", q_BxNxLxK, k_BxNxSxK, v_BxNxSxK, where, places)
        y_BxLxD = y.swapaxes(1, 2).reshape(batch, length, width)
        return residual_map(model, width, self.dtype)(y_BxLxD)
