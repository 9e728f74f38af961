"""Vectors of what a network of diffusion is given: how noisy the image is, and its class."""

from typing import Any

import flax.linen as nn
import jax

from research.models.common import Dense, class_vector
from research.models.conditions import Conditions
from research.models.sinusoidal_positions import sinusoids


def place(model: Any, gamma_B: jax.Array) -> jax.Array:
    """Where on the schedule an image is, from 0 to 1000: the range of DDPM's steps, [B]."""
    return 1000 * ((gamma_B - model.gamma_min) / (model.gamma_max - model.gamma_min))


class TimeEmbedding(nn.Module):
    """Two-layer perceptron over sinusoids of gamma's place on the schedule, [B, D]."""

    model: Any  # FrozenConfigDict
    dtype: Any
    scale: float = 1.0  # of the output at initialisation

    @nn.compact
    def __call__(self, gamma_B: jax.Array) -> jax.Array:
        model, width = self.model, (self.model.width,)
        x = sinusoids(place(model, gamma_B), model.time_features)
        x = Dense(width, ("input", "mlp"), True, dtype=self.dtype, name="in")(x)
        out = Dense(width, ("mlp", "embed"), True, self.scale, self.dtype, name="out")
        return out(jax.nn.silu(x))


def label_vector(module: nn.Module, model: Any, given: Conditions, dtype: Any) -> jax.Array | None:
    """The row of the image's class in a table of `module`, [B, D]; None for a model without.

    Label `num_classes` means "no class" and is in the table only when `model.class_dropout` > 0.
    """
    if not model.num_classes:
        return None
    rows = model.num_classes + (model.class_dropout > 0)
    return class_vector(module, given.label_B, rows, model.width, dtype)


def vectors(module: nn.Module, model: Any, given: Conditions, dtype: Any) -> list[jax.Array]:
    """The vectors of time, of the time until which a map goes, and of the label, each [B, D]."""
    found = [TimeEmbedding(model, dtype, name="time")(given.gamma_B)]
    if given.until_B is not None:
        found.append(TimeEmbedding(model, dtype, 0.0, name="until")(given.until_B))
    label_BxD = label_vector(module, model, given, dtype)
    return found if label_BxD is None else [*found, label_BxD]
