"""A Transformer over the patches of an image, as in Jet (Kolesnikov 2024, arXiv 2412.15129)."""

from typing import Any

import flax.linen as nn
import jax
from jax import numpy as jnp
from ml_collections import ConfigDict, FrozenConfigDict

from research.errors import UserError
from research.models import transformer
from research.models.common import Dense, Norm, class_vector, parameter
from research.models.conditioners import place_count, precise
from research.models.dit import patchify, unpatchify
from research.models.transformer import Stack

PARTS = transformer.PARTS
PREFERRED = dict(positions="none", qk_norm=False)
check_hardware = transformer.check_hardware


def default_model() -> dict[str, Any]:
    """The stack's keys of `config.model`, and how large a patch is."""
    own = dict(zero_outputs=False, patch_size=2)  # places across, of what the network reads
    return transformer.default_model() | own


def check(config: ConfigDict) -> None:
    """Raise UserError for a stack that cannot be built."""
    transformer.check(config)
    if config.model.bias:
        raise UserError("config.model.bias=True must be False: layers of flows have no such stacks")


def check_grid(model: Any, grid: tuple[int, int, int]) -> None:
    """Raise UserError for patches that do not cover a grid."""
    height, across, _ = grid
    size = model.patch_size
    if size < 1 or height % size or across % size:
        near = next(s for s in range(max(1, size), 0, -1) if not (height % s or across % s))
        raise UserError(
            f"config.model.patch_size={size} does not divide the {height}x{across} places that the "
            f"network reads; nearest valid: {near}"
        )


def positions(model: Any, grid: tuple[int, int, int]) -> int:
    """Patches of the grid."""
    return place_count(grid) // model.patch_size**2


def build(
    model: FrozenConfigDict, hardware: FrozenConfigDict, grid: tuple[int, int, int], outputs: int
) -> "PatchConditioner":
    """The module; see `research.models.conditioners`."""
    del grid
    return PatchConditioner(model, hardware, outputs)


class PatchConditioner(nn.Module):
    """[B, H, W, outputs] of x [B, H, W, C]."""

    model: FrozenConfigDict
    hardware: FrozenConfigDict
    outputs: int

    @nn.compact
    def __call__(self, x_BxHxWxC: jax.Array, label_B: jax.Array | None = None) -> jax.Array:
        model, (_, height, across, _) = self.model, x_BxHxWxC.shape
        dtype, width = jnp.dtype(self.hardware.compute_dtype), model.width
        x_BxLxO = patchify(x_BxHxWxC, model.patch_size)
        x_BxLxD = Dense((width,), ("input", "embed"), True, dtype=dtype, name="patches")(x_BxLxO)
        shape, normal = (x_BxLxO.shape[1], width), nn.initializers.normal(0.02)
        x_BxLxD += parameter(self, "places", normal, ("position", "embed"), shape).astype(dtype)
        if label_B is not None:
            x_BxLxD += class_vector(self, label_B, model.num_classes, width, dtype)[:, None]
        x_BxLxD = Stack(model, self.hardware, False, name="stack")(x_BxLxD)[0]
        x_BxLxD = Norm(model.norm, epsilon=model.norm_epsilon, name="final_norm")(x_BxLxD)
        features, axes = (model.patch_size**2 * self.outputs,), ("embed", "output")
        y_BxLxO = Dense(features, axes, True, 0.0, dtype, name="last")(x_BxLxD)
        return precise(unpatchify(y_BxLxO, model.patch_size, height, across))
