"""A learned vector for each position, added to the input (Gehring et al. 2017; GPT-2)."""

from typing import Any

import flax.linen as nn
import jax
from ml_collections import ConfigDict

from research.errors import UserError
from research.models import pixels
from research.models.common import parameter


def default_model() -> dict[str, Any]:
    """Its key of `config.model`."""
    return dict(max_length=1024)  # positions that have a vector


def check(config: ConfigDict) -> None:
    """Raise UserError for a table that is shorter than an example."""
    length, most = pixels.length(config), config.model.max_length
    image = config.model.get("image_shape")
    if most < length:
        key = "the dimensions of an image, " if image else "config.data.length="
        raise UserError(f"config.model.max_length={most} is shorter than {key}{length}")


def embed(module: nn.Module, model: Any, at: jax.Array) -> jax.Array:
    """Rows of the table, [..., D]."""
    normal, axes = nn.initializers.normal(0.02), ("position", "embed")
    return parameter(module, "positions", normal, axes, (model.max_length, model.width))[at]
