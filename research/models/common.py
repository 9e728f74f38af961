"""The seam between Flax and everything else: modules in, plain dicts of arrays out."""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
from jax import numpy as jnp

from research.mesh import gathered, size

Params = dict[str, Any]


def init(module: nn.Module, key: jax.Array, *inputs: Any) -> Params:
    """Return the module's parameters as a plain nested dict; jit-able."""
    return nn.meta.unbox(module.init(key, *inputs)["params"])


def apply(module: nn.Module, params: Params, *inputs: Any) -> Any:
    """Run the module on parameters made by `init`."""
    return module.apply({"params": params}, *inputs)


def logical_axes(module: nn.Module, *inputs: Any) -> Params:
    """Return a tree like `init`'s of tuples of logical axis names, made without arrays."""
    shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), *inputs)["params"])
    return jax.tree.map(
        lambda leaf: tuple(leaf.names) if isinstance(leaf, nn.Partitioned) else (None,) * leaf.ndim,
        shapes,
        is_leaf=lambda leaf: isinstance(leaf, nn.Partitioned),
    )


class Named(nn.Partitioned):
    """An array and its logical axis names, which are not mesh axes: programs lay it out."""

    def unbox(self, apply_constraint: bool = True) -> Any:
        del apply_constraint
        return self.value


@jax.custom_vjp
def matmul(x: jax.Array, w: jax.Array) -> jax.Array:
    """x [..., in] @ w [in, out], with both gradients contracted in place.

    The default gradient of w transposes a whole activation first on CPU (1.3x the step time).
    """
    return x @ w


def _matmul_backward(saved: tuple[jax.Array, jax.Array], g: jax.Array) -> tuple:
    x, w = saved
    rows = tuple(range(x.ndim - 1))
    contract = jax.lax.dot_general
    x_gradient = contract(g, w, (((g.ndim - 1,), (1,)), ((), ())))
    if w.shape[0] <= w.shape[1]:
        return x_gradient, contract(x, g, ((rows, rows), ((), ())))
    # A tall gradient takes twice the time of a wide one; the barrier keeps XLA from undoing this.
    return x_gradient, jax.lax.optimization_barrier(contract(g, x, ((rows, rows), ((), ())))).T


matmul.defvjp(lambda x, w: (x @ w, (x, w)), _matmul_backward)


def parameter(
    module: nn.Module, name: str, init: Callable, axes: Sequence[str | None], shape: Sequence[int]
) -> jax.Array:
    """Declare a parameter of `module` with its logical axis names; returns its value."""
    return declared(module, name, lambda *a: Named(init(*a), tuple(axes)), tuple(shape))


def declared(module: nn.Module, name: str, init: Callable, *arguments: Any) -> Any:
    """`module.param`, which would trace `init` at each use to compare shapes: half of a trace."""
    if module.has_variable("params", name):
        return nn.meta.unbox(module.get_variable("params", name))
    return module.param(name, init, *arguments)


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
        product: Any = matmul(y, kernel)
        y = product.reshape(*x.shape[:-1], *self.features)
        if self.bias:
            bias = parameter(self, "bias", nn.initializers.zeros, self.axes[1:], self.features)
            y += bias.astype(self.dtype)
        return y


class Norm(nn.Module):
    """RMSNorm (Zhang & Sennrich 2019) or LayerNorm over the last axis, computed in float32."""

    kind: str
    affine: bool = True
    bias: bool = False
    epsilon: float = 1e-6

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        y = x.astype(jnp.float32)
        if self.kind == "layernorm":
            y -= y.mean(-1, keepdims=True)
        y *= jax.lax.rsqrt(jnp.square(y).mean(-1, keepdims=True) + self.epsilon)
        if self.affine:
            y *= parameter(self, "scale", nn.initializers.ones, ("norm",), x.shape[-1:])
        if self.affine and self.bias:
            y += parameter(self, "bias", nn.initializers.zeros, ("norm",), x.shape[-1:])
        return y.astype(x.dtype)
