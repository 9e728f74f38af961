"""The diffusion Transformer, DiT (Peebles & Xie 2023), over log-SNR.

What it is told reaches the blocks in one of four ways (section 3.2): by adaLN-zero, of each layer
or of a map that layers share (Chen et al. 2024, PixArt-alpha); as tokens before the patches; or as
tokens that each block looks into. Texts are looked into, or stand before the patches.
"""

from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jax import numpy as jnp
from ml_collections import ConfigDict, FrozenConfigDict

from research.errors import UserError
from research.mesh import constrain
from research.models import condition_embedding, control, text_encoder, transformer
from research.models.attention import Where
from research.models.common import Dense, Norm, parameter
from research.models.conditions import Conditions
from research.models.sinusoidal_positions import sinusoids
from research.models.text_encoder import TextEncoder
from research.models.transformer import Stack
from research.parts import Machine, check_choice

CONDITIONS = ("adaln", "adaln_shared", "in_context", "cross")
READS = ("text", "control", "until")  # of what a family may give it
PARTS = transformer.PARTS
PREFERRED = dict(qk_norm=False, activation="gelu")  # experiments/recipe_images.py


def default_model() -> dict[str, Any]:
    """The stack's keys of `config.model`, and those of what is around it."""
    own = transformer.default_model() | text_encoder.default_model() | control.default_model()
    return own | dict(
        norm="layernorm",
        bias=True,
        zero_outputs=False,  # its gates are zero already
        patch_size=2,
        condition="adaln",
        registers=0,  # learned tokens before the patches (Darcet et al. 2024)
        grid_embedding=True,  # sinusoids of a patch's place are added to it
        time_features=64,  # sinusoids of log-SNR; 256 in DiT
    )


def check(config: ConfigDict) -> None:
    """Raise UserError for a stack, patches or sinusoids that cannot be built."""
    model = config.model
    for each in (transformer, text_encoder, control):
        each.check(config)
    check_choice("model.condition", model.condition, CONDITIONS)
    if model.zero_outputs and _modulated(model):
        raise UserError(
            "config.model.zero_outputs=True: adaLN's gates start at zero already, and a branch of "
            "which both factors are zero never learns"
        )
    if model.registers < 0:
        raise UserError(f"config.model.registers={model.registers} must be at least 0")
    check_patches(config)


def check_patches(config: ConfigDict) -> None:
    """Raise UserError for patches or sinusoids that cannot be built."""
    model = config.model
    height, width, _ = model.image_shape
    if model.patch_size < 1 or height % model.patch_size or width % model.patch_size:
        raise UserError(
            f"config.model.patch_size={model.patch_size} does not divide the {height}x{width} image"
        )
    for key, divisor in (("width", 4), ("time_features", 2)):
        if model.get(key, 0) % divisor:
            raise UserError(f"config.model.{key}={model[key]} must be a multiple of {divisor}")


def check_plain(model: ConfigDict, plain: dict[str, Any], why: str) -> None:
    """Raise UserError for a key whose value is not that of plain blocks, and say why it has to."""
    for key, value in plain.items():
        if model.get(key, value) != value:
            raise UserError(f"config.model.{key}={model[key]!r} must be {value!r} for {why}")


def check_hardware(config: ConfigDict, machine: Machine) -> None:
    """Raise UserError for layers that cannot be run as `config.hardware` asks."""
    transformer.check_hardware(config, machine)
    control.check_hardware(config, machine)


def patches(model: Any) -> int:
    """Patches of one image."""
    height, width, _ = model.image_shape
    return (height // model.patch_size) * (width // model.patch_size)


def positions(config: ConfigDict) -> int:
    """Patches of one image, and what stands before them."""
    model = config.model
    told = (1 + (model.num_classes > 0) + text_encoder.length(model)) * (
        model.condition == "in_context"
    )
    return model.registers + told + patches(model)


def _modulated(model: Any) -> bool:
    """Whether branches are shifted, scaled and gated by what the network is told."""
    return model.condition.startswith("adaln")


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


def last_norm(model: Any, x_BxLxD: jax.Array, condition_BxD: Any, dtype: Any) -> jax.Array:
    """The stream as the last map reads it, modulated where there is a condition."""
    if condition_BxD is None:
        more = (model.norm_scale, model.bias, model.norm_epsilon)
        return Norm(model.norm, *more, name="final_norm")(x_BxLxD)
    axes = ("embed", None, "modulation")
    both = Dense((2, model.width), axes, True, 0.0, dtype, name="final_modulation")
    modulation = both(jax.nn.silu(condition_BxD))
    shift, scale = modulation[:, None, 0], modulation[:, None, 1]
    return Norm(model.norm, affine=False, name="final_norm")(x_BxLxD) * (1 + scale) + shift


class DiT(nn.Module):
    """Prediction [B, H, W, out_channels] (float32), zero at initialisation, and its measures.

    Inputs are the noisy image [B, H, W, C] and the `Conditions`, of which the label is given when
    `model.num_classes` > 0 and the text when `model.text_vocab` is; an image where it steers.
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
        x = patchify(xt_BxHxWxC, patch)
        x_BxLxD = Dense(embed, ("input", "embed"), True, dtype=dtype, name="patches")(x)
        if model.grid_embedding:
            grid = grid_positions(height // patch, width // patch, model.width)
            x_BxLxD += grid.astype(dtype)
        count = x_BxLxD.shape[1]
        vectors = condition_embedding.vectors(self, model, given, dtype)
        before, memory, where = self._tokens(vectors, given, count, dtype)
        told_BxD = sum(vectors[1:], vectors[0])
        condition = condition_BxD = told_BxD if _modulated(model) else None
        if model.condition == "adaln_shared":
            axes = ("embed", None, "modulation")
            shared = Dense((6, *embed), axes, True, 0.0, dtype, name="shared_modulation")
            condition = shared(jax.nn.silu(told_BxD))
        x_BxLxD = jnp.concatenate([*before, x_BxLxD], 1) if before else x_BxLxD
        if control.wanted(model):
            patches = patchify(given.image_BxHxWxC, patch)
            hint = Dense(embed, ("input", "embed"), True, 0.0, dtype, name="hint")(patches)
            hint_BxLxD = jnp.pad(hint, ((0, 0), (x_BxLxD.shape[1] - count, 0), (0, 0)))
            stack = control.ControlledStack(model, self.hardware, name="stack")
            x_BxLxD, measures, _ = stack(x_BxLxD, condition, where, memory, hint_BxLxD)
        else:
            stack = Stack(model, self.hardware, causal=False, name="stack")
            x_BxLxD, measures, _ = stack(x_BxLxD, condition, where, memory_BxSxD=memory)
        x_BxLxD = last_norm(model, x_BxLxD[:, -count:], condition_BxD, dtype)
        features = (patch * patch * self.out_channels,)
        x_BxLxD = constrain(x_BxLxD, "batch", "length", None)
        y = Dense(features, ("embed", "output"), True, 0.0, dtype, name="final")(x_BxLxD)
        return unpatchify(y, patch, height, width).astype(jnp.float32), measures

    @nn.nowrap
    def _tokens(
        self, vectors: list[jax.Array], given: Conditions, count: int, dtype: Any
    ) -> tuple[list[jax.Array], jax.Array | None, Where]:
        """What stands before `count` patches, what is looked into, [B, ., D], and who sees whom."""
        model, (batch, width) = self.model, vectors[0].shape
        before, there = [], None
        if model.registers:
            normal, axes = nn.initializers.normal(0.02), ("position", "embed")
            table = parameter(self, "registers", normal, axes, (model.registers, width))
            before.append(jnp.broadcast_to(table.astype(dtype), (batch, *table.shape)))
        told = [] if _modulated(model) else [jnp.stack(vectors, 1)]
        if model.text_vocab:
            text_BxSxD, there = TextEncoder(model, self.hardware, name="text")(given.text_BxS)
            told = [*told, text_BxSxD]

        in_context = model.condition == "in_context"
        if in_context:
            before, told = [*before, *told], []
        where = Where()
        if there is not None:  # texts have padding, and stand last of what is told
            seen = sum(each.shape[1] for each in (before if in_context else told)) - there.shape[1]
            there_BxS = jnp.pad(there, ((0, 0), (seen, 0)), constant_values=True)
            patches_BxL = jnp.ones((batch, count), bool)
            segments = jnp.concatenate([there_BxS, patches_BxL], 1).astype(jnp.int32)
            where = Where(segments=segments) if in_context else Where(there=there_BxS)
        return before, jnp.concatenate(told, 1) if told else None, where
