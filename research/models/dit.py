"""The diffusion Transformer, DiT with adaLN-zero (Peebles & Xie 2023), over log-SNR."""

from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jax import numpy as jnp
from ml_collections import ConfigDict, FrozenConfigDict

from research.errors import UserError
from research.mesh import constrain
from research.models import transformer
from research.models.common import Dense, Norm, parameter
from research.models.conditions import Conditions
from research.models.sinusoidal_positions import sinusoids
from research.models.transformer import Stack

PARTS = transformer.PARTS
PREFERRED = dict(qk_norm=False, activation="gelu")  # experiments/recipe_images.py
check_hardware = transformer.check_hardware


def default_model() -> dict[str, Any]:
    """The stack's keys of `config.model`, and those of what is around it."""
    return transformer.default_model() | dict(
        norm="layernorm",
        bias=True,
        zero_outputs=False,  # its gates are zero already
        patch_size=2,
        time_features=64,  # sinusoids of log-SNR; 256 in DiT
        fourier_features=(),  # (6, 7) in VDM, for long runs: short ones learn slower with them
    )


def check(config: ConfigDict) -> None:
    """Raise UserError for a stack, patches or sinusoids that cannot be built."""
    model = config.model
    transformer.check(config)
    if model.zero_outputs:
        raise UserError(
            "config.model.zero_outputs=True: adaLN's gates start at zero already, and a branch of "
            "which both factors are zero never learns"
        )
    height, width, _ = model.image_shape
    if model.patch_size < 1 or height % model.patch_size or width % model.patch_size:
        raise UserError(
            f"config.model.patch_size={model.patch_size} does not divide the {height}x{width} image"
        )
    for key, divisor in (("width", 4), ("time_features", 2)):
        if model[key] % divisor:
            raise UserError(f"config.model.{key}={model[key]} must be a multiple of {divisor}")


def positions(config: ConfigDict) -> int:
    """Patches of one image."""
    height, width, _ = config.model.image_shape
    return (height // config.model.patch_size) * (width // config.model.patch_size)


def build(model: FrozenConfigDict, hardware: FrozenConfigDict, channels: int) -> "DiT":
    """The module of the family diffusion."""
    return DiT(model, hardware, channels)


def patchify(image_BxHxWxC: jax.Array, patch_size: int) -> jax.Array:
    """Cut an image into squares, [B, L, patch_size^2 * C], row by row."""
    batch, height, width, channels = image_BxHxWxC.shape
    rows, columns = height // patch_size, width // patch_size
    x = image_BxHxWxC.reshape(batch, rows, patch_size, columns, patch_size, channels)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, rows * columns, -1)


def unpatchify(patches: jax.Array, patch_size: int, height: int, width: int) -> jax.Array:
    """Inverse of `patchify`: [B, H, W, C]."""
    batch, rows, columns = patches.shape[0], height // patch_size, width // patch_size
    x = patches.reshape(batch, rows, columns, patch_size, patch_size, -1)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, height, width, -1)


def grid_positions(rows: int, columns: int, width: int) -> jax.Array:
    """Fixed embedding of the patch grid, [rows * columns, D]: half for each axis (He 2022)."""
    row, column = np.indices((rows, columns)).reshape(2, -1)
    return jnp.concatenate([sinusoids(column, width // 2), sinusoids(row, width // 2)], -1)


def fourier_features(x: jax.Array, exponents: tuple[int, ...]) -> jax.Array:
    """Append sin and cos of 2^n 2 pi x on the last axis: the fine levels (Kingma 2021, app. C)."""
    angles = [x * (2.0**exponent * 2 * np.pi) for exponent in exponents]
    return jnp.concatenate([x, *map(jnp.sin, angles), *map(jnp.cos, angles)], -1)


class TimeEmbedding(nn.Module):
    """Two-layer perceptron over sinusoids of gamma's place on the schedule, [B, D]."""

    model: Any  # FrozenConfigDict
    dtype: Any
    scale: float = 1.0  # of the output at initialisation

    @nn.compact
    def __call__(self, gamma_B: jax.Array) -> jax.Array:
        model, width = self.model, (self.model.width,)
        place_B = (gamma_B - model.gamma_min) / (model.gamma_max - model.gamma_min)
        x = sinusoids(1000 * place_B, model.time_features)
        x = Dense(width, ("input", "mlp"), True, dtype=self.dtype, name="in")(x)
        out = Dense(width, ("mlp", "embed"), True, self.scale, self.dtype, name="out")
        return out(jax.nn.silu(x))


class DiT(nn.Module):
    """Prediction [B, H, W, out_channels] (float32), zero at initialisation, and its measures.

    Inputs are the noisy image [B, H, W, C] and the `Conditions`, of which the label is given when
    `model.num_classes` > 0; label `num_classes` means "no class" and is in the table only when
    `model.class_dropout` > 0.
    """

    model: Any  # FrozenConfigDict
    hardware: Any  # FrozenConfigDict
    out_channels: int

    @nn.compact
    def __call__(
        self, xt_BxHxWxC: jax.Array, given: Conditions
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        model, dtype = self.model, jnp.dtype(self.hardware.compute_dtype)
        _, height, width, _ = xt_BxHxWxC.shape
        patch, embed = model.patch_size, (model.width,)
        x = patchify(fourier_features(xt_BxHxWxC, model.fourier_features), patch)
        x_BxLxD = Dense(embed, ("input", "embed"), True, dtype=dtype, name="patches")(x)
        x_BxLxD += grid_positions(height // patch, width // patch, model.width).astype(dtype)
        condition_BxD = TimeEmbedding(model, dtype, name="time")(given.gamma_B)
        if given.until_B is not None:
            condition_BxD += TimeEmbedding(model, dtype, 0.0, name="until")(given.until_B)
        if model.num_classes:
            rows, normal = (
                model.num_classes + (model.class_dropout > 0),
                nn.initializers.normal(0.02),
            )
            table = parameter(self, "label", normal, ("class", "embed"), (rows, *embed))
            condition_BxD += table[given.label_B].astype(dtype)
        stack = Stack(model, self.hardware, causal=False, name="stack")
        x_BxLxD, measures, _ = stack(x_BxLxD, condition_BxD)
        modulation = Dense(
            (2, *embed), ("embed", None, "modulation"), True, 0.0, dtype, name="final_modulation"
        )(jax.nn.silu(condition_BxD))
        shift, scale = modulation[:, None, 0], modulation[:, None, 1]
        x_BxLxD = Norm(model.norm, affine=False, name="final_norm")(x_BxLxD) * (1 + scale) + shift
        features = (patch * patch * self.out_channels,)
        x_BxLxD = constrain(x_BxLxD, "batch", "length", None)
        y = Dense(features, ("embed", "output"), True, 0.0, dtype, name="final")(x_BxLxD)
        return unpatchify(y, patch, height, width).astype(jnp.float32), measures
