"""Levels of images: how whole numbers become what networks see, and come back.

An image of levels has the whole numbers from 0 on, uint8: 256 of a picture, 2 of a lattice of
spins. Networks see them from -1 to 1 (Ho 2020, section 3.3); floats they see as they are.
"""

from typing import Any

from jax import Array
from jax import numpy as jnp

from research.errors import UserError


def gap(levels: int) -> float:
    """How far apart two neighbours are in the range of networks."""
    return 2 / (levels - 1)


def scaled(image: Any, levels: int) -> Array:
    """An image as networks see it, float32: its levels from -1 to 1, floats as they are."""
    if jnp.issubdtype(image.dtype, jnp.integer):
        return image.astype(jnp.float32) * gap(levels) - 1
    return image.astype(jnp.float32)


def nearest(x: Array, levels: int) -> Array:
    """The level nearest to each number in the range of networks, uint8: `scaled` undone."""
    return jnp.round(jnp.clip((x + 1) / gap(levels), 0, levels - 1)).astype(jnp.uint8)


def check(config: Any, spec: dict[str, Any]) -> None:
    """Raise UserError for data that are no images, or not of the model's shape and levels."""
    name = config.data.name
    if "shape" not in spec:
        raise UserError(
            f"config.data.name={name!r} gives tokens; family {config.family!r} reads images, such "
            "as glyphs or gaussian_mixture"
        )
    if wrong := differing(config.model, spec):
        key, of_data = wrong
        raise UserError(f"config.model.{key}={config.model[key]} must be {of_data} for {name}")


def differing(model: Any, spec: dict[str, Any]) -> tuple[str, Any] | None:
    """The first key of `model` that says otherwise than a `spec`, and what the data have there."""
    keys = {"image_shape": "shape", "discrete": "discrete", "levels": "levels"}
    if not spec.get("discrete"):
        del keys["levels"]  # floats have none
    wrong = (key for key, of_data in keys.items() if model[key] != spec.get(of_data))
    return next(((key, spec.get(keys[key])) for key in wrong), None)
