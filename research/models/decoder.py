"""The autoregressive network: token embedding, causal stack; and the head that reads it."""

import flax.linen as nn
import jax
from jax import numpy as jnp
from ml_collections import FrozenConfigDict

from research.mesh import constrain, gathered
from research.models.common import Norm, Params, parameter
from research.models.transformer import Stack


class Decoder(nn.Module):
    """What the head reads, [batch, length, width], from int tokens [batch, length].

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
        if not model.tie_embeddings:
            parameter(self, "head", nn.initializers.zeros, ("vocab", "embed"), shape)
        return constrain(x, "batch", "length", None), measures


def _head(params: Params, dtype: jnp.dtype) -> jax.Array:
    """The head [vocab_size, width] as products read it."""
    head = params["head"] if "head" in params else params["embedding"]
    return gathered(head.astype(dtype), ("vocab", "embed"))


def logits(params: Params, x: jax.Array) -> jax.Array:
    """Next-token logits [batch, length, vocab_size], float32, from the decoder's output."""
    y = constrain(x @ _head(params, x.dtype).T, "batch", "length", "vocab")
    return y.astype(jnp.float32)


def nats(params: Params, x: jax.Array, targets: jax.Array, chunks: int = 1) -> jax.Array:
    """Nats of the tokens `targets` [batch, length] given the decoder's output.

    With several `chunks` of positions, one after another and computed again in the backward pass,
    the logits of a whole batch never exist: for a large vocabulary they are most of the memory.
    """
    head = _head(params, x.dtype)

    def of(x, targets):
        y = constrain(x @ head.T, "batch", "length", "vocab").astype(jnp.float32)
        return jax.nn.logsumexp(y, -1) - jnp.take_along_axis(y, targets[..., None], -1)[..., 0]

    if chunks == 1:
        return of(x, targets)

    def split(x):  # strided, so that every device keeps its positions
        return jnp.moveaxis(x.reshape(x.shape[0], -1, chunks, *x.shape[2:]), 2, 0)

    body = jax.checkpoint(lambda _, each: (None, of(*each)), prevent_cse=False)
    _, found = jax.lax.scan(body, None, (split(x), split(targets)))
    return jnp.moveaxis(found, 0, 2).reshape(targets.shape)
