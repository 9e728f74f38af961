"""Rotary positions in two dimensions, of networks over patches of images (Heo et al. 2024).

Half of a head's features turn by the row of a patch and half by its column, so that a score depends
on how many rows and columns lie between two patches, and on nothing else of where they are.
"""

import math
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp
from ml_collections import ConfigDict

from research.errors import UserError


def default_model() -> dict[str, Any]:
    """Its key of `config.model`: a grid is short, and so is its slowest turn."""
    return dict(rotary_base=100.0)


def check(config: ConfigDict) -> None:
    """Raise UserError for a network without a grid, or heads whose features make no two halves."""
    model = config.model
    if not (model.get("image_shape") and model.get("patch_size")):
        raise UserError(
            "config.model.positions='axial_rotary' turns by rows and columns of patches, of which "
            f"config.model.network={model.get('network')!r} has none; use 'rotary'"
        )
    if (size := model.width // model.num_heads) % 4:
        raise UserError(
            "config.model.positions='axial_rotary' needs heads of a multiple of 4 features, got "
            f"width/num_heads={size}; nearest valid width: {4 * max(1, round(size / 4))} a head"
        )
    if not 1 <= model.rotary_base < math.inf:
        raise UserError(f"config.model.rotary_base={model.rotary_base} must be at least 1")


def turn(model: Any, x: jax.Array, at: jax.Array | None = None) -> jax.Array:
    """x [..., L, K], of which the last positions are the patches, row by row, turned by theirs.

    What stands before the patches, such as registers and tokens of conditions, has no place on the
    grid and is not turned. Cosines and sines are constants of the program.
    """
    del at
    height, width, _ = model.image_shape
    rows, columns = height // model.patch_size, width // model.patch_size
    before, quarter = x.shape[-2] - rows * columns, x.shape[-1] // 4
    frequency = model.rotary_base ** (-np.arange(quarter, dtype=np.float32) / quarter)
    places = np.indices((rows, columns), np.float32).reshape(2, -1)
    angle = np.concatenate([place[:, None] * frequency for place in places], -1)
    angle = np.pad(angle, ((before, 0), (0, 0)))
    cos, sin = np.cos(angle).astype(x.dtype), np.sin(angle).astype(x.dtype)
    first, second = jnp.split(x, 2, -1)
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], -1)
