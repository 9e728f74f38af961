"""A decoder over patches of tokens and another within each (Yu et al. 2023, arXiv 2305.07185).

MegaByte, section 2.1: a global transformer reads patches, each the embeddings of its tokens side by
side, and says to the next patch's positions what came before; a local one, narrower, reads that
and the tokens of the patch so far. Patches are of neighbours in order: of an image, along its rows.
"""

from typing import Any

import flax.linen as nn
import jax
from jax import numpy as jnp
from ml_collections import ConfigDict, FrozenConfigDict

from research.errors import UserError
from research.mesh import constrain
from research.models import logit_head, pixels, transformer
from research.models.attention import IN_ORDER, Where
from research.models.common import Dense, Norm, look_up, parameter
from research.models.transformer import Stack
from research.parts import Machine

PARTS = transformer.PARTS
positions, logits, nats = pixels.length, logit_head.logits, logit_head.nats


def default_model() -> dict[str, Any]:
    """The stacks' keys of `config.model`, of which depth and width are the global one's."""
    # local_width 0: half of the width, with heads as wide as the global stack's.
    return transformer.default_model() | dict(patch_tokens=8, local_depth=1, local_width=0)


def check(config: ConfigDict) -> None:
    """Raise UserError for stacks that cannot be built, or patches that do not fill an example."""
    transformer.check(config)
    model, length = config.model, pixels.length(config)
    if model.patch_tokens < 1 or length % model.patch_tokens:
        fits = [size for size in range(1, length + 1) if length % size == 0]
        nearest = min(fits, key=lambda size: abs(size - model.patch_tokens))
        raise UserError(
            f"config.model.patch_tokens={model.patch_tokens} must divide the {length} tokens of "
            f"an example; nearest valid: {nearest}"
        )
    if model.local_depth < 1:
        raise UserError(f"config.model.local_depth={model.local_depth} must be at least 1")
    width, head = local_width(model), model.width // model.num_heads
    if width < 1 or width % head:
        raise UserError(
            f"config.model.local_width={model.local_width}: {width} must be a multiple of the "
            f"{head} features of a head; nearest valid: {max(1, round(width / head)) * head}"
        )


def check_hardware(config: ConfigDict, machine: Machine) -> None:
    """Raise UserError for what the machine cannot do with two stacks."""
    transformer.check_hardware(config, machine)
    logit_head.check_hardware(config, machine, remat=True)
    if config.hardware.attention not in ("dense", "chunked"):
        raise UserError(
            f"config.hardware.attention={config.hardware.attention!r}: network 'patches' has dense "
            "and chunked only"
        )


def local_width(model: Any) -> int:
    """Width of the stack within a patch."""
    return model.local_width or model.width // 2


def build(model: FrozenConfigDict, hardware: FrozenConfigDict) -> "Patches":
    """The module of the family autoregressive."""
    return Patches(model, hardware)


class Patches(nn.Module):
    """What the head reads, [B, L, local width], from int tokens [B, L]."""

    model: FrozenConfigDict
    hardware: FrozenConfigDict

    @nn.compact
    def __call__(
        self, tokens_BxL: jax.Array, where: Where = IN_ORDER, cache: None = None
    ) -> tuple[jax.Array, dict[str, jax.Array], None]:
        logit_head.refuse_segments(self.model, where)
        model, size, width = self.model, self.model.patch_tokens, local_width(self.model)
        dtype, length = jnp.dtype(self.hardware.compute_dtype), tokens_BxL.shape[1]
        first_Bx1, normal = tokens_BxL[:, :1], nn.initializers.normal(1.0)
        if model.num_classes:  # of images: what stands first is no level
            tokens_BxL = tokens_BxL.at[:, 0].set(0)
        shape = (model.vocab_size, width)
        embedding_VxD = parameter(self, "embedding", normal, ("vocab", "embed"), shape)
        # Patch k reads the tokens up to its first: the last of them is the first that it is given.
        before_BxL = jnp.pad(tokens_BxL, ((0, 0), (size - 1, 0)))[:, :length]
        x_BxLxD = look_up(embedding_VxD, before_BxL, dtype).reshape(
            -1, length // size, size * width
        )
        x_BxLxD = Dense((model.width,), ("mlp", "embed"), dtype=dtype, name="patch")(x_BxLxD)
        if model.num_classes:
            rows = (model.num_classes, model.width)
            table = parameter(self, "class", normal, ("class", "embed"), rows)
            x_BxLxD = x_BxLxD.at[:, :1].add(look_up(table, first_Bx1, dtype))
        x_BxLxD, measures, _ = Stack(model, self.hardware, causal=True, name="stack")(x_BxLxD)
        x_BxLxD = Norm(model.norm, bias=model.bias, name="stack_norm")(x_BxLxD)

        told = Dense((size, width), ("embed", None, "mlp"), dtype=dtype, name="told")(x_BxLxD)
        y_BxLxD = told.reshape(-1, size, width)
        y_BxLxD += look_up(embedding_VxD, tokens_BxL, dtype).reshape(-1, size, width)
        local = Stack(*self._local(width), causal=True, name="local")
        y_BxLxD, more, _ = local(y_BxLxD)
        measures = {
            key: (measures[key] + more[key]) / (1 if key == "penalty" else 2) for key in measures
        }
        y_BxLxD = Norm(model.norm, bias=model.bias, name="final_norm")(y_BxLxD)
        logit_head.declare(self, model.vocab_size, width)
        y_BxLxD = y_BxLxD.reshape(-1, length, width)
        return constrain(y_BxLxD, "batch", "length", None), measures, cache

    def _local(self, width: int) -> tuple[FrozenConfigDict, FrozenConfigDict]:
        """`model` and `hardware` of the stack within a patch; few positions are dense."""
        model = self.model
        heads = width * model.num_heads // model.width
        own = dict(width=width, depth=model.local_depth, num_heads=heads, num_kv_heads=0)
        hardware = dict(self.hardware) | dict(attention="dense")
        return FrozenConfigDict(dict(model) | own), FrozenConfigDict(hardware)
