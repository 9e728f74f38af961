"""Transformers from an image to a grid of places and back: a place is a patch of the image.

Patches are embedded with sinusoids of where they are and read by a stack that sees all of them, as
in a ViT (Dosovitskiy et al. 2021); the decoder is the same from the latent's places to patches.
"""

from typing import Any

import flax.linen as nn
import jax
from jax import numpy as jnp
from ml_collections import ConfigDict, FrozenConfigDict

from research.mesh import constrain
from research.models import dit, transformer
from research.models.attention import Where
from research.models.common import Dense, class_vector
from research.models.transformer import Stack

PARTS = transformer.PARTS
PREFERRED = dict(qk_norm=False, activation="gelu", positions="none")
check_hardware = transformer.check_hardware


def default_model() -> dict[str, Any]:
    """The stacks' keys of `config.model`, each of `depth` layers, and the patches'."""
    own = dict(norm="layernorm", bias=True, zero_outputs=False, patch_size=2)
    return transformer.default_model() | own


def check(config: ConfigDict) -> None:
    """Raise UserError for stacks or patches that cannot be built."""
    transformer.check(config)
    if config.model.image_shape:  # tokens have none; the family says so
        dit.check_patches(config)


def latent_sides(model: Any) -> tuple[int, int]:
    """Height and width of the grid of patches."""
    height, across, _ = model.image_shape
    return height // model.patch_size, across // model.patch_size


def positions(config: ConfigDict) -> int:
    """Patches of an image."""
    return dit.patches(config.model)


def build(
    model: FrozenConfigDict, hardware: FrozenConfigDict, features: int, outputs: int
) -> tuple["Grid", "Grid"]:
    """The two modules: image -> [B, h, w, features] of a latent, and latent -> [.., outputs]."""
    patch = model.patch_size
    return Grid(model, hardware, patch, 1, features), Grid(model, hardware, 1, patch, outputs)


class Grid(nn.Module):
    """[B, h * out_patch, w * out_patch, features] (float32) of x [B, h * patch, w * patch, any]."""

    model: FrozenConfigDict
    hardware: FrozenConfigDict
    patch: int
    out_patch: int
    features: int

    @nn.compact
    def __call__(self, x_BxHxWxC: jax.Array, label_B: jax.Array | None = None) -> jax.Array:
        model, dtype = self.model, jnp.dtype(self.hardware.compute_dtype)
        rows, columns = (side // self.patch for side in x_BxHxWxC.shape[1:3])
        embed, width = ("input", "embed"), model.width
        x = dit.patchify(x_BxHxWxC, self.patch)
        x_BxLxD = Dense((width,), embed, True, dtype=dtype, name="patches")(x)
        x_BxLxD += dit.grid_positions(rows, columns, width).astype(dtype)
        if label_B is not None:
            x_BxLxD += class_vector(self, label_B, model.num_classes, width, dtype)[:, None]
        stack = Stack(model, self.hardware, causal=False, name="stack")
        x_BxLxD, _, _ = stack(x_BxLxD, None, Where())
        x_BxLxD = constrain(dit.last_norm(model, x_BxLxD, None, dtype), "batch", "length", None)
        outputs = (self.out_patch**2 * self.features,)
        y = Dense(outputs, ("embed", "output"), True, dtype=dtype, name="last")(x_BxLxD)
        height, across = rows * self.out_patch, columns * self.out_patch
        return dit.unpatchify(y, self.out_patch, height, across).astype(jnp.float32)
