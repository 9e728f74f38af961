"""Residual convolutions down to a latent image and up again, as in Rombach et al. (2022, app. G).

Each entry of `width_multiples` is a resolution, half of the one before, with `depth` residual
blocks `width` times the entry wide; so an image of H x W has a latent of H / f x W / f, where f is
2 to the number of halvings. There is no attention: a place knows its neighbourhood alone.
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


def default_model() -> dict[str, Any]:
    """Its keys of `config.model`."""
    return dict(
        width=placeholder(int),  # of the first resolution
        depth=placeholder(int),  # residual blocks of a resolution, of each of the two networks
        width_multiples=(1, 2),  # one a resolution
        norm_groups=4,
    )


def check(config: ConfigDict) -> None:
    """Raise UserError for networks that cannot be built on the images."""
    model, multiples = config.model, config.model.width_multiples
    if not multiples or any(type(each) is not int or each < 1 for each in multiples):
        raise UserError(
            f"config.model.width_multiples={multiples} must be integers of at least 1, one a "
            "resolution, such as (1, 2)"
        )
    if model.depth < 1:
        raise UserError(f"config.model.depth={model.depth} must be at least 1")
    if model.norm_groups < 1 or model.width < 1 or model.width % model.norm_groups:
        nearest = max(1, round(model.width / max(model.norm_groups, 1))) * max(model.norm_groups, 1)
        raise UserError(
            f"config.model.width={model.width} must be a multiple of norm_groups="
            f"{model.norm_groups}; nearest valid: {nearest}"
        )
    if not model.image_shape:  # tokens; the family says so
        return
    height, across, _ = model.image_shape
    if height % factor(model) or across % factor(model):
        raise UserError(
            f"config.model.width_multiples={multiples} halves the image {len(multiples) - 1} times,"
            f" and {factor(model)} does not divide {height}x{across}"
        )


def factor(model: Any) -> int:
    """Pixels a side of a place of the latent."""
    return 2 ** (len(model.width_multiples) - 1)


def widths_of(model: Any) -> list[int]:
    """Channels of each resolution, the image's first."""
    return [model.width * each for each in model.width_multiples]


def latent_sides(model: Any) -> tuple[int, int]:
    """Height and width of the latent."""
    height, across, _ = model.image_shape
    return height // factor(model), across // factor(model)


def positions(config: ConfigDict) -> int:
    """Pixels of an image."""
    return config.model.image_shape[0] * config.model.image_shape[1]


def build(
    model: FrozenConfigDict, hardware: FrozenConfigDict, features: int, outputs: int
) -> tuple["Encoder", "Decoder"]:
    """The two modules: image -> [B, H, W, features] of a latent, and latent -> [.., outputs]."""
    dtype = jnp.dtype(hardware.compute_dtype)
    return Encoder(model, dtype, features), Decoder(model, dtype, outputs)


def _conv(module: Any, name: str, features: int, side: int, axes: tuple, **how: Any) -> Conv:
    """A convolution of `module` with a square window and a bias."""
    return Conv(features, (side, side), axes, bias=True, dtype=module.dtype, name=name, **how)


class Block(nn.Module):
    """x and what two convolutions make of it."""

    groups: int
    dtype: Any

    @nn.compact
    def __call__(self, x_BxHxWxI: jax.Array) -> jax.Array:
        width = x_BxHxWxI.shape[-1]
        y = jax.nn.silu(Norm("groupnorm", groups=self.groups, name="first_norm")(x_BxHxWxI))
        y = _conv(self, "first", width, 3, ("embed", "mlp"))(y)
        y = jax.nn.silu(Norm("groupnorm", groups=self.groups, name="second_norm")(y))
        y = _conv(self, "second", width, 3, ("mlp", "embed"), scale=0.5)(y)
        return constrain(x_BxHxWxI + y, "batch", None, None, None)


def _blocks(module: Any, level: int, x: jax.Array) -> jax.Array:
    """The residual blocks of a resolution."""
    model = module.model
    for index in range(model.depth):
        x = Block(model.norm_groups, module.dtype, name=f"block_{level}_{index}")(x)
    return x


def _first(module: Any, x: jax.Array, label_B: jax.Array | None, width: int) -> jax.Array:
    """The first features of a network, in which every place is told the class."""
    x = _conv(module, "first", width, 3, ("input", "embed"))(x)
    if label_B is None:
        return x
    told_BxD = class_vector(module, label_B, module.model.num_classes, width, module.dtype)
    return x + told_BxD[:, None, None]


def _last(module: Any, x: jax.Array, features: int) -> jax.Array:
    """What a network gives of its last features, in float32."""
    x = jax.nn.silu(Norm("groupnorm", groups=module.model.norm_groups, name="last_norm")(x))
    return _conv(module, "last", features, 3, ("embed", "output"))(x).astype(jnp.float32)


class Encoder(nn.Module):
    """[B, H / f, W / f, features] of images [B, H, W, C]."""

    model: FrozenConfigDict
    dtype: Any
    features: int

    @nn.compact
    def __call__(self, image_BxHxWxC: jax.Array, label_B: jax.Array | None = None) -> jax.Array:
        widths, half = widths_of(self.model), dict(strides=(2, 2))
        x = _first(self, image_BxHxWxC, label_B, widths[0])
        for level, width in enumerate(widths):
            if level:
                x = _conv(self, f"down_{level}", width, 4, ("embed", "mlp"), **half)(x)
            x = _blocks(self, level, x)
        return _last(self, x, self.features)


class Decoder(nn.Module):
    """[B, H, W, outputs] of latents [B, H / f, W / f, C]."""

    model: FrozenConfigDict
    dtype: Any
    outputs: int

    @nn.compact
    def __call__(self, latent_BxHxWxC: jax.Array, label_B: jax.Array | None = None) -> jax.Array:
        widths, twice = widths_of(self.model), dict(strides=(2, 2), transposed=True)
        x = _first(self, latent_BxHxWxC, label_B, widths[-1])
        for level in reversed(range(len(widths))):
            x = _blocks(self, level, x)
            if level:  # a window of twice the stride covers every pixel equally often
                width = widths[level - 1]
                x = _conv(self, f"up_{level}", width, 4, ("embed", "mlp"), **twice)(x)
        return _last(self, x, self.outputs)
