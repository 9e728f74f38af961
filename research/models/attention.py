"""Self-attention: rotary positions, and one softmax attention computed whole, in chunks or by tile.

Queries are [batch, kv_heads, length * groups, head_dim], the `groups` heads that share a key and a
value side by side at each position: grouped-query attention is the same two products, and to split
positions over devices is to split rows. Keys and values are [batch, kv_heads, length, head_dim].
"""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
from jax import numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.sharding import PartitionSpec
from ml_collections import FrozenConfigDict

from research import mesh
from research.mesh import constrain, joined, strided
from research.models.common import Dense, Norm

TILE = 128  # positions of the smallest tile of TPU's kernel
ROWS = 256  # rows of a chunk, on each device


def rotate(x: jax.Array, base: float = 10_000.0) -> jax.Array:
    """Rotary positions (Su et al. 2021, eq. 34) on x [batch, heads, length, head_dim]."""
    length, half = x.shape[-2], x.shape[-1] // 2
    frequency = base ** (-jnp.arange(half, dtype=jnp.float32) / half)
    angle = jnp.arange(length, dtype=jnp.float32)[:, None] * frequency
    cos, sin = jnp.cos(angle).astype(x.dtype), jnp.sin(angle).astype(x.dtype)
    first, second = x[..., :half], x[..., half:]
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], -1)


def scores(query: jax.Array, key: jax.Array, position: jax.Array | None) -> jax.Array:
    """Scaled products [batch, kv_heads, rows, length] in float32; rows see up to `position`."""
    products = jnp.einsum("bhqd,bhkd->bhqk", query * key.shape[-1] ** -0.5, key)
    products = products.astype(jnp.float32)
    if position is None:
        return products
    return jnp.where(position[:, None] >= jnp.arange(key.shape[-2]), products, -1e30)


def gradients(weights, query, key, value, output, g):
    """Gradients of query, key and value from the weights and the output (Dao 2022, app. B.2)."""
    value_gradient = jnp.einsum("bhqk,bhqd->bhkd", weights, g)
    weights_gradient = jnp.einsum("bhqd,bhkd->bhqk", g, value).astype(jnp.float32)
    mean = (g * output).astype(jnp.float32).sum(-1, keepdims=True)
    scores_gradient = weights * (weights_gradient - mean) * query.shape[-1] ** -0.5
    scores_gradient = scores_gradient.astype(query.dtype)
    query_gradient = jnp.einsum("bhqk,bhkd->bhqd", scores_gradient, key)
    key_gradient = jnp.einsum("bhqk,bhqd->bhkd", scores_gradient, query)
    return query_gradient, key_gradient, value_gradient


def positions(query: jax.Array, key: jax.Array, causal: bool) -> jax.Array | None:
    """The position of each row of `query` where it limits what the row sees, else None."""
    rows, length = query.shape[-2], key.shape[-2]
    return jnp.arange(rows) // (rows // length) if causal else None


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def dense(query: jax.Array, key: jax.Array, value: jax.Array, causal: bool) -> jax.Array:
    """Softmax attention that keeps its weights for the backward pass."""
    return _dense_forward(query, key, value, causal)[0]


def _dense_forward(query, key, value, causal):
    weights = jax.nn.softmax(scores(query, key, positions(query, key, causal)))
    weights = weights.astype(value.dtype)
    output = checkpoint_name(jnp.einsum("bhqk,bhkd->bhqd", weights, value), "attention")
    return output, (query, key, value, weights, output)


def _dense_backward(causal, saved, g):
    query, key, value, weights, output = saved
    return gradients(weights, query, key, value, output, g)


dense.defvjp(_dense_forward, _dense_backward)


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def chunked(query: jax.Array, key: jax.Array, value: jax.Array, causal: bool) -> jax.Array:
    """The same, one chunk of rows after another; the backward pass makes the weights anew.

    What is kept grows with the length, not with its square (Rabe & Staats 2021; Dao 2023).
    """
    return _chunked_forward(query, key, value, causal)[0]


def _count(rows: int) -> int:
    """How many chunks: the fewest that divide a device's rows and have at most ROWS of them."""
    here = rows // mesh.size("sequence")
    return next(n for n in range(1, here + 1) if here % n == 0 and here // n <= ROWS)


def _chunked_forward(query, key, value, causal):
    count, position = _count(query.shape[-2]), positions(query, key, causal)
    where = None if position is None else position.reshape(-1, count).T

    def step(_, chunk):
        query, position = chunk
        products = scores(query, key, position)
        normaliser = jax.nn.logsumexp(products, -1, keepdims=True)
        weights = jnp.exp(products - normaliser).astype(value.dtype)
        return None, (jnp.einsum("bhqk,bhkd->bhqd", weights, value), normaliser[..., 0])

    _, (output, normaliser) = jax.lax.scan(step, None, (strided(query, count, 2), where))
    output = checkpoint_name(joined(output, 2), "attention")
    normaliser = checkpoint_name(joined(normaliser, 2), "attention")
    return output, (query, key, value, output, normaliser)


def _chunked_backward(causal, saved, g):
    query, key, value, output, normaliser = saved
    count, position = _count(query.shape[-2]), positions(query, key, causal)
    where = None if position is None else position.reshape(-1, count).T

    def step(sums, chunk):
        query, output, normaliser, g, position = chunk
        weights = jnp.exp(scores(query, key, position) - normaliser[..., None]).astype(value.dtype)
        query_gradient, *of_chunk = gradients(weights, query, key, value, output, g)
        return jax.tree.map(lambda a, b: a + b.astype(a.dtype), sums, of_chunk), query_gradient

    zeros = [jnp.zeros(key.shape, jnp.float32), jnp.zeros(value.shape, jnp.float32)]
    chunks = (*(strided(x, count, 2) for x in (query, output, normaliser, g)), where)
    (key_gradient, value_gradient), query_gradient = jax.lax.scan(step, zeros, chunks)
    query_gradient = joined(query_gradient, 2)
    return query_gradient, key_gradient.astype(key.dtype), value_gradient.astype(value.dtype)


chunked.defvjp(_chunked_forward, _chunked_backward)


def splash(query: jax.Array, key: jax.Array, value: jax.Array, causal: bool) -> jax.Array:
    """The same by JAX's tiled TPU kernel, which never writes the weights to memory (Dao 2022).

    Off a TPU the kernel is interpreted, which is slow: for tests.
    """
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as kernel
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as masks

    batch, kv_heads, rows, head_dim = query.shape
    length = key.shape[-2]
    groups, heads_split = rows // length, mesh.size("tensor")
    query = query.reshape(batch, kv_heads, length, groups, head_dim).swapaxes(2, 3)
    mask = masks.CausalMask if causal else masks.FullMask
    each = masks.MultiHeadMask([mask((length, length))] * (kv_heads // heads_split * groups))
    block = next(b for b in (512, 256, TILE) if length % b == 0)
    blocks = kernel.BlockSizes(*[block] * 6, use_fused_bwd_kernel=True)
    attend = kernel.make_splash_mha(
        each,
        head_shards=1,
        q_seq_shards=1,
        block_sizes=blocks,
        residual_checkpoint_name="attention",
        interpret=not mesh.on_tpu(),
    )

    def local(query, key, value):
        query = query.reshape(query.shape[0], -1, length, head_dim) * head_dim**-0.5
        return jax.vmap(attend)(query, key, value)

    layout = mesh.spec(("batch", "heads", None, None), key.shape)
    grouped = PartitionSpec(*layout[:2], None, None, None)
    if mesh.size(*mesh.AXES) > 1:
        local = jax.shard_map(
            local, in_specs=(grouped, layout, layout), out_specs=layout, check_vma=False
        )
    output: Any = local(query, key, value)
    output = output.reshape(batch, kv_heads, groups, length, head_dim)
    return output.swapaxes(2, 3).reshape(batch, kv_heads, rows, head_dim)


KINDS = {"dense": dense, "chunked": chunked, "splash": splash}


class Attention(nn.Module):
    """Self-attention with one product for queries, keys and values."""

    model: FrozenConfigDict
    causal: bool
    kind: str
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        model = self.model
        batch, length, width = x.shape
        head_dim = width // model.num_heads
        kv_heads = model.num_kv_heads or model.num_heads
        groups = model.num_heads // kv_heads
        qkv = Dense(
            (kv_heads, groups + 2, head_dim),
            ("embed", "heads", None, "head_dim"),
            model.bias,
            dtype=self.dtype,
            name="qkv",
        )(x)
        qkv = constrain(qkv, "batch", "length", "heads", None, None)
        qkv = qkv.transpose(3, 0, 2, 1, 4)  # [groups + 2, batch, kv_heads, length, head_dim]
        query, key, value = qkv[:groups], qkv[groups], qkv[groups + 1]
        if model.qk_norm:
            query = Norm("rmsnorm", name="query_norm")(query)
            key = Norm("rmsnorm", name="key_norm")(key)
        if model.rotary:
            query, key = rotate(query), rotate(key)
        query = query.transpose(1, 2, 3, 0, 4).reshape(batch, kv_heads, -1, head_dim)
        query = constrain(query, "batch", "heads", "length", None)
        key = constrain(key, "batch", "heads", None, None)  # of every position
        value = constrain(value, "batch", "heads", None, None)
        y: jax.Array = KINDS[self.kind](query, key, value, self.causal)
        y = constrain(y, "batch", "heads", "length", None)
        y = y.reshape(batch, kv_heads, length, groups, head_dim)
        y = y.transpose(0, 2, 1, 3, 4).reshape(batch, length, width)
        scale = (2 * model.depth) ** -0.5  # residual branches shrink with depth (GPT-2)
        return Dense((width,), ("heads", "embed"), model.bias, scale, self.dtype, name="out")(y)
