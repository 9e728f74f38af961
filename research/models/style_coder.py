"""StyleGAN2's generator (Karras et al. 2020, arXiv 1912.04958), and a judge of images beside it.

Perceptrons make a style of a vector. A constant of the lowest resolution is convolved and doubled
in size, each convolution's inputs being scaled as the style says and its outputs back to unit
variance (their equations 1 and 3); every resolution adds an image of its own (their section 4.1).
The scales stand at the inputs and outputs of one kernel, which gives the same numbers as a kernel
for each image. The noise of the paper, of which a likelihood of pixels has no use, is left out.
"""

import math
from typing import Any

import flax.linen as nn
import jax
from jax import numpy as jnp
from ml_collections import ConfigDict, FrozenConfigDict

from research.errors import UserError
from research.mesh import constrain
from research.models import conv_autoencoder
from research.models.common import Dense, class_vector, parameter
from research.models.numerics import conv

SMALL = 1e-8  # added to a variance
widths_of, factor = conv_autoencoder.widths_of, conv_autoencoder.factor


def default_model() -> dict[str, Any]:
    """Its keys of `config.model`: those of the convolutions, and of the perceptrons."""
    return conv_autoencoder.default_model() | dict(style_width=64, style_depth=2)


def check(config: ConfigDict) -> None:
    """Raise UserError for networks that cannot be built on the images."""
    conv_autoencoder.check(config)
    for key in ("style_width", "style_depth"):
        if config.model[key] < 1:
            raise UserError(f"config.model.{key}={config.model[key]} must be at least 1")


def latent_sides(model: Any) -> tuple[int, int]:
    """A vector is one place."""
    del model
    return 1, 1


def positions(config: ConfigDict) -> int:
    """Pixels of an image."""
    return conv_autoencoder.positions(config)


def build(
    model: FrozenConfigDict, hardware: FrozenConfigDict, features: int, outputs: int
) -> tuple["Judge", "Synthesis"]:
    """The two modules: image -> [B, 1, 1, features], and vector -> [B, H, W, outputs]."""
    dtype = jnp.dtype(hardware.compute_dtype)
    return Judge(model, dtype, features), Synthesis(model, dtype, outputs)


class Judge(nn.Module):
    """[B, 1, 1, features] of images [B, H, W, C]: the mean over places of residual convolutions."""

    model: FrozenConfigDict
    dtype: Any
    features: int

    @nn.compact
    def __call__(self, image_BxHxWxC: jax.Array, label_B: jax.Array | None = None) -> jax.Array:
        encoder = conv_autoencoder.Encoder(self.model, self.dtype, self.features, name="encoder")
        return encoder(image_BxHxWxC, label_B).mean((1, 2), keepdims=True)


class Modulated(nn.Module):
    """Convolution of x [B, H, W, I] whose inputs the style [B, S] scales, [B, H, W, features]."""

    features: int
    side: int
    dtype: Any
    demodulated: bool = True
    axes: tuple[str | None, str | None] = ("embed", "mlp")

    @nn.compact
    def __call__(self, x: jax.Array, style_BxS: jax.Array) -> jax.Array:
        inputs, window = x.shape[-1], (self.side, self.side)
        scale = Dense((inputs,), ("latent", "embed"), True, dtype=self.dtype, name="scale")
        scale_BxI = 1 + scale(style_BxS)
        std = (inputs * self.side**2) ** -0.5
        shape, axes = (*window, inputs, self.features), (None, None, *self.axes)
        kernel = parameter(self, "kernel", nn.initializers.normal(std), axes, shape)
        y = conv(
            (x * scale_BxI[:, None, None]).astype(self.dtype), kernel.astype(self.dtype), (1, 1)
        )
        if self.demodulated:
            square_IxO = jnp.square(kernel).sum((0, 1))
            deviation_BxO = jnp.sqrt(jnp.square(scale_BxI) @ square_IxO + SMALL)
            y = y / deviation_BxO[:, None, None].astype(self.dtype)
        zeros = nn.initializers.zeros
        return y + parameter(self, "bias", zeros, self.axes[1:], (self.features,)).astype(y.dtype)


class Synthesis(nn.Module):
    """[B, H, W, outputs] of vectors [B, 1, 1, C]."""

    model: FrozenConfigDict
    dtype: Any
    outputs: int

    @nn.compact
    def __call__(self, latent_Bx1x1xC: jax.Array, label_B: jax.Array | None = None) -> jax.Array:
        model, widths = self.model, widths_of(self.model)
        style = self._style(latent_Bx1x1xC.reshape(len(latent_Bx1x1xC), -1), label_B)
        sides = (each // factor(model) for each in model.image_shape[:2])
        shape, axes = (*sides, widths[-1]), (None, None, "embed")
        start = parameter(self, "constant", nn.initializers.normal(1.0), axes, shape)
        x = jnp.broadcast_to(start.astype(self.dtype), (len(style), *shape))
        image = jnp.zeros((*x.shape[:3], self.outputs), jnp.float32)
        for level in reversed(range(len(widths))):
            if level < len(widths) - 1:
                x, image = _doubled(x), _doubled(image)
            for index in range(model.depth):
                layer = Modulated(widths[level], 3, self.dtype, name=f"conv_{level}_{index}")
                x = math.sqrt(2) * nn.leaky_relu(layer(x, style), 0.2)
                x = constrain(x, "batch", None, None, None)
            axes = ("embed", "output")
            seen = Modulated(self.outputs, 1, self.dtype, False, axes, name=f"image_{level}")
            image += seen(x, style).astype(jnp.float32)
        return image

    def _style(self, z_BxC: jax.Array, label_B: jax.Array | None) -> jax.Array:
        """Of normal numbers, brought to one length, and the class."""
        model, width = self.model, self.model.style_width
        x = z_BxC * jax.lax.rsqrt(jnp.square(z_BxC).mean(-1, keepdims=True) + SMALL)
        for layer in range(model.style_depth):
            axes = ("input" if layer == 0 else "embed", "latent")
            name = f"style_{layer}"
            x = Dense((width,), axes, True, math.sqrt(2), self.dtype, name=name)(x)
            if layer == 0 and label_B is not None:
                x += class_vector(self, label_B, model.num_classes, width, self.dtype)
            x = nn.leaky_relu(x, 0.2)
        return x


def _doubled(x_BxHxWxC: jax.Array) -> jax.Array:
    """Every place as a square of four."""
    return jnp.repeat(jnp.repeat(x_BxHxWxC, 2, 1), 2, 2)
