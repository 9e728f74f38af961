"""The autoregressive network: token embedding, causal stack; and the head that reads it."""

import math
from functools import partial
from typing import Any

import flax.linen as nn
import jax
from jax import numpy as jnp
from ml_collections import ConfigDict, FrozenConfigDict

from research import config as configs
from research import parts
from research.errors import UserError
from research.mesh import constrain, gathered, joined, strided
from research.models import pixels, transformer
from research.models import positions as places
from research.models.attention import IN_ORDER, Where
from research.models.common import Dense, Norm, Params, look_up, parameter
from research.models.numerics import project
from research.models.transformer import Block, Stack

PARTS = transformer.PARTS | {"positions": places.POSITIONS}
check_hardware = transformer.check_hardware
RANGES = {
    "bigram_rows": (0, 2**31),
    "logit_softcap": (0, math.inf),
    "ahead": (0, 2**31),
    "ahead_weight": (0, math.inf),
}


def default_model() -> dict[str, Any]:
    """The stack's keys of `config.model`, and those of the two ends."""
    ends = dict(
        causal=True,  # a position sees what is before it; else all of the window
        positions="rotary",
        tie_embeddings=False,
        scale_embeddings=True,  # tied ones, to inputs of unit variance
        smear=True,  # each position sees a learned share of the one before
        value_embeddings=False,  # a table of values of each token, in each layer
        bigram_rows=0,  # of a table of pairs of tokens, which each layer reads; 0: none
        logit_softcap=0.0,  # logits stay below it (Gemma 2); 0: no bound
        ahead=0,  # tokens beyond the next that are predicted, too, in training
        ahead_weight=0.3,  # of their mean loss
    )
    return transformer.default_model() | ends


def check(config: ConfigDict) -> None:
    """Raise UserError for a stack or a head that cannot be built."""
    transformer.check(config)
    configs.check_ranges(config.model, "config.model", RANGES)
    layers = parts.layers(config.model)
    if config.model.value_embeddings and all(each.mixer != "attention" for each in layers):
        raise UserError(
            "config.model.value_embeddings=True gives layers of attention values of their tokens, "
            f"of which config.model.mixer={config.model.mixer!r} has none"
        )
    length = pixels.length(config)
    if config.model.ahead >= length:
        raise UserError(
            f"config.model.ahead={config.model.ahead} must be below the {length} positions of an "
            "example"
        )
    key = "the dimensions of an image, " if config.model.image_shape else "config.data.length="
    if length % config.hardware.loss_chunks:
        raise UserError(
            f"config.hardware.loss_chunks={config.hardware.loss_chunks} does not divide "
            f"{key}{length}"
        )


def positions(config: ConfigDict) -> int:
    """Positions of one example, a token each."""
    return pixels.length(config)


def build(model: FrozenConfigDict, hardware: FrozenConfigDict) -> "Decoder":
    """The module of the family autoregressive."""
    return Decoder(model, hardware)


def empty_cache(
    model: Any, hardware: Any, batch: int, length: int, dtype: Any = None, padding: int = 0
) -> Any:
    """That of the stack, and the token before the next position; None where the stack has none."""
    stack = transformer.empty_cache(model, hardware, batch, length, dtype, padding)
    return None if stack is None else (stack, jnp.zeros((batch, 1), jnp.int32))


def forgets(model: Any, hardware: Any) -> bool:
    """Whether a cache can be cut back: all its layers keep every position, and only that."""
    kept = jax.eval_shape(lambda: transformer.empty_cache(model, hardware, 1, 8))
    return kept is not None and all("used" in mixed and passed is None for mixed, passed in kept)


def rewound(cache: Any, count: jax.Array, before_Bx1: jax.Array) -> Any:
    """A cache without its last `count` positions, so that the token before the next is `before`.

    What stands in their slots is of later positions than the next, which see nothing of it.
    """
    stack, _ = cache
    return [({**mixed, "used": mixed["used"] - count}, None) for mixed, _ in stack], before_Bx1


def apart(model: Any, params: Params) -> Params:
    """The parameters, each layer's by themselves, as a loop over positions reads them."""
    blocks = [*transformer.apart(params["stack"]["blocks"], model)]
    return {**params, "stack": {**params["stack"], "blocks": blocks}}


class Decoder(nn.Module):
    """What the head reads, [B, L, D], from int tokens [B, L].

    Also returns what the stack measures and, given a cache (`empty_cache`), the next one: the
    tokens then are those at `where.positions`, after all that the cache has seen. A condition is
    the stack's; `first_BxD` is added at the first position.
    """

    model: FrozenConfigDict
    hardware: FrozenConfigDict

    @nn.compact
    def __call__(
        self,
        tokens_BxL: jax.Array,
        where: Where = IN_ORDER,
        cache: Any = None,
        condition_BxD: jax.Array | None = None,
        first_BxD: jax.Array | None = None,
    ) -> tuple[jax.Array, dict[str, jax.Array], Any]:
        model = self.model
        dtype = jnp.dtype(self.hardware.compute_dtype)
        shape = (model.vocab_size, model.width)
        axes = ("vocab", "embed")
        normal = nn.initializers.normal(model.width**-0.5 if model.tie_embeddings else 1.0)
        embedding_VxD = parameter(self, "embedding", normal, axes, shape)
        index = jnp.arange(tokens_BxL.shape[1])
        at = index if where.positions is None else where.positions
        class_BxLxD = None
        if model.num_classes:  # of images: what stands first is no level
            axes, rows = ("class", "embed"), (model.num_classes, model.width)
            table = parameter(self, "class", nn.initializers.normal(1.0), axes, rows)
            class_BxLxD = look_up(table, jnp.where(at == 0, tokens_BxL, 0), dtype)
            tokens_BxL = jnp.where(at == 0, 0, tokens_BxL)
        x_BxLxD = self.vectors(embedding_VxD, tokens_BxL, dtype)
        within = at > 0  # a text, whose first token has none before it
        if cache is None:  # nor has that of a window, wherever it begins
            within &= index > 0
        if where.segments is not None:
            within &= where.segments == jnp.roll(where.segments, 1, -1)
        cache, before_Bx1 = cache or (None, jnp.zeros_like(tokens_BxL[:, :1]))
        before_BxL = jnp.concatenate([before_Bx1, tokens_BxL[:, :-1]], 1) * within
        if model.smear:
            if where.before is None:
                earlier_Bx1xD = look_up(embedding_VxD, before_Bx1, dtype)
                before_BxLxD = jnp.concatenate([earlier_Bx1xD, x_BxLxD[:, :-1]], 1)
            else:
                before_BxLxD = x_BxLxD[:, where.before]
            x_BxLxD += self._smear(x_BxLxD) * before_BxLxD * within[..., None]
        if model.tie_embeddings and model.scale_embeddings:
            x_BxLxD *= model.width**0.5  # unit-variance inputs from a unit-logit head
        if hasattr(places.load(model), "embed"):
            x_BxLxD += places.load(model).embed(self, model, at)
        if class_BxLxD is not None:
            x_BxLxD += class_BxLxD * (at == 0)[..., None]
        if first_BxD is not None:
            x_BxLxD += first_BxD[:, None] * (at == 0)[..., None]
        beside = {}
        if model.bigram_rows:
            zeros, axes = nn.initializers.zeros, ("lookup", "embed")
            table = parameter(self, "bigram", zeros, axes, (model.bigram_rows, model.width))
            rows_BxL = bigram_row(before_BxL, tokens_BxL, model.vocab_size, model.bigram_rows)
            beside["bigram"] = look_up(table, rows_BxL, dtype)
        if model.value_embeddings:
            where = where._replace(tokens=tokens_BxL)
        stack = Stack(model, self.hardware, model.causal, name="stack")
        given_BxLxD = x_BxLxD
        where = where._replace(before=None)  # what else is there is split into micro-batches
        x_BxLxD, measures, kept = stack(x_BxLxD, condition_BxD, where, beside, cache)
        if model.ahead and cache is None:
            measures = {**measures, "ahead": self._ahead(x_BxLxD, given_BxLxD, where, beside)}
        cache = None if cache is None else (kept, tokens_BxL[:, -1:])
        final = Norm(
            model.norm, model.norm_scale, model.bias, model.norm_epsilon, name="final_norm"
        )
        x_BxLxD = final(x_BxLxD)
        if not model.tie_embeddings:
            parameter(self, "head", nn.initializers.zeros, ("logits", "embed"), shape)
        return constrain(x_BxLxD, "batch", "length", None), measures, cache

    def vectors(self, table_VxD: jax.Array, tokens_BxL: jax.Array, dtype: Any) -> jax.Array:
        """The vector of each token, [B, L, D]."""
        return look_up(table_VxD, tokens_BxL, dtype)

    def _ahead(
        self, x_BxLxD: jax.Array, given_BxLxD: jax.Array, where: Where, beside: dict
    ) -> list[jax.Array]:
        """What the head reads for tokens 1, 2, ... beyond the next (DeepSeek-AI 2024, V3, eq. 21).

        Each is a block over what the one before made of a position and the token that far ahead.
        """
        model, dtype, found = self.model, jnp.dtype(self.hardware.compute_dtype), []
        if model.residual_scalars:
            beside = {"start": given_BxLxD, **beside}

        def norm(name, x):
            return Norm(model.norm, model.norm_scale, model.bias, model.norm_epsilon, name=name)(x)

        for steps in range(1, model.ahead + 1):
            name = f"ahead_{steps}"
            next_BxLxD = norm(f"{name}_token_norm", jnp.roll(given_BxLxD, -steps, 1))
            both = jnp.concatenate([norm(f"{name}_norm", x_BxLxD), next_BxLxD], -1)
            joined = Dense((model.width,), ("embed", None), dtype=dtype, name=f"{name}_join")(both)
            block = Block(model, model.causal, self.hardware.attention, dtype, name=name)
            x_BxLxD, _, _ = block(joined, None, where, beside)
            found.append(norm(f"{name}_final_norm", x_BxLxD))
        return found

    def _smear(self, x_BxLxD: jax.Array) -> jax.Array:
        """The share of the token before that each position sees, [B, L, 1]."""
        zeros, shape = nn.initializers.zeros, (self.model.width,)
        gate_D = parameter(self, "smear_gate", zeros, ("norm",), shape)
        share = parameter(self, "smear", zeros, (None,), (1,))
        gate_BxLx1 = jax.nn.sigmoid((x_BxLxD * gate_D.astype(x_BxLxD.dtype)).sum(-1, keepdims=True))
        return share.astype(x_BxLxD.dtype) * gate_BxLx1


def bigram_row(before: jax.Array, token: jax.Array, vocab_size: int, rows: int) -> jax.Array:
    """The row of a pair of tokens: its own where there are enough rows, else by a hash."""
    pair = before.astype(jnp.uint32) * vocab_size + token.astype(jnp.uint32)
    if vocab_size**2 > rows:
        pair = pair * jnp.uint32(2654435761)  # Knuth 1998, 6.4: its high bits are the mixed ones
        pair ^= pair >> 15
    return (pair % rows).astype(jnp.int32)


def _head(params: Params, dtype: jnp.dtype) -> jax.Array:
    """The head [V, D] as products read it."""
    head = params["head"] if "head" in params else params["embedding"]
    return gathered(head.astype(dtype), ("vocab", "embed"))


@jax.named_scope("head")
def logits(config: ConfigDict, params: Params, x_BxLxD: jax.Array) -> jax.Array:
    """Next-token logits [B, L, V], float32, from the decoder's output."""
    return _logits(x_BxLxD, _head(params, x_BxLxD.dtype), config.model.logit_softcap)


@jax.named_scope("head")
def nats(
    config: ConfigDict, params: Params, x_BxLxD: jax.Array, targets_BxL: jax.Array
) -> jax.Array:
    """Nats of each target, [B, L], given the decoder's output.

    With several `hardware.loss_chunks` of positions, one after another and computed again in the
    backward pass, float32 logits of a whole batch never exist: for a large vocabulary they are
    most of the memory.
    """
    head_VxD = _head(params, x_BxLxD.dtype)
    chunks, cap = config.hardware.loss_chunks, config.model.logit_softcap
    if chunks == 1:
        return _nats(_logits(x_BxLxD, head_VxD, cap), targets_BxL)[1]
    found: Any = _chunked_nats(x_BxLxD, head_VxD, targets_BxL, chunks, cap)
    return found


def _logits(x_BxLxD: jax.Array, head_VxD: jax.Array, cap: float) -> jax.Array:
    """Logits in float32, drawn in to within +-`cap` where there is one."""
    y = constrain(project(x_BxLxD, head_VxD), "batch", "length", "vocab").astype(jnp.float32)
    return cap * jnp.tanh(y / cap) if cap else y


def _nats(logits_BxLxV: jax.Array, targets_BxL: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The log of each position's normaliser, and nats of its target."""
    normaliser_BxL = jax.nn.logsumexp(logits_BxLxV, -1)
    chosen_BxL = jnp.take_along_axis(logits_BxLxV, targets_BxL[..., None], -1)[..., 0]
    return normaliser_BxL, normaliser_BxL - chosen_BxL


@partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def _chunked_nats(x, head, targets, chunks, cap):
    return _chunked_forward(x, head, targets, chunks, cap)[0]


def _chunked_forward(x, head, targets, chunks, cap):
    def of(chunk):
        x, targets = chunk
        return _nats(_logits(x, head, cap), targets)

    normaliser, found = jax.lax.map(of, (strided(x, chunks, 1), strided(targets, chunks, 1)))
    return joined(found, 1), (x, head, targets, normaliser)


def _chunked_backward(chunks, cap, saved, g):
    x, head, targets, normaliser = saved

    def of(chunk):
        x, targets, normaliser, g = chunk
        y = _logits(x, head, cap)
        share = jnp.exp(y - normaliser[..., None]) - jax.nn.one_hot(targets, head.shape[0])
        if cap:
            share *= 1 - jnp.square(y / cap)
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
