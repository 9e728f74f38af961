"""Vectors of what a network of diffusion is given: how noisy the image is, and its class."""

from typing import Any

import flax.linen as nn
import jax

from research.models.common import Dense, parameter
from research.models.conditions import Conditions
from research.models.sinusoidal_positions import sinusoids


def place(model: Any, gamma_B: jax.Array) -> jax.Array:
    """Where on the schedule an image is, from 0 to 1000: the range of DDPM's steps, [B]."""
    return 1000 * ((gamma_B - model.gamma_min) / (model.gamma_max - model.gamma_min))


class TimeEmbedding(nn.Module):
    """Two-layer perceptron over sinusoids of gamma's place on the schedule, [B, D]."""

    model: Any  # FrozenConfigDict
    dtype: Any

    @nn.compact
    def __call__(self, gamma_B: jax.Array) -> jax.Array:
        model, width = self.model, (self.model.width,)
        x = sinusoids(place(model, gamma_B), model.time_features)
        x = Dense(width, ("input", "mlp"), True, dtype=self.dtype, name="in")(x)
        return Dense(width, ("mlp", "embed"), True, dtype=self.dtype, name="out")(jax.nn.silu(x))


def label_vector(module: nn.Module, model: Any, given: Conditions, dtype: Any) -> jax.Array | None:
    """The row of the image's class in a table of `module`, [B, D]; None for a model without.

    Label `num_classes` means "no class" and is in the table only when `model.class_dropout` > 0.
    """
    if not model.num_classes:
        return None
    rows, normal = model.num_classes + (model.class_dropout > 0), nn.initializers.normal(0.02)
    table = parameter(module, "label", normal, ("class", "embed"), (rows, model.width))
    return table[given.label_B].astype(dtype)


def vectors(module: nn.Module, model: Any, given: Conditions, dtype: Any) -> list[jax.Array]:
    """The vector of time and, where there are classes, that of the label, each [B, D]."""
    found = [TimeEmbedding(model, dtype, name="time")(given.gamma_B)]
    label_BxD = label_vector(module, model, given, dtype)
    return found if label_BxD is None else [*found, label_BxD]
