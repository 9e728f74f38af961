"""The autoregressive network: token embedding, causal stack; and the head that reads it."""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
from jax import numpy as jnp
from ml_collections import FrozenConfigDict

from research.mesh import constrain, gathered, joined, strided
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
        # A device looks up its replica's tokens in its part of the width: tables are large.
        tokens = constrain(tokens, "replica", None)
        x = constrain(embedding.astype(dtype)[tokens], "replica", None, "embed")
        x = constrain(x, "batch", "residual", None)
        if model.tie_embeddings:
            x *= model.width**0.5  # unit-variance inputs from a unit-logit head
        if model.max_length:
            normal, axes = nn.initializers.normal(0.02), ("position", "embed")
            table = parameter(self, "positions", normal, axes, (model.max_length, model.width))
            x += table[: x.shape[1]]
        x, measures = Stack(model, self.hardware, causal=True, name="stack")(x)
        x = Norm(model.norm, bias=model.bias, name="final_norm")(x)
        if not model.tie_embeddings:
            parameter(self, "head", nn.initializers.zeros, ("logits", "embed"), shape)
        return constrain(x, "batch", "length", None), measures


def _head(params: Params, dtype: jnp.dtype) -> jax.Array:
    """The head [vocab_size, width] as products read it."""
    head = params["head"] if "head" in params else params["embedding"]
    return gathered(head.astype(dtype), ("vocab", "embed"))


@jax.named_scope("head")
def logits(params: Params, x: jax.Array) -> jax.Array:
    """Next-token logits [batch, length, vocab_size], float32, from the decoder's output."""
    return _logits(x, _head(params, x.dtype))


@jax.named_scope("head")
def nats(params: Params, x: jax.Array, targets: jax.Array, chunks: int = 1) -> jax.Array:
    """Nats of the tokens `targets` [batch, length] given the decoder's output.

    With several `chunks` of positions, one after another and computed again in the backward pass,
    float32 logits of a whole batch never exist: for a large vocabulary they are most of the memory.
    """
    head = _head(params, x.dtype)
    if chunks == 1:
        y = _logits(x, head)
        return jax.nn.logsumexp(y, -1) - jnp.take_along_axis(y, targets[..., None], -1)[..., 0]
    found: Any = _chunked_nats(x, head, targets, chunks)
    return found


def _logits(x: jax.Array, head: jax.Array) -> jax.Array:
    return constrain(x @ head.T, "batch", "length", "vocab").astype(jnp.float32)


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def _chunked_nats(x, head, targets, chunks):
    return _chunked_forward(x, head, targets, chunks)[0]


def _chunked_forward(x, head, targets, chunks):
    def of(chunk):
        x, targets = chunk
        y = _logits(x, head)
        normaliser = jax.nn.logsumexp(y, -1)
        return normaliser, normaliser - jnp.take_along_axis(y, targets[..., None], -1)[..., 0]

    normaliser, found = jax.lax.map(of, (strided(x, chunks, 1), strided(targets, chunks, 1)))
    return joined(found, 1), (x, head, targets, normaliser)


def _chunked_backward(chunks, saved, g):
    x, head, targets, normaliser = saved

    def of(chunk):
        x, targets, normaliser, g = chunk
        share = jnp.exp(_logits(x, head) - normaliser[..., None])
        share -= jax.nn.one_hot(targets, head.shape[0])
        share = (share * g[..., None]).astype(x.dtype)
        return share, share @ head

    each = (strided(x, chunks, 1), strided(targets, chunks, 1), normaliser, strided(g, chunks, 1))
    share, x_gradient = jax.lax.map(of, each)
    # One product for all chunks, whose sum crosses the network once.
    head_gradient = jnp.einsum("cblv,cbld->vd", share, each[0])
    # Before the layers' gradients: else `share`, of every position and token, waits through them.
    x_gradient, head_gradient = jax.lax.optimization_barrier((x_gradient, head_gradient))
    return joined(x_gradient, 1), head_gradient, None


_chunked_nats.defvjp(_chunked_forward, _chunked_backward)
