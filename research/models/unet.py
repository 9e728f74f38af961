"""The U-Net of diffusion: residual convolutions down and up, attention at some resolutions.

Its parts are those of DDPM (Ho et al. 2020, appendix B) and of ADM (Dhariwal & Nichol 2021, section
3), each by a key: what the network is told shifts a block's features or scales and shifts its norm
(FiLM), and resolutions change by convolutions or inside of residual blocks.
"""

import math
from typing import Any

import flax.linen as nn
import jax
from flax.core import unfreeze
from jax import numpy as jnp
from ml_collections import ConfigDict, FrozenConfigDict
from ml_collections.config_dict import placeholder

from research.errors import UserError
from research.mesh import constrain
from research.models import attention, condition_embedding
from research.models.attention import IN_ORDER
from research.models.common import Conv, Dense, Norm, declared
from research.models.conditions import Conditions
from research.models.transformer import REMAT_POLICIES
from research.parts import Machine, check_choice

READS = ("control", "until")
RESAMPLES = ("residual", "convolution")  # ADM, DDPM
TOLD = ("film", "shift")  # ADM, DDPM
KERNELS = ("dense", "chunked")
SQUARE = (3, 3)


def default_model() -> dict[str, Any]:
    """Keys of `config.model`; `width` is that of the first level, before its multiplier."""
    return dict(
        width=placeholder(int),
        channel_multipliers=(1, 2, 2),  # of the width, a level each; the next has half the pixels
        blocks_per_level=2,  # on the way down; one more on the way up
        attention_resolutions=(8,),  # heights of the levels that attend; the middle does anyway
        head_width=32,  # features of a head, at most: as many as divide channels; 0: one head
        qk_norm=False,
        resample="residual",
        told="film",
        norm_groups=32,  # at most: as many of them as divide the channels
        group_channels=4,  # in each at least: one alone loses what background it stands before
        time_features=64,  # sinusoids of log-SNR; as many as `width` in ADM
    )


def resolutions(model: Any) -> list[int]:
    """The heights of the levels."""
    return [model.image_shape[0] >> level for level in range(len(model.channel_multipliers))]


def check(config: ConfigDict) -> None:
    """Raise UserError for levels, heads or blocks that cannot be built."""
    model = config.model
    check_choice("model.resample", model.resample, RESAMPLES)
    check_choice("model.told", model.told, TOLD)
    for key, least in (
        ("width", 1),
        ("blocks_per_level", 1),
        ("norm_groups", 1),
        ("group_channels", 1),
        ("head_width", 0),
    ):
        if model[key] < least:
            raise UserError(f"config.model.{key}={model[key]} must be at least {least}")
    multipliers = model.channel_multipliers
    if not multipliers or min(multipliers) < 1 or model.width % 2:
        raise UserError(
            f"config.model.channel_multipliers={multipliers} must be one or more numbers from "
            f"1, and config.model.width={model.width} even"
        )
    height, across, _ = model.image_shape
    deepest = next(n for n in range(32, 0, -1) if math.gcd(height, across) % 2 ** (n - 1) == 0)
    if len(multipliers) > deepest:
        raise UserError(
            f"config.model.channel_multipliers={multipliers} halve a {height}x{across} image "
            f"{len(multipliers) - 1} times; nearest valid: {tuple(multipliers[:deepest])}"
        )
    for each in model.attention_resolutions:
        if each not in resolutions(model):
            near = min(resolutions(model), key=lambda size: abs(size - each))
            raise UserError(
                f"config.model.attention_resolutions={model.attention_resolutions} has {each}, but "
                f"the levels are {resolutions(model)} high; nearest valid: {near}"
            )
    if model.time_features < 2 or model.time_features % 2:
        raise UserError(f"config.model.time_features={model.time_features} must be a multiple of 2")


def check_hardware(config: ConfigDict, machine: Machine) -> None:
    """Raise UserError for what a network of convolutions cannot be run as."""
    hardware = config.hardware
    check_choice("hardware.remat", hardware.remat, REMAT_POLICIES)
    if hardware.attention not in KERNELS:
        raise UserError(
            f"config.hardware.attention={hardware.attention!r}: the heads and places of "
            f"config.model.network='unet' change from level to level; use {' or '.join(KERNELS)}"
        )
    if machine.sizes["stage"] > 1:
        raise UserError(
            f"config.hardware.mesh.stage={machine.sizes['stage']} goes round equal layers, which "
            "config.model.network='unet' does not have; use mesh.fsdp or mesh.tensor"
        )


def positions(config: ConfigDict) -> int:
    """Pixels of an image."""
    height, across, _ = config.model.image_shape
    return height * across


def build(model: FrozenConfigDict, hardware: FrozenConfigDict, channels: int) -> "UNet":
    """The module of the family diffusion."""
    return UNet(model, hardware, channels)


def most(limit: int, channels: int) -> int:
    """The largest number that divides `channels` and is not above `limit`."""
    return next(n for n in range(min(limit, channels), 0, -1) if channels % n == 0)


def groups(model: Any, channels: int) -> int:
    """Of a norm: as many as divide the channels, within the limits of `model`; at least one."""
    return most(max(1, min(model.norm_groups, channels // model.group_channels)), channels)


def norm(model: Any, name: str, x: jax.Array) -> jax.Array:
    """x, normed over pixels and groups of its channels."""
    found = groups(model, x.shape[-1])
    return Norm("groupnorm", bias=True, epsilon=1e-5, groups=found, name=name)(x)


def halved(x_BxHxWxI: jax.Array) -> jax.Array:
    """The mean of each square of four pixels."""
    batch, height, width, channels = x_BxHxWxI.shape
    return x_BxHxWxI.reshape(batch, height // 2, 2, width // 2, 2, channels).mean((2, 4))


def doubled(x_BxHxWxI: jax.Array) -> jax.Array:
    """Each pixel as a square of four."""
    batch, height, width, channels = x_BxHxWxI.shape
    shape = (batch, height, 2, width, 2, channels)
    x = jnp.broadcast_to(x_BxHxWxI[:, :, None, :, None], shape)
    return x.reshape(batch, 2 * height, 2 * width, channels)


RESIZED = {"down": halved, "up": doubled, "": lambda x: x}


class ResidualBlock(nn.Module):
    """x [B, H, W, I] plus two convolutions of it, [B, H, W, features]; of half or twice the height.

    The second convolution starts at zero. What the network is told, [B, D], scales and shifts the
    second norm, or is added before it.
    """

    model: FrozenConfigDict
    features: int
    dtype: Any
    resize: str = ""

    @nn.compact
    def __call__(self, x: jax.Array, told_BxD: jax.Array) -> jax.Array:
        model, features, dtype = self.model, self.features, self.dtype
        resize = RESIZED[self.resize]
        y = resize(jax.nn.silu(norm(model, "in_norm", x)))
        x = resize(x)
        how: dict[str, Any] = dict(bias=True, dtype=dtype)
        y = Conv(features, SQUARE, ("embed", "mlp"), name="in", **how)(y)
        maps = 2 if model.told == "film" else 1
        axes = ("embed", None, "mlp")
        told = Dense((maps, features), axes, True, dtype=dtype, name="told")(jax.nn.silu(told_BxD))
        scale_or_shift, shift = told[:, None, None, 0], told[:, None, None, -1]
        if model.told == "film":
            y = norm(model, "out_norm", y) * (1 + scale_or_shift) + shift
        else:
            y = norm(model, "out_norm", y + shift)
        y = Conv(features, SQUARE, ("mlp", "embed"), scale=0.0, name="out", **how)(jax.nn.silu(y))
        if x.shape[-1] != features:
            x = Dense((features,), ("embed", None), True, dtype=dtype, name="skip")(x)
        return constrain(x + y, "batch", None, None, None)


class AttentionBlock(nn.Module):
    """x [B, H, W, I] plus what its pixels gather of each other, zero at the start."""

    model: FrozenConfigDict
    kernel: str
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        batch, height, width, channels = x.shape
        heads = channels // most(self.model.head_width or channels, channels)
        own = dict(num_heads=heads, positions="none", qk_norm=self.model.qk_norm)
        own |= dict(width=channels, bias=True, zero_outputs=True)
        plain = FrozenConfigDict({**attention.default_model(), **own})
        y_BxLxD = norm(self.model, "norm", x).reshape(batch, height * width, channels)
        y_BxLxD, _ = attention.build(plain, False, self.kernel, self.dtype)(y_BxLxD, IN_ORDER)
        return x + y_BxLxD.reshape(x.shape)


class Half(nn.Module):
    """What both halves of the network are made of."""

    model: FrozenConfigDict
    hardware: FrozenConfigDict

    @nn.nowrap
    def _block(self, name: str, level: int, resize: str = "") -> Any:
        """A residual block, which the backward pass computes again as `hardware.remat` says."""
        remat = self.hardware.remat
        kind: Any = ResidualBlock
        if remat != "none":
            kind = nn.remat(ResidualBlock, policy=REMAT_POLICIES[remat])
        features = self.model.width * self.model.channel_multipliers[level]
        return kind(self.model, features, jnp.dtype(self.hardware.compute_dtype), resize, name=name)

    @nn.nowrap
    def _attend(self, name: str, x: jax.Array, always: bool = False) -> jax.Array:
        """x after attention, where its resolution has any."""
        if not always and x.shape[1] not in self.model.attention_resolutions:
            return x
        dtype = jnp.dtype(self.hardware.compute_dtype)
        return AttentionBlock(self.model, self.hardware.attention, dtype, name=name)(x)

    @nn.nowrap
    def _resample(self, resize: str, level: int, x: jax.Array, told_BxD: jax.Array) -> jax.Array:
        """x at half or twice the height, by a convolution or inside of a residual block."""
        name = f"{resize}_{level}"
        if self.model.resample == "residual":
            return self._block(name, level, resize)(x, told_BxD)
        dtype = jnp.dtype(self.hardware.compute_dtype)
        strides = (2, 2) if resize == "down" else None
        how: dict[str, Any] = dict(strides=strides, bias=True, dtype=dtype, name=name)
        x = x if resize == "down" else doubled(x)
        return Conv(x.shape[-1], SQUARE, ("embed", None), **how)(x)


class Encoder(Half):
    """x [B, H, W, I] after the way down and the middle, and what the way up looks back at."""

    @nn.compact
    def __call__(self, x: jax.Array, told_BxD: jax.Array) -> tuple[jax.Array, list[jax.Array]]:
        model, seen = self.model, [x]
        levels = len(model.channel_multipliers)
        for level in range(levels):
            for each in range(model.blocks_per_level):
                x = self._block(f"block_{level}_{each}", level)(x, told_BxD)
                x = self._attend(f"attend_{level}_{each}", x)
                seen.append(x)
            if level < levels - 1:
                x = self._resample("down", level, x, told_BxD)
                seen.append(x)
        x = self._block("middle_0", levels - 1)(x, told_BxD)
        x = self._attend("middle_attend", x, always=True)
        return self._block("middle_1", levels - 1)(x, told_BxD), seen


class Decoder(Half):
    """x [B, h, w, I] after the way up, where each block also reads what the way down made."""

    @nn.compact
    def __call__(self, x: jax.Array, seen: list[jax.Array], told_BxD: jax.Array) -> jax.Array:
        seen = [*seen]
        for level in reversed(range(len(self.model.channel_multipliers))):
            for each in range(self.model.blocks_per_level + 1):
                both = jnp.concatenate([x, seen.pop()], -1)
                x = self._block(f"block_{level}_{each}", level)(both, told_BxD)
                x = self._attend(f"attend_{level}_{each}", x)
            if level:
                x = self._resample("up", level, x, told_BxD)
        return x


class Trunk(nn.Module):
    """x [B, H, W, width] through both halves, as [B, H W, I].

    Given a `hint` like x, a copy of the encoder reads x and the hint, and maps that start at zero
    add what it makes to what the decoder reads (Zhang et al. 2023, section 3.2). As in `control`,
    the copy is kept as its difference from the encoder.
    """

    model: FrozenConfigDict
    hardware: FrozenConfigDict

    @nn.compact
    def __call__(
        self, x: jax.Array, told_BxD: jax.Array, hint: jax.Array | None
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        made, seen = Encoder(self.model, self.hardware, name="encoder")(x, told_BxD)
        if hint is not None:
            made, seen = self._steered(x + hint, told_BxD, made, seen)
        y = Decoder(self.model, self.hardware, name="decoder")(made, seen, told_BxD)
        return y.reshape(len(y), -1, y.shape[-1]), {}

    @nn.nowrap
    def _steered(self, x: jax.Array, told_BxD: jax.Array, made: jax.Array, seen: list) -> Any:
        """What the decoder reads, with what the copy of the encoder adds."""
        dtype = jnp.dtype(self.hardware.compute_dtype)
        own = unfreeze(self.get_variable("params", "encoder"))
        change: Any = declared(self, "control", lambda _: jax.tree.map(jnp.zeros_like, own))
        kept = jax.tree.map(jax.lax.stop_gradient, nn.meta.unbox(own))
        copy = Encoder(self.model, self.hardware, parent=None)
        found: Any = copy.apply({"params": jax.tree.map(jnp.add, kept, change)}, x, told_BxD)
        last, others = found

        def added(index: int, x: jax.Array, other: jax.Array) -> jax.Array:
            features, name = (x.shape[-1],), f"control_out_{index}"
            return x + Dense(features, ("embed", None), True, 0.0, dtype, name=name)(other)

        pairs: Any = zip([made, *seen], [last, *others], strict=True)
        made, *seen = (added(index, *pair) for index, pair in enumerate(pairs))
        return made, seen


class UNet(nn.Module):
    """Prediction [B, H, W, out_channels] (float32), zero at initialisation, and its measures.

    Inputs are the noisy image [B, H, W, C] and the `Conditions`.
    """

    model: Any  # FrozenConfigDict
    hardware: Any  # FrozenConfigDict
    out_channels: int

    @nn.compact
    def __call__(
        self, xt_BxHxWxC: jax.Array, given: Conditions
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        model, dtype = self.model, jnp.dtype(self.hardware.compute_dtype)
        wide = FrozenConfigDict({**model, "width": 4 * model.width})
        vectors = condition_embedding.vectors(self, wide, given, dtype)
        told_BxD = sum(vectors[1:], vectors[0])
        how: dict[str, Any] = dict(bias=True, dtype=dtype)
        width = model.width * model.channel_multipliers[0]
        into = ("input", "embed")
        x = Conv(width, SQUARE, into, name="in", **how)(xt_BxHxWxC)
        hint = None
        if given.image_BxHxWxC is not None:
            hint = Conv(width, SQUARE, into, scale=0.0, name="hint", **how)(given.image_BxHxWxC)
        x_BxLxD, measures = Trunk(model, self.hardware, name="stack")(x, told_BxD, hint)
        y = jax.nn.silu(norm(model, "final_norm", x_BxLxD)).reshape(x.shape)
        y = Conv(self.out_channels, SQUARE, ("embed", "output"), scale=0.0, name="final", **how)(y)
        return y.astype(jnp.float32), measures
