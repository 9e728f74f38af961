"""Residual convolutions that keep the sides of an image (RealNVP: Dinh et al. 2017, section 3.7).

Norms are over the channels of a place: what is said of a place depends on its neighbourhood alone.
"""

from typing import Any

import flax.linen as nn
import jax
from jax import numpy as jnp
from ml_collections import ConfigDict, FrozenConfigDict
from ml_collections.config_dict import placeholder

from research.errors import UserError
from research.mesh import constrain
from research.models.common import Conv, Norm, class_vector
from research.models.conditioners import place_count, precise


def default_model() -> dict[str, Any]:
    """Its keys of `config.model`."""
    return dict(
        width=placeholder(int),
        depth=placeholder(int),  # residual blocks
        window=3,  # pixels across, odd
    )


def check(config: ConfigDict) -> None:
    """Raise UserError for convolutions that cannot be."""
    for key in ("width", "depth"):
        if config.model[key] < 1:
            raise UserError(f"config.model.{key}={config.model[key]} must be at least 1")
    window = config.model.window
    if window < 1 or window % 2 == 0:
        raise UserError(
            f"config.model.window={window} must be odd; nearest valid: {max(1, window + 1)}"
        )


def positions(model: Any, grid: tuple[int, int, int]) -> int:
    """Places of the grid."""
    del model
    return place_count(grid)


def build(
    model: FrozenConfigDict, hardware: FrozenConfigDict, grid: tuple[int, int, int], outputs: int
) -> "ConvConditioner":
    """The module; see `research.models.conditioners`."""
    del grid
    return ConvConditioner(model, jnp.dtype(hardware.compute_dtype), outputs)


class ConvConditioner(nn.Module):
    """[B, H, W, outputs] of x [B, H, W, C]."""

    model: FrozenConfigDict
    dtype: Any
    outputs: int

    @nn.compact
    def __call__(self, x_BxHxWxC: jax.Array, label_B: jax.Array | None = None) -> jax.Array:
        model, width = self.model, self.model.width

        def conv(name, features, axes, x, scale=1.0):
            window = (model.window, model.window)
            how: dict[str, Any] = dict(bias=True, scale=scale, dtype=self.dtype, name=name)
            return Conv(features, window, axes, **how)(x)

        x = conv("first", width, ("input", "embed"), x_BxHxWxC)
        if label_B is not None:
            x += class_vector(self, label_B, model.num_classes, width, self.dtype)[:, None, None]
        for block in range(model.depth):
            y = jax.nn.silu(Norm("rmsnorm", name=f"norm_{block}")(x))
            y = jax.nn.silu(conv(f"up_{block}", width, ("embed", "mlp"), y))
            y = conv(f"down_{block}", width, ("mlp", "embed"), y, 0.5)
            x = constrain(x + y, "batch", None, None, None)
        x = jax.nn.silu(Norm("rmsnorm", name="last_norm")(x))
        return precise(conv("last", self.outputs, ("embed", "output"), x, 0.0))
