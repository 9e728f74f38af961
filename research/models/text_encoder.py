"""Tokens of a text as vectors: a bidirectional stack over them, for networks that draw images."""

from typing import Any

import flax.linen as nn
import jax
from jax import numpy as jnp
from ml_collections import ConfigDict, FrozenConfigDict

from research.errors import UserError
from research.models.attention import Where
from research.models.common import Norm, look_up, parameter
from research.models.transformer import Stack


def default_model() -> dict[str, Any]:
    """Its key of `config.model`; it is as wide as the network that reads it."""
    return dict(text_depth=2)  # layers over the text, where there is one


def check(config: ConfigDict) -> None:
    """Raise UserError for a text without layers."""
    if config.model.text_vocab and config.model.text_depth < 1:
        raise UserError(f"config.model.text_depth={config.model.text_depth} must be at least 1")


def length(model: Any) -> int:
    """Positions of a text; 0 for a model without."""
    return model.text_length if model.text_vocab else 0


class TextEncoder(nn.Module):
    """Tokens [B, S], of which 0 is padding, to vectors [B, S, D] and which of them are there.

    Of an empty text a learned vector is there, "no text". Padding is seen by nothing.
    """

    model: Any  # FrozenConfigDict
    hardware: Any  # FrozenConfigDict

    @nn.compact
    def __call__(self, text_BxS: jax.Array) -> tuple[jax.Array, jax.Array]:
        model, width = self.model, self.model.width
        dtype, normal = jnp.dtype(self.hardware.compute_dtype), nn.initializers.normal(1.0)
        table = parameter(self, "words", normal, ("lookup", "embed"), (model.text_vocab, width))
        empty_D = parameter(self, "empty", normal, ("norm",), (width,))
        shape = (model.text_length, width)
        at = parameter(
            self, "positions", nn.initializers.normal(0.02), ("position", "embed"), shape
        )
        there_BxS = (text_BxS > 0).at[:, 0].set(True)
        empty_BxS = (text_BxS == 0) & there_BxS
        x_BxSxD = look_up(table, text_BxS, dtype)
        x_BxSxD = jnp.where(empty_BxS[..., None], empty_D.astype(dtype), x_BxSxD) + at.astype(dtype)
        own = dict(depth=model.text_depth, positions="none", attention="full", pattern=())
        stack = Stack(
            FrozenConfigDict({**model, **own}),
            FrozenConfigDict({**self.hardware, "attention": "dense"}),  # texts are short
            causal=False,
            name="encoder",
        )
        x_BxSxD, *_ = stack(x_BxSxD, None, Where(segments=there_BxS.astype(jnp.int32)))
        norm = Norm(model.norm, model.norm_scale, model.bias, model.norm_epsilon, name="norm")
        return norm(x_BxSxD), there_BxS
