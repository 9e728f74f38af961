"""The seam between Flax and everything else: modules in, plain dicts of arrays out."""

import contextlib
import contextvars
import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import flax.linen as nn
import jax
from jax import numpy as jnp

from research.mesh import constrain, gathered, size
from research.models.numerics import conv, dot

Params = dict[str, Any]


DRAWN = contextvars.ContextVar("DRAWN", default=True)


@contextlib.contextmanager
def undrawn() -> Iterator[None]:
    """Let `init` give zeros: who asks for shapes alone need not trace how numbers are drawn."""
    token = DRAWN.set(False)
    try:
        yield
    finally:
        DRAWN.reset(token)


def init(module: nn.Module, key: jax.Array, *inputs: Any) -> Params:
    """Return the module's parameters as a plain nested dict; jit-able."""
    if DRAWN.get():
        return nn.meta.unbox(module.init(key, *inputs)["params"])
    boxed = _boxed(module, *_shapes(inputs))
    return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), nn.meta.unbox(boxed))


def apply(module: nn.Module, params: Params, *inputs: Any) -> Any:
    """Run the module on parameters made by `init`."""
    return module.apply({"params": params}, *inputs)


def stream(module: nn.Module, params: Params, *inputs: Any) -> tuple[jax.Array, Any]:
    """What the module's "stack" hands on to its last norm, [B, L, D], and what `apply` returns."""
    applied: Any = module.apply(
        {"params": params}, *inputs,
        capture_intermediates=lambda each, _: each.name == "stack", mutable=["intermediates"],
    )  # fmt: skip
    returned, found = applied
    ((x_BxLxD, *_),) = found["intermediates"]["stack"]["__call__"]
    return x_BxLxD, returned


def logical_axes(module: nn.Module, *inputs: Any) -> Params:
    """Return a tree like `init`'s of tuples of logical axis names, made without arrays."""
    return jax.tree.map(
        lambda leaf: tuple(leaf.names) if isinstance(leaf, nn.Partitioned) else (None,) * leaf.ndim,
        _boxed(module, *_shapes(inputs)),
        is_leaf=lambda leaf: isinstance(leaf, nn.Partitioned),
    )


def _shapes(inputs: Any) -> Any:
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), inputs)


@functools.lru_cache(maxsize=256)
def _boxed(module: nn.Module, *inputs: Any) -> Any:
    """Shapes and axes of its parameters, traced once a process: each trace of a step asks."""
    with undrawn():
        return jax.eval_shape(lambda *x: module.init(jax.random.key(0), *x)["params"], *inputs)


class Named(nn.Partitioned):
    """An array and its logical axis names, which are not mesh axes: programs lay it out."""

    def unbox(self, apply_constraint: bool = True) -> Any:
        del apply_constraint
        return self.value


GATED = {"swiglu": jax.nn.silu, "geglu": jax.nn.gelu}  # of the gate (Shazeer 2020)
ACTIVATIONS = {
    "relu": jax.nn.relu,
    "relu2": lambda x: jnp.square(jax.nn.relu(x)),  # So et al. 2021 (Primer)
    "leaky_relu2": lambda x: jnp.square(jax.nn.leaky_relu(x, 0.5)),
    "gelu": jax.nn.gelu,  # by tanh, as GPT-2 and Gemma have it
    "gelu_exact": functools.partial(jax.nn.gelu, approximate=False),  # by erf, as BERT and Pythia
    "silu": jax.nn.silu,
    **GATED,
}


def activate(name: str, x: jax.Array, gate: jax.Array | None) -> jax.Array:
    """The hidden layer: x through its activation, or times the activated gate when there is one."""
    activation = ACTIVATIONS[name]
    return activation(x) if gate is None else activation(gate) * x


def parameter(
    module: nn.Module, name: str, init: Callable, axes: Sequence[str | None], shape: Sequence[int]
) -> jax.Array:
    """Declare a parameter of `module` with its logical axis names; returns its value."""
    init = init if DRAWN.get() else nn.initializers.zeros
    return declared(module, name, lambda *a: Named(init(*a), tuple(axes)), tuple(shape))


def declared(module: nn.Module, name: str, init: Callable, *arguments: Any) -> Any:
    """`module.param`, which would trace `init` at each use to compare shapes: half of a trace."""
    if module.has_variable("params", name):
        return nn.meta.unbox(module.get_variable("params", name))
    return module.param(name, init, *arguments)


def look_up(table: jax.Array, rows_BxL: jax.Array, dtype: Any) -> jax.Array:
    """Rows of a table, [B, L, D]: a device looks up its replica's in its part of the width."""
    rows_BxL = constrain(rows_BxL, "replica", None)  # for tables are large
    x_BxLxD = constrain(table[rows_BxL].astype(dtype), "replica", None, "embed")
    return constrain(x_BxLxD, "batch", "residual", None)


def class_vector(
    module: nn.Module, label_B: jax.Array, rows: int, width: int, dtype: Any
) -> jax.Array:
    """The row of each example's class in a table of `module`, [B, width]."""
    axes, normal = ("class", "embed"), nn.initializers.normal(0.02)
    return parameter(module, "label", normal, axes, (rows, width))[label_B].astype(dtype)


def residual_scale(model: Any) -> float:
    """Of the maps that write into the residual stream, as they start; see `zero_outputs`."""
    return 0.0 if model.zero_outputs else (2 * model.depth) ** -0.5  # shrinks with depth (GPT-2)


class Dense(nn.Module):
    """Linear map of the last axis to `features`, with logical axis names on its kernel.

    `features` may have several axes ([heads, 3, head_dim]); one matrix product serves them all.
    The kernel is drawn from N(0, scale^2 / fan_in); `scale=0` starts the map at zero.
    """

    features: tuple[int, ...]
    axes: tuple[str | None, ...]
    bias: bool = False
    scale: float = 1.0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        fan_in = x.shape[-1]
        std = self.scale * fan_in**-0.5
        initializer = nn.initializers.normal(std) if std else nn.initializers.zeros
        kernel = parameter(self, "kernel", initializer, self.axes, (fan_in, *self.features))
        kernel = gathered(kernel.astype(self.dtype), self.axes).reshape(fan_in, -1)
        y = x.astype(self.dtype)
        if size("sequence") == 1:  # rows split over both their axes could not be one axis
            y = y.reshape(-1, fan_in)
        product: Any = dot(y, kernel)
        y = product.reshape(*x.shape[:-1], *self.features)
        if self.bias:
            bias = parameter(self, "bias", nn.initializers.zeros, self.axes[1:], self.features)
            y += bias.astype(self.dtype)
        return y


def residual_map(
    model: Any, width: int, dtype: Any, axis: str = "heads", name: str = "out"
) -> Dense:
    """The map from a branch's features, split by `axis`, into the residual stream."""
    return Dense((width,), (axis, "embed"), model.bias, residual_scale(model), dtype, name=name)


class Conv(nn.Module):
    """Convolution of x [B, *space, I] to [B, *places, features], over any number of axes.

    There are ceil(space / stride) places, or space * stride of a `transposed` one. The kernel
    [*window, I / groups, features] is drawn from N(0, scale^2 / fan_in), as `Dense` draws its own.

    Attributes:
        axes: logical names of the kernel's inputs and outputs.
        groups: of channels that do not see each other; as many as inputs is a depthwise one.
    """

    features: int
    window: tuple[int, ...]
    axes: tuple[str | None, str | None]
    strides: tuple[int, ...] | None = None
    groups: int = 1
    transposed: bool = False
    bias: bool = False
    scale: float = 1.0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        strides = self.strides or (1,) * len(self.window)
        shape = (*self.window, x.shape[-1] // self.groups, self.features)
        taps = math.prod(shape[:-1]) / (math.prod(strides) if self.transposed else 1)
        std = self.scale * taps**-0.5
        initializer = nn.initializers.normal(std) if std else nn.initializers.zeros
        axes = (*(None for _ in self.window), *self.axes)
        kernel = parameter(self, "kernel", initializer, axes, shape)
        kernel = gathered(kernel.astype(self.dtype), axes)
        y = conv(x.astype(self.dtype), kernel, strides, self.groups, self.transposed)
        if self.bias:
            initializer = nn.initializers.zeros
            bias = parameter(self, "bias", initializer, self.axes[1:], (self.features,))
            y += bias.astype(self.dtype)
        return y


class Norm(nn.Module):
    """RMSNorm (Zhang & Sennrich 2019), LayerNorm or GroupNorm (Wu & He 2018), in float32.

    The first two are over the last axis; `groupnorm` is over each of `groups` groups of channels
    at all places of an example, x [B, *space, channels], so a causal network cannot have it.
    """

    kind: str
    affine: bool = True
    bias: bool = False
    epsilon: float = 1e-6
    groups: int = 32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        y, over = x.astype(jnp.float32), -1
        if self.kind == "groupnorm":
            y, over = y.reshape(len(x), -1, self.groups, x.shape[-1] // self.groups), (1, 3)
        if self.kind != "rmsnorm":
            y -= y.mean(over, keepdims=True)
        y *= jax.lax.rsqrt(jnp.square(y).mean(over, keepdims=True) + self.epsilon)
        y = y.reshape(x.shape)
        if self.affine:
            y *= parameter(self, "scale", nn.initializers.ones, ("norm",), x.shape[-1:])
        if self.affine and self.bias:
            y += parameter(self, "bias", nn.initializers.zeros, ("norm",), x.shape[-1:])
        return y.astype(x.dtype)
