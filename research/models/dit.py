"""The diffusion Transformer, DiT with adaLN-zero (Peebles & Xie 2023), over log-SNR."""

from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jax import numpy as jnp

from research.mesh import constrain
from research.models.common import Dense, Norm, parameter
from research.models.transformer import Stack


def patchify(image: jax.Array, patch_size: int) -> jax.Array:
    """Cut [batch, height, width, channels] into [batch, patches, patch_size^2 * channels]."""
    batch, height, width, channels = image.shape
    rows, columns = height // patch_size, width // patch_size
    x = image.reshape(batch, rows, patch_size, columns, patch_size, channels)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, rows * columns, -1)


def unpatchify(patches: jax.Array, patch_size: int, height: int, width: int) -> jax.Array:
    """Inverse of `patchify`: [batch, height, width, channels]."""
    batch, rows, columns = patches.shape[0], height // patch_size, width // patch_size
    x = patches.reshape(batch, rows, columns, patch_size, patch_size, -1)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, height, width, -1)


def sinusoids(positions: jax.Array | np.ndarray, size: int) -> jax.Array:
    """Cosines and sines at `size` / 2 frequencies from 1 down to 1/10000, [..., size]."""
    frequency = 10_000.0 ** (-jnp.arange(size // 2) / (size // 2))
    angle = jnp.asarray(positions, jnp.float32)[..., None] * frequency
    return jnp.concatenate([jnp.cos(angle), jnp.sin(angle)], -1)


def grid_positions(rows: int, columns: int, width: int) -> jax.Array:
    """Fixed embedding of the patch grid, [rows * columns, width]: half for each axis (He 2022)."""
    row, column = np.indices((rows, columns)).reshape(2, -1)
    return jnp.concatenate([sinusoids(column, width // 2), sinusoids(row, width // 2)], -1)


def fourier_features(x: jax.Array, exponents: tuple[int, ...]) -> jax.Array:
    """Append sin and cos of 2^n 2 pi x on the last axis: the fine levels (Kingma 2021, app. C)."""
    angles = [x * (2.0**exponent * 2 * np.pi) for exponent in exponents]
    return jnp.concatenate([x, *map(jnp.sin, angles), *map(jnp.cos, angles)], -1)


class TimeEmbedding(nn.Module):
    """Two-layer perceptron over sinusoids of gamma's place on the schedule, [batch, width]."""

    model: Any  # FrozenConfigDict
    dtype: Any

    @nn.compact
    def __call__(self, gamma: jax.Array) -> jax.Array:
        model, width = self.model, (self.model.width,)
        place = (gamma - model.gamma_min) / (model.gamma_max - model.gamma_min)
        x = sinusoids(1000 * place, model.time_features)
        x = Dense(width, ("input", "mlp"), True, dtype=self.dtype, name="in")(x)
        return Dense(width, ("mlp", "embed"), True, dtype=self.dtype, name="out")(jax.nn.silu(x))


class DiT(nn.Module):
    """Prediction [batch, height, width, out_channels] (float32), zero at initialisation.

    Inputs are the noisy image x_t [batch, height, width, channels], gamma = -log SNR [batch] and,
    when `model.num_classes` > 0, the label [batch]; label `num_classes` means "no class" and is in
    the table only when `model.class_dropout` > 0. `out_channels` 0 means as many as the image.
    """

    model: Any  # FrozenConfigDict
    hardware: Any  # FrozenConfigDict
    out_channels: int = 0

    @nn.compact
    def __call__(
        self, x_t: jax.Array, gamma: jax.Array, label: jax.Array | None
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        model, dtype = self.model, jnp.dtype(self.hardware.compute_dtype)
        _, height, width, channels = x_t.shape
        patch, embed = model.patch_size, (model.width,)
        x = patchify(fourier_features(x_t, model.fourier_features), patch)
        x = Dense(embed, ("input", "embed"), True, dtype=dtype, name="patches")(x)
        x += grid_positions(height // patch, width // patch, model.width).astype(dtype)
        condition = TimeEmbedding(model, dtype, name="time")(gamma)
        if model.num_classes:
            rows, normal = (
                model.num_classes + (model.class_dropout > 0),
                nn.initializers.normal(0.02),
            )
            table = parameter(self, "label", normal, ("class", "embed"), (rows, *embed))
            condition += table[label].astype(dtype)
        x, measures = Stack(model, self.hardware, causal=False, name="stack")(x, condition)
        modulation = Dense(
            (2, *embed), ("embed", None, "modulation"), True, 0.0, dtype, name="final_modulation"
        )(jax.nn.silu(condition))
        shift, scale = modulation[:, None, 0], modulation[:, None, 1]
        x = Norm(model.norm, affine=False, name="final_norm")(x) * (1 + scale) + shift
        features = (patch * patch * (self.out_channels or channels),)
        x = constrain(x, "batch", "length", None)
        x = Dense(features, ("embed", "output"), True, 0.0, dtype, name="final")(x)
        return unpatchify(x, patch, height, width).astype(jnp.float32), measures
