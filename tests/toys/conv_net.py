"""A small U-Net for diffusion: down by a strided convolution, up by a transposed one, one skip."""

from typing import Any

import flax.linen as nn
import jax
from jax import numpy as jnp
from ml_collections.config_dict import placeholder

from research.errors import UserError
from research.models.common import Conv, Dense, Norm


def default_model():
    return dict(width=placeholder(int), norm_groups=4)


def check(config):
    height, across, _ = config.model.image_shape
    if height % 2 or across % 2 or config.model.width % config.model.norm_groups:
        raise UserError(
            f"config.model.width={config.model.width} must be a multiple of "
            f"norm_groups={config.model.norm_groups}, and the {height}x{across} image even"
        )


def positions(config):
    height, across, _ = config.model.image_shape
    return height * across


def build(model, hardware, channels):
    return ConvNet(model, channels, jnp.dtype(hardware.compute_dtype))


class ConvNet(nn.Module):
    model: Any
    channels: int
    dtype: Any

    @nn.compact
    def __call__(self, xt_BxHxWxC, given):
        width, groups = self.model.width, self.model.norm_groups
        square, half = (3, 3), (2, 2)
        # The width is split over fsdp where it comes in, over tensor where it goes out.
        inner, outer = ("embed", "mlp"), (None, "mlp")

        def conv(name, features, axes, **how):
            return Conv(features, square, axes, bias=True, dtype=self.dtype, name=name, **how)

        time = Dense((2, width), (None, None, "mlp"), True, dtype=self.dtype, name="time")
        place_Bx1 = ((given.gamma_B - self.model.gamma_min) / 18)[:, None]
        scale, shift = jnp.moveaxis(time(place_Bx1)[:, :, None, None], 1, 0)
        wide = conv("in", width, outer)(xt_BxHxWxC)
        x = conv("down", width, inner, strides=half)(jax.nn.silu(wide))
        x = Norm("groupnorm", groups=groups, name="norm")(x) * (1 + scale) + shift
        x = x + conv("depthwise", width, outer, groups=width)(jax.nn.silu(x))
        x = conv("up", width, inner, strides=half, transposed=True)(x) + wide
        out = Conv(self.channels, square, ("embed", "output"), scale=0.0, name="out")
        return out(jax.nn.silu(x)).astype(jnp.float32), {}
