"""A causal Transformer over patches: what it says of one it knows from those before.

It is the network of a layer of TarFlow (Zhai et al. 2024, arXiv 2412.06329, equation 4). Before
the patches stands a place that holds none, so that the first of them is told something, too.
"""

import flax.linen as nn
import jax
from jax import numpy as jnp
from ml_collections import FrozenConfigDict

from research.models.common import Dense, Norm, class_vector, parameter
from research.models.conditioners import precise
from research.models.transformer import Stack


class CausalPatches(nn.Module):
    """[B, L, I, numbers] of patches x [B, L, I], zero at the start."""

    model: FrozenConfigDict
    hardware: FrozenConfigDict
    numbers: int

    @nn.compact
    def __call__(self, x_BxLxI: jax.Array, label_B: jax.Array | None = None) -> jax.Array:
        model, (batch, length, inputs) = self.model, x_BxLxI.shape
        dtype, width = jnp.dtype(self.hardware.compute_dtype), model.width
        read = Dense((width,), ("input", "embed"), True, dtype=dtype, name="patches")
        x_BxLxD = read(x_BxLxI[:, :-1])
        start = jnp.zeros((batch, 1, width), dtype)
        x_BxLxD = jnp.concatenate([start, x_BxLxD], axis=1)
        shape, normal = (length, width), nn.initializers.normal(0.02)
        x_BxLxD += parameter(self, "places", normal, ("position", "embed"), shape).astype(dtype)
        if label_B is not None:
            x_BxLxD += class_vector(self, label_B, model.num_classes, width, dtype)[:, None]
        x_BxLxD = Stack(model, self.hardware, True, name="stack")(x_BxLxD)[0]
        x_BxLxD = Norm(model.norm, epsilon=model.norm_epsilon, name="final_norm")(x_BxLxD)
        features, axes = (inputs * self.numbers,), ("embed", "output")
        y_BxLxO = Dense(features, axes, True, 0.0, dtype, name="last")(x_BxLxD)
        return precise(y_BxLxO).reshape(batch, length, inputs, self.numbers)
