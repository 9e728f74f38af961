"""Networks that say, from one array, numbers about each place of another of the same sides.

What an invertible layer does to one half of an image is said by any network that reads the other
half. A conditioner is a part (`research.parts`) with

    positions(model, grid) -> how many positions it processes for one array
    build(model, hardware, grid, outputs) -> the module of x [B, *grid] and label [B] ->
        [B, H, W, outputs], zero at the start; label is None where `model.num_classes` is 0

and, where not every grid will do, check_grid(model, grid), which raises UserError; a grid is
(height, width, channels). What modules return has the precision of their products, float32 or more.
"""

from typing import Any

from jax import Array
from jax import numpy as jnp

CONDITIONERS = {
    "conv_conditioner": "research.models.conv_conditioner",
    "mlp_conditioner": "research.models.mlp_conditioner",
    "patch_conditioner": "research.models.patch_conditioner",
}


def precise(x: Array) -> Array:
    """In float32, or float64 where it is."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def place_count(grid: Any) -> int:
    """Places of a grid."""
    return grid[0] * grid[1]
