"""Convolutions that see only what comes before in raster order (van den Oord et al. 2016a, 3.4)."""

from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jax import numpy as jnp

from research.mesh import gathered
from research.models.common import parameter
from research.models.numerics import conv

# What is seen of the pixel itself: channels before, its own too; or all that the window holds.
BEFORE, UNTIL, ALL = "before", "until", "all"


class MaskedConv(nn.Module):
    """Convolution of x [B, H, W, I] to [B, H, W, copies * features].

    Inputs, and the features of each copy, are cut into as many groups as an image has channels;
    a group of outputs sees of the same pixel the groups before its own (mask A), or its own too
    (mask B). The kernel is drawn from N(0, scale^2 / fan_in), of what is seen on average. FLOPs are
    counted, and spent, on the whole window.

    Attributes:
        rows, columns: first and last offsets of the window, from the pixel.
        sees: BEFORE is mask A, UNTIL mask B; ALL masks nothing.
        channels: of an image.
        axes: logical names of the kernel's inputs and outputs.
    """

    features: int
    rows: tuple[int, int]
    columns: tuple[int, int]
    sees: str
    channels: int
    axes: tuple[str | None, str | None]
    copies: int = 1
    scale: float = 1.0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        seen = mask(self.rows, self.columns, self.sees, x.shape[-1], self.features, self.channels)
        seen = np.tile(seen, self.copies)
        std = self.scale * (seen.sum() / seen.shape[-1]) ** -0.5
        initializer = nn.initializers.normal(std) if std else nn.initializers.zeros
        axes = (None, None, *self.axes)
        kernel = parameter(self, "kernel", initializer, axes, seen.shape)
        kernel = gathered((kernel * seen).astype(self.dtype), axes)
        padding = [(-first, last) for first, last in (self.rows, self.columns)]
        y = conv(x.astype(self.dtype), kernel, (1, 1), padding=padding)
        bias = parameter(self, "bias", nn.initializers.zeros, self.axes[1:], seen.shape[-1:])
        return y + bias.astype(self.dtype)


def mask(
    rows: tuple[int, int],
    columns: tuple[int, int],
    sees: str,
    inputs: int,
    outputs: int,
    channels: int,
) -> np.ndarray:
    """1 where an output sees an input, else 0: float32 [rows, columns, inputs, outputs]."""
    row = np.arange(rows[0], rows[1] + 1)[:, None, None, None]
    column = np.arange(columns[0], columns[1] + 1)[:, None, None]
    source = (np.arange(inputs) * channels // inputs)[:, None]
    target = np.arange(outputs) * channels // outputs
    own = source < target if sees == BEFORE else source <= target
    found = (row < 0) | ((row == 0) & ((column < 0) | ((column == 0) & own)))
    return (found | (sees == ALL)).astype(np.float32)
