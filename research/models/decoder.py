"""The autoregressive network: token embedding, causal stack, output head."""

import flax.linen as nn
import jax
from jax import numpy as jnp
from ml_collections import FrozenConfigDict

from research.mesh import constrain, gathered
from research.models.common import Norm, parameter
from research.models.transformer import Stack


class Decoder(nn.Module):
    """Next-token logits [batch, length, vocab_size] (float32) from int tokens [batch, length].

    Also returns what the stack measures.
    """

    model: FrozenConfigDict
    hardware: FrozenConfigDict

    @nn.compact
    def __call__(self, tokens: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        model = self.model
        dtype = jnp.dtype(self.hardware.compute_dtype)
        shape = (model.vocab_size, model.width)
        axes = ("vocab", "embed")
        normal = nn.initializers.normal(model.width**-0.5 if model.tie_embeddings else 1.0)
        embedding = parameter(self, "embedding", normal, axes, shape)
        # Each device looks every token up in its part of the width: tokens are small, tables large.
        tokens = constrain(tokens, None, None)
        x = constrain(embedding.astype(dtype)[tokens], None, None, "embed")
        x = constrain(x, "batch", "residual", None)
        if model.tie_embeddings:
            x *= model.width**0.5  # unit-variance inputs from a unit-logit head
        if model.max_length:
            normal, axes = nn.initializers.normal(0.02), (None, "embed")
            table = parameter(self, "positions", normal, axes, (model.max_length, model.width))
            x += table[: x.shape[1]]
        x, measures = Stack(model, self.hardware, causal=True, name="stack")(x)
        x = Norm(model.norm, bias=model.bias, name="final_norm")(x)
        head = embedding
        if not model.tie_embeddings:
            head = parameter(self, "head", nn.initializers.zeros, ("vocab", "embed"), shape)
        x = constrain(x, "batch", "length", None)
        head = gathered(head.astype(dtype), ("vocab", "embed"))
        logits = constrain(x @ head.T, "batch", "length", "vocab")
        return logits.astype(jnp.float32), measures
