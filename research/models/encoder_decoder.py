"""An encoder reads a prefix both ways, a decoder goes on from it (Vaswani et al. 2017; T5).

Of a window the first `prefix_length` tokens are the encoder's; the decoder reads from the last of
them on. Both look their tokens up in one table.
"""

from typing import Any

import flax.linen as nn
import jax
from jax import numpy as jnp
from ml_collections import ConfigDict, FrozenConfigDict

from research import config as configs
from research.errors import UserError
from research.mesh import constrain
from research.models import decoder, transformer
from research.models import positions as places
from research.models.attention import IN_ORDER, Where
from research.models.common import Norm, look_up, parameter
from research.models.transformer import Stack

PARTS = decoder.PARTS
check_hardware = transformer.check_hardware
nats, logits, positions = decoder.nats, decoder.logits, decoder.positions
RANGES = {"logit_softcap": decoder.RANGES["logit_softcap"], "encoder_depth": (0, 2**31)}


def default_model() -> dict[str, Any]:
    """The stacks' keys of `config.model`, and those of the ends."""
    ends = {"causal", "positions", "tie_embeddings", "scale_embeddings", "logit_softcap"}
    own = {key: value for key, value in decoder.default_model().items() if key in ends}
    return transformer.default_model() | own | dict(encoder_depth=0)  # 0: as many as `depth`


def check(config: ConfigDict) -> None:
    """Raise UserError for stacks that cannot be built, or a prefix that is not of one length."""
    transformer.check(config)
    configs.check_ranges(config.model, "config.model", RANGES)
    if config.model.pattern:
        raise UserError(
            "config.model.pattern must be () for config.model.network='encoder_decoder'"
        )
    if not config.model.get("prefix_length"):
        raise UserError(
            "config.model.network='encoder_decoder' needs config.model.objective='prefix' and "
            "config.model.prefix_length, the tokens that the encoder reads"
        )
    if config.data.length % config.hardware.loss_chunks:
        raise UserError(
            f"config.hardware.loss_chunks={config.hardware.loss_chunks} does not divide "
            f"config.data.length={config.data.length}"
        )


def build(model: FrozenConfigDict, hardware: FrozenConfigDict) -> "EncoderDecoder":
    """The module of the family autoregressive."""
    return EncoderDecoder(model, hardware)


class EncoderDecoder(nn.Module):
    """What the head reads, [B, L, D], from int tokens [B, L]; zeros where the prefix is read."""

    model: FrozenConfigDict
    hardware: FrozenConfigDict

    @nn.compact
    def __call__(
        self, tokens_BxL: jax.Array, where: Where = IN_ORDER, cache: None = None
    ) -> tuple[jax.Array, dict[str, jax.Array], None]:
        model, prefix = self.model, self.model.prefix_length
        if where.segments is not None:
            raise UserError(
                "config.model.network='encoder_decoder' reads windows of one text: set "
                "config.model.documents_apart=False"
            )
        dtype, shape = jnp.dtype(self.hardware.compute_dtype), (model.vocab_size, model.width)
        normal = nn.initializers.normal(model.width**-0.5 if model.tie_embeddings else 1.0)
        embedding_VxD = parameter(self, "embedding", normal, ("vocab", "embed"), shape)
        x_BxLxD = look_up(embedding_VxD, tokens_BxL, dtype)
        if model.tie_embeddings and model.scale_embeddings:
            x_BxLxD *= model.width**0.5
        if hasattr(places.load(model), "embed"):
            x_BxLxD += places.load(model).embed(self, model, jnp.arange(tokens_BxL.shape[1]))

        def norm(name, x_BxLxD):
            final = Norm(model.norm, model.norm_scale, model.bias, model.norm_epsilon, name=name)
            return final(x_BxLxD)

        depth = model.encoder_depth or model.depth
        encoder = FrozenConfigDict({**model, "depth": depth})
        encoder = Stack(encoder, self.hardware, causal=False, name="encoder")
        memory_BxSxD, *_ = encoder(x_BxLxD[:, :prefix])
        memory_BxSxD = norm("memory_norm", memory_BxSxD)
        stack = Stack(model, self.hardware, causal=True, name="stack")
        after = Where(jnp.arange(prefix - 1, tokens_BxL.shape[1]))
        y, measures, _ = stack(x_BxLxD[:, prefix - 1 :], None, after, None, None, memory_BxSxD)
        y = norm("final_norm", y)
        y_BxLxD = jnp.pad(y, ((0, 0), (prefix - 1, 0), (0, 0)))
        if not model.tie_embeddings:
            axes = ("logits", "embed")
            parameter(self, "head", nn.initializers.zeros, axes, shape)
        return constrain(y_BxLxD, "batch", "length", None), measures, cache
