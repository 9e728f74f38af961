"""A Transformer over patches that says what an image shows, clean or noisy."""

from typing import Any

import flax.linen as nn
import jax
from jax import numpy as jnp
from ml_collections import ConfigDict, FrozenConfigDict

from research.errors import UserError
from research.models import transformer
from research.models.common import Dense, Norm
from research.models.condition_embedding import TimeEmbedding
from research.models.dit import grid_positions, patchify
from research.models.transformer import Stack

PARTS = transformer.PARTS
PREFERRED = dict(qk_norm=False, activation="gelu")
check_hardware = transformer.check_hardware


def default_model() -> dict[str, Any]:
    """The stack's keys of `config.model`, and those of what is around it."""
    return transformer.default_model() | dict(
        norm="layernorm",
        bias=True,
        zero_outputs=False,
        patch_size=4,
        time_features=64,  # sinusoids of log-SNR, where images are noisy
    )


def check(config: ConfigDict) -> None:
    """Raise UserError for a stack, patches or sinusoids that cannot be built."""
    model = config.model
    transformer.check(config)
    height, width, _ = model.image_shape
    if model.patch_size < 1 or height % model.patch_size or width % model.patch_size:
        raise UserError(
            f"config.model.patch_size={model.patch_size} does not divide the {height}x{width} image"
        )
    for key, divisor in (("width", 4), ("time_features", 2)):
        if model[key] % divisor:
            raise UserError(f"config.model.{key}={model[key]} must be a multiple of {divisor}")
    if model.get("noisy") and model.zero_outputs:
        raise UserError(
            "config.model.zero_outputs=True with noisy=True: the gates of the noise level start at "
            "zero already, and a branch of which both factors are zero never learns"
        )


def positions(config: ConfigDict) -> int:
    """Patches of one image."""
    height, width, _ = config.model.image_shape
    return (height // config.model.patch_size) * (width // config.model.patch_size)


def build(model: FrozenConfigDict, hardware: FrozenConfigDict) -> "ImageClassifier":
    """The module of the family classifier."""
    return ImageClassifier(model, hardware)


class ImageEncoder(nn.Module):
    """Features [B, D] (float32) of images x [B, H, W, C], and what the stack measures.

    They are the mean over patches of what the stack's last norm gives. A noise level gamma [B],
    which is -log SNR, modulates every layer by adaLN; None leaves the layers unmodulated.
    """

    model: Any  # FrozenConfigDict
    hardware: Any  # FrozenConfigDict

    @nn.compact
    def __call__(
        self, x_BxHxWxC: jax.Array, gamma_B: jax.Array | None = None
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        model, dtype = self.model, jnp.dtype(self.hardware.compute_dtype)
        _, height, width, _ = x_BxHxWxC.shape
        patch, embed = model.patch_size, (model.width,)
        x = patchify(x_BxHxWxC, patch)
        x_BxLxD = Dense(embed, ("input", "embed"), True, dtype=dtype, name="patches")(x)
        x_BxLxD += grid_positions(height // patch, width // patch, model.width).astype(dtype)
        condition_BxD = None
        if gamma_B is not None:
            condition_BxD = TimeEmbedding(model, dtype, name="time")(gamma_B)
        stack = Stack(model, self.hardware, causal=False, name="stack")
        x_BxLxD, measures, _ = stack(x_BxLxD, condition_BxD)
        x_BxLxD = Norm(model.norm, bias=model.bias, name="final_norm")(x_BxLxD)
        return x_BxLxD.mean(1).astype(jnp.float32), measures


class ImageClassifier(nn.Module):
    """Features [B, D] and logits [B, classes] (float32) of images, and what the stack measures.

    The logits are a linear map of the features and start at zero.
    """

    model: Any  # FrozenConfigDict
    hardware: Any  # FrozenConfigDict

    @nn.compact
    def __call__(
        self, x_BxHxWxC: jax.Array, gamma_B: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array, dict[str, jax.Array]]:
        encoder = ImageEncoder(self.model, self.hardware, name="encoder")
        features_BxD, measures = encoder(x_BxHxWxC, gamma_B)
        classes = (self.model.num_classes,)
        logits = Dense(classes, ("embed", "output"), True, 0.0, name="head")(features_BxD)
        return features_BxD, logits.astype(jnp.float32), measures
