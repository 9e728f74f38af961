"""The autoregressive network: token embedding, causal stack, output head."""

import flax.linen as nn
import jax
from jax import numpy as jnp
from ml_collections import FrozenConfigDict

from research.models.common import Norm, parameter
from research.models.transformer import Stack


class Decoder(nn.Module):
    """Next-token logits [batch, length, vocab_size] (float32) from int tokens [batch, length]."""

    model: FrozenConfigDict
    hardware: FrozenConfigDict

    @nn.compact
    def __call__(self, tokens: jax.Array) -> jax.Array:
        model = self.model
        dtype = jnp.dtype(self.hardware.compute_dtype)
        shape = (model.vocab_size, model.width)
        axes = ("vocab", "embed")
        normal = nn.initializers.normal(model.width**-0.5 if model.tie_embeddings else 1.0)
        embedding = parameter(self, "embedding", normal, axes, shape)
        x = embedding[tokens]
        if model.tie_embeddings:
            x *= model.width**0.5  # unit-variance inputs from a unit-logit head
        if model.max_length:
            normal, axes = nn.initializers.normal(0.02), (None, "embed")
            table = parameter(self, "positions", normal, axes, (model.max_length, model.width))
            x += table[: x.shape[1]]
        x = Stack(model, self.hardware, causal=True, name="stack")(x)
        x = Norm(model.norm, bias=model.bias, name="final_norm")(x)
        head = embedding
        if not model.tie_embeddings:
            head = parameter(self, "head", nn.initializers.zeros, ("vocab", "embed"), shape)
        return (x @ head.astype(dtype).T).astype(jnp.float32)
