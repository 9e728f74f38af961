"""U-ViT (Bao et al. 2023, All are Worth Words): all is a token, and long skips join the halves.

Time, class and text stand before the patches. Each block of the second half reads the stream and
what its mirror image in the first half made, joined by a linear map (section 3.1, equation of
figure 2); a 3x3 convolution smooths the seams of patches.
"""

from typing import Any

import flax.linen as nn
import jax
from jax import numpy as jnp
from ml_collections import ConfigDict, FrozenConfigDict

from research.errors import UserError
from research.mesh import constrain
from research.models import condition_embedding, dit, text_encoder, transformer
from research.models.attention import Where
from research.models.common import Conv, Dense, Norm, declared, parameter
from research.models.conditions import Conditions
from research.models.sinusoidal_positions import sinusoids
from research.models.text_encoder import TextEncoder
from research.models.transformer import Block, drawn_layers, means, runner
from research.parts import Machine

PARTS = transformer.PARTS
PREFERRED = dict(qk_norm=False, activation="gelu")
READS = ("text",)


def default_model() -> dict[str, Any]:
    """The blocks' keys of `config.model`, and those of what is around them."""
    return (
        transformer.default_model()
        | text_encoder.default_model()
        | dict(norm="layernorm", bias=True, patch_size=2, final_conv=True)
    )


def check(config: ConfigDict) -> None:
    """Raise UserError for blocks without a mirror image, or patches that cannot be built."""
    model = config.model
    transformer.check(config)
    text_encoder.check(config)
    dit.check_patches(config)
    if model.depth < 2:
        raise UserError(
            f"config.model.depth={model.depth} must be at least 2, a block on either side of the "
            "middle one"
        )
    plain = {"pattern": (), "residual_scalars": False}
    dit.check_plain(model, plain, "config.model.network='uvit', whose blocks are all alike")


def check_hardware(config: ConfigDict, machine: Machine) -> None:
    """Raise UserError where blocks that skip to each other would have to go round a pipeline."""
    transformer.check_hardware(config, machine)
    if machine.sizes["stage"] > 1:
        raise UserError(
            f"config.hardware.mesh.stage={machine.sizes['stage']} cannot hold the long skips of "
            "config.model.network='uvit'; use mesh.fsdp or mesh.tensor"
        )


def _told(model: Any) -> int:
    """Tokens that stand before the patches."""
    return 1 + (model.num_classes > 0) + text_encoder.length(model)


def positions(config: ConfigDict) -> int:
    """Patches of one image, and what stands before them."""
    return _told(config.model) + dit.patches(config.model)


def build(model: FrozenConfigDict, hardware: FrozenConfigDict, channels: int) -> "UViT":
    """The module of the family diffusion."""
    return UViT(model, hardware, channels)


class SkipBlock(nn.Module):
    """A block over the stream, joined with what an earlier one made where that is given."""

    model: FrozenConfigDict
    kernel: str
    dtype: Any

    @nn.compact
    def __call__(
        self, x_BxLxD: jax.Array, where: Where, skip_BxLxD: jax.Array | None, cache: Any = ()
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        del cache
        width = x_BxLxD.shape[-1]
        if skip_BxLxD is not None:
            both = jnp.concatenate([x_BxLxD, skip_BxLxD], -1)
            x_BxLxD = Dense((width,), ("embed", None), True, dtype=self.dtype, name="join")(both)
            x_BxLxD = constrain(x_BxLxD, "batch", "residual", None)
        block = Block(self.model, False, self.kernel, self.dtype, name="block")
        x_BxLxD, measures, _ = block(x_BxLxD, None, where)
        return x_BxLxD, measures


class UStack(nn.Module):
    """x [B, L, D] through half of `depth` blocks, one more, and the other half with its skips.

    So there are `depth` of them where that is odd, and one more where it is even, as in their code.

    Parameters of a half lie together, with a leading layer axis; each half is one scan, or a
    straight line where `hardware.unroll` says so. Returns what the blocks measure, too.
    """

    model: Any
    hardware: Any

    @nn.compact
    def __call__(self, x_BxLxD: jax.Array, where: Where) -> tuple[jax.Array, dict[str, jax.Array]]:
        model, hardware = self.model, self.hardware
        dtype, straight = jnp.dtype(hardware.compute_dtype), hardware.unroll >= model.depth
        x = constrain(x_BxLxD.astype(dtype), "batch", "residual", None)
        block = SkipBlock(model, hardware.attention, dtype, parent=None)
        run = runner(block, hardware.remat, straight)

        def layers(name: str, depth: int, skip: Any) -> Any:
            some = FrozenConfigDict({**model, "depth": depth})
            return declared(self, name, drawn_layers, some, [block], x, (where, skip))

        half = model.depth // 2
        down, middle = layers("down", half, None), layers("middle", 1, None)
        up = layers("up", half, x)
        if self.is_initializing():  # nobody reads what new layers make of an example
            return x, {}

        def before(x: Any, layer: Any) -> Any:
            x, measures = run(layer, x, (where, None))
            return x, (x, measures)

        def after(x: Any, each: Any) -> Any:
            layer, skip = each
            return run(layer, x, (where, skip))

        x, (skips, first) = jax.lax.scan(before, x, down, unroll=straight)
        x, (_, second) = jax.lax.scan(before, x, middle)
        x, third = jax.lax.scan(after, x, (up, skips[::-1]), unroll=straight)
        return x, means([first, second, third])


class UViT(nn.Module):
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
        (_, height, width, _), patch = xt_BxHxWxC.shape, model.patch_size
        x = dit.patchify(xt_BxHxWxC, patch)
        embed = (model.width,)
        tokens = [sinusoids(condition_embedding.place(model, given.gamma_B), model.width)[:, None]]
        label_BxD = condition_embedding.label_vector(self, model, given, dtype)
        if label_BxD is not None:
            tokens.append(label_BxD[:, None])
        where, told = Where(), _told(model)
        if model.text_vocab:
            text_BxSxD, there_BxS = TextEncoder(model, self.hardware, name="text")(given.text_BxS)
            tokens.insert(0, text_BxSxD)
            others = ((0, 0), (0, told + dit.patches(model) - there_BxS.shape[1]))
            there_BxL = jnp.pad(there_BxS, others, constant_values=True)
            where = Where(segments=there_BxL.astype(jnp.int32))
        patches = Dense(embed, ("input", "embed"), True, dtype=dtype, name="patches")(x)
        x_BxLxD = jnp.concatenate([*(token.astype(dtype) for token in tokens), patches], 1)
        normal, axes = nn.initializers.normal(0.02), ("position", "embed")
        at = parameter(self, "positions", normal, axes, (x_BxLxD.shape[1], model.width))
        stack = UStack(model, self.hardware, name="stack")
        x_BxLxD, measures = stack(x_BxLxD + at.astype(dtype), where)
        more = (model.norm_scale, model.bias, model.norm_epsilon)
        x_BxLxD = Norm(model.norm, *more, name="final_norm")(x_BxLxD[:, told:])
        x_BxLxD = constrain(x_BxLxD, "batch", "length", None)
        features = (patch * patch * self.out_channels,)
        axes, last = ("embed", "output"), 0.0 if not model.final_conv else 1.0
        y = Dense(features, axes, True, last, dtype, name="final")(x_BxLxD)
        y = dit.unpatchify(y, patch, height, width)
        if model.final_conv:
            how: dict[str, Any] = dict(bias=True, scale=0.0, dtype=dtype, name="final_conv")
            y = Conv(self.out_channels, (3, 3), ("input", "output"), **how)(y)
        return y.astype(jnp.float32), measures
