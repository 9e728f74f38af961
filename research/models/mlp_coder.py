"""Perceptrons from an image to a vector and back, whose hidden layers are all `width` wide."""

import math
from typing import Any

import flax.linen as nn
import jax
from jax import numpy as jnp
from ml_collections import ConfigDict, FrozenConfigDict
from ml_collections.config_dict import placeholder

from research.errors import UserError
from research.mesh import constrain
from research.models.common import ACTIVATIONS, GATED, Dense, class_vector
from research.parts import check_choice

PLAIN = tuple(name for name in ACTIVATIONS if name not in GATED)


def default_model() -> dict[str, Any]:
    """Its keys of `config.model`."""
    return dict(
        width=placeholder(int),
        depth=placeholder(int),  # hidden layers of each of the two networks; 0: linear maps
        activation="silu",
    )


def check(config: ConfigDict) -> None:
    """Raise UserError for layers that cannot be."""
    model = config.model
    told = model.get("num_classes", 0) > 0  # in the first hidden layer
    for key, least in (("width", 1), ("depth", int(told))):
        if model[key] < least:
            raise UserError(f"config.model.{key}={model[key]} must be at least {least}")
    check_choice("model.activation", model.activation, PLAIN)


def latent_sides(model: Any) -> tuple[int, int]:
    """A vector is one place."""
    del model
    return 1, 1


def positions(config: ConfigDict) -> int:
    """An image is read as a whole."""
    del config
    return 1


def build(
    model: FrozenConfigDict, hardware: FrozenConfigDict, features: int, outputs: int
) -> tuple["Perceptron", "Perceptron"]:
    """The two modules: image -> [B, 1, 1, features] of a vector, and vector -> [.., outputs]."""
    dtype = jnp.dtype(hardware.compute_dtype)
    image = (*model.image_shape[:-1], outputs)
    return Perceptron(model, dtype, (1, 1, features)), Perceptron(model, dtype, image)


class Perceptron(nn.Module):
    """[B, *shape] of x [B, ...], which is read as one vector; float32."""

    model: FrozenConfigDict
    dtype: Any
    shape: tuple[int, ...]
    last_scale: float = 1.0  # of the last map, as it starts

    @nn.compact
    def __call__(self, x: jax.Array, label_B: jax.Array | None = None) -> jax.Array:
        model, width = self.model, self.model.width
        x_BxD = x.reshape(len(x), -1)
        for layer in range(model.depth):
            axes = ("input", "embed") if layer == 0 else ("embed", "mlp")
            name = f"hidden_{layer}"
            x_BxD = Dense((width,), axes, True, 2**0.5, self.dtype, name=name)(x_BxD)
            if layer == 0 and label_B is not None:
                x_BxD += class_vector(self, label_B, model.num_classes, width, self.dtype)
            x_BxD = constrain(ACTIVATIONS[model.activation](x_BxD), "batch", None)
        features, axes = (math.prod(self.shape),), ("embed", "output")
        out = Dense(features, axes, True, self.last_scale, self.dtype, name="last")
        return out(x_BxD).astype(jnp.float32).reshape(len(x), *self.shape)
