"""The autoregressive network: token embedding, causal stack; and the head that reads it."""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
from jax import numpy as jnp
from ml_collections import ConfigDict, FrozenConfigDict

from research.errors import UserError
from research.mesh import constrain, gathered, joined, strided
from research.models import transformer
from research.models.attention import IN_ORDER, Where
from research.models.common import Norm, Params, parameter
from research.models.numerics import project
from research.models.transformer import Stack

PARTS = transformer.PARTS
check_hardware = transformer.check_hardware
empty_cache = transformer.empty_cache


def default_model() -> dict[str, Any]:
    """The stack's keys of `config.model`, and those of the two ends."""
    ends = dict(tie_embeddings=False, max_length=0)  # 0: no table of positions
    return transformer.default_model() | ends


def check(config: ConfigDict) -> None:
    """Raise UserError for a stack that cannot be built, or too few positions."""
    transformer.check(config)
    data, most = config.data, config.model.max_length
    if data.length % config.hardware.loss_chunks:
        raise UserError(
            f"config.hardware.loss_chunks={config.hardware.loss_chunks} does not divide "
            f"config.data.length={data.length}"
        )
    if most and most < data.length:
        raise UserError(
            f"config.model.max_length={most} is shorter than config.data.length={data.length}"
        )


def positions(config: ConfigDict) -> int:
    """Positions of one example, a token each."""
    return config.data.length


def build(model: FrozenConfigDict, hardware: FrozenConfigDict) -> "Decoder":
    """The module of the family autoregressive."""
    return Decoder(model, hardware)


class Decoder(nn.Module):
    """What the head reads, [B, L, D], from int tokens [B, L].

    Also returns what the stack measures and, given a cache (`empty_cache`), the next one: the
    tokens then are those at `where.positions`, after all that the cache has seen.
    """

    model: FrozenConfigDict
    hardware: FrozenConfigDict

    @nn.compact
    def __call__(
        self, tokens_BxL: jax.Array, where: Where = IN_ORDER, cache: Any = None
    ) -> tuple[jax.Array, dict[str, jax.Array], Any]:
        model = self.model
        dtype = jnp.dtype(self.hardware.compute_dtype)
        shape = (model.vocab_size, model.width)
        axes = ("vocab", "embed")
        normal = nn.initializers.normal(model.width**-0.5 if model.tie_embeddings else 1.0)
        embedding_VxD = parameter(self, "embedding", normal, axes, shape)
        # A device looks up its replica's tokens in its part of the width: tables are large.
        tokens_BxL = constrain(tokens_BxL, "replica", None)
        x_BxLxD = constrain(embedding_VxD.astype(dtype)[tokens_BxL], "replica", None, "embed")
        x_BxLxD = constrain(x_BxLxD, "batch", "residual", None)
        if model.tie_embeddings:
            x_BxLxD *= model.width**0.5  # unit-variance inputs from a unit-logit head
        if model.max_length:
            normal, axes = nn.initializers.normal(0.02), ("position", "embed")
            table = parameter(self, "positions", normal, axes, (model.max_length, model.width))
            at = where.positions
            x_BxLxD += table[: x_BxLxD.shape[1]] if at is None else table[at]
        stack = Stack(model, self.hardware, causal=True, name="stack")
        x_BxLxD, measures, cache = stack(x_BxLxD, None, where, cache)
        x_BxLxD = Norm(model.norm, bias=model.bias, name="final_norm")(x_BxLxD)
        if not model.tie_embeddings:
            parameter(self, "head", nn.initializers.zeros, ("logits", "embed"), shape)
        return constrain(x_BxLxD, "batch", "length", None), measures, cache


def _head(params: Params, dtype: jnp.dtype) -> jax.Array:
    """The head [V, D] as products read it."""
    head = params["head"] if "head" in params else params["embedding"]
    return gathered(head.astype(dtype), ("vocab", "embed"))


@jax.named_scope("head")
def logits(params: Params, x_BxLxD: jax.Array) -> jax.Array:
    """Next-token logits [B, L, V], float32, from the decoder's output."""
    return _logits(x_BxLxD, _head(params, x_BxLxD.dtype))


@jax.named_scope("head")
def nats(params: Params, x_BxLxD: jax.Array, targets_BxL: jax.Array, chunks: int = 1) -> jax.Array:
    """Nats of each target, [B, L], given the decoder's output.

    With several `chunks` of positions, one after another and computed again in the backward pass,
    float32 logits of a whole batch never exist: for a large vocabulary they are most of the memory.
    """
    head_VxD = _head(params, x_BxLxD.dtype)
    if chunks == 1:
        return _nats(_logits(x_BxLxD, head_VxD), targets_BxL)[1]
    found: Any = _chunked_nats(x_BxLxD, head_VxD, targets_BxL, chunks)
    return found


def _logits(x_BxLxD: jax.Array, head_VxD: jax.Array) -> jax.Array:
    return constrain(project(x_BxLxD, head_VxD), "batch", "length", "vocab").astype(jnp.float32)


def _nats(logits_BxLxV: jax.Array, targets_BxL: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The log of each position's normaliser, and nats of its target."""
    normaliser_BxL = jax.nn.logsumexp(logits_BxLxV, -1)
    chosen_BxL = jnp.take_along_axis(logits_BxLxV, targets_BxL[..., None], -1)[..., 0]
    return normaliser_BxL, normaliser_BxL - chosen_BxL


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def _chunked_nats(x, head, targets, chunks):
    return _chunked_forward(x, head, targets, chunks)[0]


def _chunked_forward(x, head, targets, chunks):
    def of(chunk):
        x, targets = chunk
        return _nats(_logits(x, head), targets)

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
