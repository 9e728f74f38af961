"""The two-layer perceptron of a block."""

from typing import Any

import flax.linen as nn
import jax
from jax import numpy as jnp
from ml_collections import FrozenConfigDict

from research.mesh import constrain
from research.models.common import Dense

ACTIVATIONS = {
    "relu2": lambda x: jnp.square(jax.nn.relu(x)),  # So et al. 2021 (Primer)
    "gelu": jax.nn.gelu,
    "silu": jax.nn.silu,
    "swiglu": jax.nn.silu,  # of the gate (Shazeer 2020)
}


def activate(name: str, x: jax.Array, gate: jax.Array | None) -> jax.Array:
    """The hidden layer: x through its activation, or times the activated gate when there is one."""
    activation = ACTIVATIONS[name]
    return activation(x) if gate is None else activation(gate) * x


class MLP(nn.Module):
    """x [..., width] through one hidden layer; `swiglu` gates it."""

    model: FrozenConfigDict
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        model, width = self.model, x.shape[-1]
        hidden = (round(width * model.mlp_ratio),)

        def up(name):
            y = Dense(hidden, ("embed", "mlp"), model.bias, dtype=self.dtype, name=name)(x)
            return constrain(y, "batch", "length", "mlp")

        gate = up("gate") if model.activation == "swiglu" else None
        y = activate(model.activation, up("up"), gate)
        scale = (2 * model.depth) ** -0.5
        return Dense((width,), ("mlp", "embed"), model.bias, scale, self.dtype, name="down")(y)
