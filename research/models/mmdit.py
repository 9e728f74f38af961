"""MM-DiT (Esser et al. 2024, section 4): text and image as two streams that attend jointly.

Each stream has maps, norms and perceptrons of its own, shifted, scaled and gated by time, class and
the mean of the text; queries, keys and values of both meet in one attention.
"""

from typing import Any

import flax.linen as nn
import jax
from jax import numpy as jnp
from ml_collections import ConfigDict, FrozenConfigDict

from research.errors import UserError
from research.mesh import constrain
from research.models import condition_embedding, dit, text_encoder, transformer
from research.models.attention import Where, attend, turned
from research.models.common import Dense, Norm, declared, residual_map
from research.models.conditions import Conditions
from research.models.mlp import MLP
from research.models.text_encoder import TextEncoder
from research.models.transformer import drawn_layers, runner
from research.parts import Machine

READS = ("text", "until")
PREFERRED = dict(qk_norm=True, activation="gelu")
PARTS = transformer.PARTS  # of the text's encoder; the joint blocks are plain ones
# What the blocks of two streams are, and no key can change.
PLAIN = dict(
    mixer="attention", channel="mlp", attention="full", pattern=(), num_kv_heads=0,
    sink_logits=False, attention_gate=False, norm_place="pre", parallel=False, zero_outputs=False,
    residual_scalars=False,
)  # fmt: skip
STREAMS = ("text", "image")


def default_model() -> dict[str, Any]:
    """The blocks' keys of `config.model`, and those of what is around them."""
    own = transformer.default_model() | text_encoder.default_model()
    plain = dict(norm="layernorm", bias=True, zero_outputs=False)
    return own | plain | dict(patch_size=2, time_features=64)


def check(config: ConfigDict) -> None:
    """Raise UserError for a model without a text, or blocks or patches that cannot be built."""
    model = config.model
    transformer.check(config)
    text_encoder.check(config)
    dit.check_patches(config)
    dit.check_plain(model, PLAIN, "the two streams of config.model.network='mmdit'")
    if not model.text_vocab:
        raise UserError(
            "config.model.network='mmdit' joins a text and an image: set config.model.text_vocab, "
            "or use network 'dit'"
        )


def check_hardware(config: ConfigDict, machine: Machine) -> None:
    """Raise UserError where two streams would have to go round a pipeline."""
    transformer.check_hardware(config, machine)
    if machine.sizes["stage"] > 1:
        raise UserError(
            f"config.hardware.mesh.stage={machine.sizes['stage']} takes one stream, not the two of "
            "config.model.network='mmdit'; use mesh.fsdp or mesh.tensor"
        )


def positions(config: ConfigDict) -> int:
    """Tokens of the text and patches of one image."""
    return text_encoder.length(config.model) + dit.patches(config.model)


def build(model: FrozenConfigDict, hardware: FrozenConfigDict, channels: int) -> "MMDiT":
    """The module of the family diffusion."""
    return MMDiT(model, hardware, channels)


class JointBlock(nn.Module):
    """Both streams, [B, S, D] and [B, L, D], through attention to both and their own perceptrons.

    The last block makes nothing of the text, of which it needs keys and values only.
    """

    model: FrozenConfigDict
    kernel: str
    dtype: Any
    last: bool = False

    @nn.compact
    def __call__(
        self,
        streams: tuple[jax.Array, jax.Array],
        condition_BxD: jax.Array,
        where: Where,
        cache: Any = (),
    ) -> tuple[jax.Array, jax.Array]:
        del cache
        model, width = self.model, self.model.width
        goes_on = {"text": not self.last, "image": True}
        changes = {name: self._changes(name, condition_BxD, goes_on[name]) for name in STREAMS}

        def read(name: str, part: str, x: jax.Array, index: int) -> jax.Array:
            shift, scale = changes[name][index : index + 2]
            y = Norm(model.norm, False, name=f"{name}_{part}_norm")(x) * (1 + scale) + shift
            return constrain(y, "batch", "length", None)

        each = [
            self._heads(name, read(name, "attention", x, 0), goes_on[name])
            for name, x in zip(STREAMS, streams, strict=True)
        ]
        q, k, v = (jnp.concatenate(both, 2) for both in zip(*each, strict=True))
        q, k = turned(model, Where(), q, k)
        y, _ = attend(model, False, self.kernel, q, k, v, where)
        y = constrain(y, "batch", "heads", "length", None)
        y = y.swapaxes(1, 2).reshape(len(y), -1, width)
        made = []
        gathered = jnp.split(y, [streams[0].shape[1]], 1)
        for name, x, y in zip(STREAMS, streams, gathered, strict=True):
            if goes_on[name]:
                out = residual_map(model, width, self.dtype, name=f"{name}_out")
                x = x + changes[name][2] * out(y)
                y, *_ = MLP(model, self.dtype, name=f"{name}_mlp")(read(name, "mlp", x, 3))
                x = constrain(x + changes[name][5] * y, "batch", "residual", None)
            made.append(x)
        return made[0], made[1]

    @nn.nowrap
    def _changes(self, name: str, condition_BxD: jax.Array, goes_on: bool) -> list[jax.Array]:
        """Shift, scale and gate of both branches of a stream, [B, 1, D] each."""
        count, axes = 6 if goes_on else 2, ("embed", None, "modulation")
        shape, called = (count, self.model.width), f"{name}_modulation"
        changes = Dense(shape, axes, True, 0.0, self.dtype, name=called)(condition_BxD)
        return [changes[:, None, index] for index in range(count)]

    @nn.nowrap
    def _heads(self, name: str, x_BxLxD: jax.Array, goes_on: bool) -> list[jax.Array]:
        """Queries, keys and values of a stream, each [B, N, L, K]; queries count if it goes on."""
        model, heads = self.model, self.model.num_heads
        features, axes = (heads, 3, model.width // heads), ("embed", "heads", None, "head_dim")
        qkv = Dense(features, axes, model.bias, dtype=self.dtype, name=f"{name}_qkv")(x_BxLxD)
        qkv = constrain(qkv, "batch", "length", "heads", None, None)
        q, k, v = (qkv[:, :, :, each].swapaxes(1, 2) for each in range(3))
        if model.qk_norm and goes_on:
            q = Norm("rmsnorm", name=f"{name}_query_norm")(q)
        if model.qk_norm:
            k = Norm("rmsnorm", name=f"{name}_key_norm")(k)
        return [q, k, v]


class JointStack(nn.Module):
    """The image's stream [B, L, D] after all blocks; equal ones are one scan, and the last one."""

    model: Any
    hardware: Any

    @nn.compact
    def __call__(
        self, streams: tuple[jax.Array, jax.Array], condition_BxD: jax.Array, where: Where
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        model, hardware = self.model, self.hardware
        dtype, straight = jnp.dtype(hardware.compute_dtype), hardware.unroll >= model.depth
        text, image = (constrain(x.astype(dtype), "batch", "residual", None) for x in streams)
        given, before = (jax.nn.silu(condition_BxD), where), model.depth - 1
        if before:
            some = FrozenConfigDict({**model, "depth": before})
            block = JointBlock(model, hardware.attention, dtype, parent=None)
            run = runner(block, hardware.remat, straight)
            layers = declared(self, "blocks", drawn_layers, some, [block], (text, image), given)

            def step(streams: Any, layer: Any) -> Any:
                return run(layer, streams, given, ()), None

            (text, image), _ = jax.lax.scan(step, (text, image), layers, unroll=straight)
        last = JointBlock(model, hardware.attention, dtype, last=True, name="last")
        return last((text, image), *given)[1], {}


class MMDiT(nn.Module):
    """Prediction [B, H, W, out_channels] (float32), zero at initialisation, and its measures.

    Inputs are the noisy image [B, H, W, C] and the `Conditions`, with a text.
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
        x, embed = dit.patchify(xt_BxHxWxC, patch), (model.width,)
        image_BxLxD = Dense(embed, ("input", "embed"), True, dtype=dtype, name="patches")(x)
        grid = dit.grid_positions(height // patch, width // patch, model.width)
        image_BxLxD += grid.astype(dtype)
        text_BxSxD, there_BxS = TextEncoder(model, self.hardware, name="text")(given.text_BxS)
        share_BxSx1 = (there_BxS / there_BxS.sum(-1, keepdims=True))[..., None].astype(dtype)
        pooled = Dense(embed, ("mlp", "embed"), True, dtype=dtype, name="pooled")
        condition_BxD = pooled((text_BxSxD * share_BxSx1).sum(1))
        condition_BxD += sum(condition_embedding.vectors(self, model, given, dtype))
        there = jnp.pad(there_BxS, ((0, 0), (0, image_BxLxD.shape[1])), constant_values=True)
        where = Where(segments=there.astype(jnp.int32))
        stack = JointStack(model, self.hardware, name="stack")
        x_BxLxD, measures = stack((text_BxSxD, image_BxLxD), condition_BxD, where)
        x_BxLxD = dit.last_norm(model, x_BxLxD, condition_BxD, dtype)
        features = (patch * patch * self.out_channels,)
        x_BxLxD = constrain(x_BxLxD, "batch", "length", None)
        y = Dense(features, ("embed", "output"), True, 0.0, dtype, name="final")(x_BxLxD)
        return dit.unpatchify(y, patch, height, width).astype(jnp.float32), measures
