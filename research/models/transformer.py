"""One pre-norm Transformer block for every family, and the scanned stack of it.

Decoders call it causal and unmodulated; diffusion calls it bidirectional with adaLN-zero
modulation (Peebles & Xie 2023). Parameters carry a leading `layers` axis whether the layers
are scanned or, when they are few, unrolled.
"""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
from jax import numpy as jnp
from ml_collections import ConfigDict, FrozenConfigDict
from ml_collections.config_dict import placeholder

from research.errors import UserError, nearest
from research.models.common import Dense, Norm

ACTIVATIONS = {
    "relu2": lambda x: jnp.square(jax.nn.relu(x)),  # So et al. 2021 (Primer)
    "gelu": jax.nn.gelu,
    "silu": jax.nn.silu,
}
REMAT_POLICIES = {
    "none": None,
    "full": jax.checkpoint_policies.nothing_saveable,
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
}


def default_model() -> ConfigDict:
    """Keys of `config.model` that the stack reads; None means "the recipe decides"."""
    return ConfigDict(
        dict(
            depth=placeholder(int),
            width=placeholder(int),
            num_heads=placeholder(int),
            num_kv_heads=0,  # 0: one key-value head a query head
            mlp_ratio=4.0,
            activation="relu2",
            norm="rmsnorm",
            qk_norm=False,
            rotary=True,
            bias=False,
        )
    )


def check(model: ConfigDict) -> None:
    """Raise UserError, naming the key, for a stack that cannot be built."""
    for key in ("depth", "width", "num_heads"):
        if model[key] < 1:
            raise UserError(f"config.model.{key}={model[key]} must be at least 1")
    if model.num_kv_heads < 0:
        raise UserError(f"config.model.num_kv_heads={model.num_kv_heads} must not be negative")
    if model.mlp_ratio <= 0:
        raise UserError(f"config.model.mlp_ratio={model.mlp_ratio} must be positive")
    if round(model.width * model.mlp_ratio) < 1:
        raise UserError(
            f"config.model.mlp_ratio={model.mlp_ratio} x width={model.width} leaves no hidden unit"
        )
    if model.width % model.num_heads:
        valid = [h for h in range(1, model.width + 1) if model.width % h == 0]
        near = min(valid, key=lambda h: abs(h - model.num_heads))
        raise UserError(
            f"config.model.width={model.width} is not divisible by num_heads={model.num_heads}; "
            f"nearest valid num_heads: {near}"
        )
    if model.num_kv_heads and model.num_heads % model.num_kv_heads:
        raise UserError(
            f"config.model.num_heads={model.num_heads} is not divisible by "
            f"num_kv_heads={model.num_kv_heads}"
        )
    if model.rotary and (model.width // model.num_heads) % 2:
        raise UserError(
            f"config.model.rotary needs an even head size, got width/num_heads="
            f"{model.width // model.num_heads}"
        )
    for key, choices in (
        ("activation", (*ACTIVATIONS, "swiglu")),
        ("norm", ("rmsnorm", "layernorm")),
    ):
        if model[key] not in choices:
            raise UserError(
                f"config.model.{key}={model[key]!r} is not one of {', '.join(choices)}"
                f"{nearest(model[key], choices)}"
            )


def rotate(x: jax.Array, base: float = 10_000.0) -> jax.Array:
    """Rotary positions (Su et al. 2021, eq. 34) on x [batch, heads, length, head_dim]."""
    length, half = x.shape[-2], x.shape[-1] // 2
    frequency = base ** (-jnp.arange(half, dtype=jnp.float32) / half)
    angle = jnp.arange(length, dtype=jnp.float32)[:, None] * frequency
    cos, sin = jnp.cos(angle).astype(x.dtype), jnp.sin(angle).astype(x.dtype)
    first, second = x[..., :half], x[..., half:]
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], -1)


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def attend(query: jax.Array, key: jax.Array, value: jax.Array, causal: bool) -> jax.Array:
    """Softmax attention of query [batch, kv_heads, groups * length, head_dim].

    Keys and values are [batch, kv_heads, length, head_dim]; the queries of the heads that share
    them are laid along the length axis, so grouped-query attention is the same two products.
    The gradient needs only the weights and the output (Dao et al. 2022, appendix B.2).
    """
    return _attend_forward(query, key, value, causal)[0]


def _attend_forward(query, key, value, causal):
    length, head_dim = key.shape[-2:]
    scores = jnp.einsum("bhqd,bhkd->bhqk", query * head_dim**-0.5, key).astype(jnp.float32)
    if causal:
        position = jnp.arange(query.shape[-2]) % length
        scores = jnp.where(position[:, None] >= jnp.arange(length), scores, -1e30)
    weights = jax.nn.softmax(scores).astype(value.dtype)
    output = jnp.einsum("bhqk,bhkd->bhqd", weights, value)
    return output, (query, key, value, weights, output)


def _attend_backward(causal, saved, g):
    query, key, value, weights, output = saved
    scale = query.shape[-1] ** -0.5
    value_gradient = jnp.einsum("bhqk,bhqd->bhkd", weights, g)
    weights_gradient = jnp.einsum("bhqd,bhkd->bhqk", g, value).astype(jnp.float32)
    mean = (g * output).astype(jnp.float32).sum(-1, keepdims=True)
    scores_gradient = (weights * (weights_gradient - mean) * scale).astype(query.dtype)
    query_gradient = jnp.einsum("bhqk,bhkd->bhqd", scores_gradient, key)
    key_gradient = jnp.einsum("bhqk,bhqd->bhkd", scores_gradient, query)
    return query_gradient, key_gradient, value_gradient


attend.defvjp(_attend_forward, _attend_backward)


class Attention(nn.Module):
    """Self-attention with one product for queries, keys and values."""

    model: FrozenConfigDict
    causal: bool
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
        qkv = qkv.transpose(3, 0, 2, 1, 4)  # [groups + 2, batch, kv_heads, length, head_dim]
        query, key, value = qkv[:groups], qkv[groups], qkv[groups + 1]
        if model.qk_norm:
            query = Norm("rmsnorm", name="query_norm")(query)
            key = Norm("rmsnorm", name="key_norm")(key)
        if model.rotary:
            query, key = rotate(query), rotate(key)
        query = query.transpose(1, 2, 0, 3, 4).reshape(batch, kv_heads, groups * length, head_dim)
        y: jax.Array = attend(query, key, value, self.causal)
        y = y.reshape(batch, kv_heads, groups, length, head_dim)
        y = y.transpose(0, 3, 1, 2, 4).reshape(batch, length, width)
        scale = (2 * model.depth) ** -0.5  # residual branches shrink with depth (GPT-2)
        return Dense((width,), ("heads", "embed"), model.bias, scale, self.dtype, name="out")(y)


class MLP(nn.Module):
    """Two-layer perceptron; `swiglu` gates the hidden layer (Shazeer 2020)."""

    model: FrozenConfigDict
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        model = self.model
        hidden = round(x.shape[-1] * model.mlp_ratio)
        if model.activation == "swiglu":
            up = Dense((2, hidden), ("embed", None, "mlp"), model.bias, dtype=self.dtype, name="up")
            gate, y = jnp.moveaxis(up(x), -2, 0)
            y *= jax.nn.silu(gate)
        else:
            up = Dense((hidden,), ("embed", "mlp"), model.bias, dtype=self.dtype, name="up")
            y = ACTIVATIONS[model.activation](up(x))
        scale = (2 * model.depth) ** -0.5
        down = Dense((x.shape[-1],), ("mlp", "embed"), model.bias, scale, self.dtype, name="down")
        return down(y)


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)); modulated by `condition` when given.

    With a condition [batch, width], each branch is shifted, scaled and gated by adaLN-zero:
    the gates start at zero, so the block starts as the identity.
    """

    model: FrozenConfigDict
    causal: bool
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, condition: jax.Array | None) -> jax.Array:
        model = self.model
        branches = (
            ("attention", Attention(model, self.causal, self.dtype, name="attention")),
            ("mlp", MLP(model, self.dtype, name="mlp")),
        )
        affine = condition is None
        if condition is not None:
            modulation = Dense(
                (6, x.shape[-1]), ("embed", None, "mlp"), True, 0.0, self.dtype, name="modulation"
            )(jax.nn.silu(condition))[:, None]
        for index, (name, branch) in enumerate(branches):
            y = Norm(model.norm, affine, model.bias, name=f"{name}_norm")(x)
            if condition is not None:
                shift, scale, gate = (modulation[:, :, 3 * index + i] for i in range(3))
                x += gate * branch(y * (1 + scale) + shift)
            else:
                x += branch(y)
        return x


class Stack(nn.Module):
    """`model.depth` blocks over x [batch, length, width]; parameters carry a leading layer axis.

    Stacks deeper than `hardware.unroll` are one scan, so that compile time does not grow with
    depth. Others are a straight line, which a CPU runs a quarter faster: a scan copies what the
    backward pass keeps into stacked arrays.
    """

    model: Any
    hardware: Any
    causal: bool

    @nn.compact
    def __call__(self, x: jax.Array, condition: jax.Array | None = None) -> jax.Array:
        depth, unroll = self.model.depth, self.hardware.unroll
        dtype = jnp.dtype(self.hardware.compute_dtype)
        x = x.astype(dtype)
        condition = None if condition is None else condition.astype(dtype)
        block = Block(self.model, self.causal, dtype, parent=None)

        def init(key):
            keys = jax.random.split(key, depth)
            layers = jax.vmap(lambda key: block.init(key, x, condition)["params"])(keys)
            return nn.meta.add_axis(layers, 0, {nn.PARTITION_NAME: "layers"})

        def body(x, layer):
            y: Any = block.apply({"params": layer}, x, condition)
            return y, None

        if self.hardware.remat != "none":
            policy = REMAT_POLICIES[self.hardware.remat]
            body = jax.checkpoint(body, policy=policy, prevent_cse=unroll >= depth)
        layers = self.param("blocks", init)
        if unroll < depth:
            return jax.lax.scan(body, x, layers)[0]
        for index in range(depth):
            x, _ = body(x, jax.tree.map(lambda leaf, index=index: leaf[index], layers))
        return x
