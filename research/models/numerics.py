"""Every product with a weight and every convolution: the one place where numerics are chosen."""

import contextlib
import contextvars
from collections.abc import Iterator, Sequence
from typing import Any

import jax
from jax import lax

FORWARDS = contextvars.ContextVar("FORWARDS", default=False)


@contextlib.contextmanager
def forwards() -> Iterator[None]:
    """Trace a network in here that `jax.jvp` goes through: rules for going back are left out."""
    token = FORWARDS.set(True)
    try:
        yield
    finally:
        FORWARDS.reset(token)


def dot(x: jax.Array, w_IxO: jax.Array) -> jax.Array:
    """x [..., I] @ w [I, O]."""
    return x @ w_IxO if FORWARDS.get() else _dot(x, w_IxO)


@jax.custom_vjp
def _dot(x: jax.Array, w_IxO: jax.Array) -> jax.Array:
    """The product, with both gradients contracted in place.

    The default gradient of w transposes a whole activation first on CPU (1.3x the step time). A
    frozen w has no gradient at all: neither its product nor what that would keep of x.
    """
    return x @ w_IxO


def _dot_forward(x: Any, w: Any) -> tuple[jax.Array, tuple[jax.Array | None, jax.Array]]:
    return x.value @ w.value, (x.value if w.perturbed else None, w.value)


def _dot_backward(saved: tuple[jax.Array | None, jax.Array], g: Any) -> tuple:
    x, w_IxO = saved
    if isinstance(g, jax.custom_derivatives.SymbolicZero):
        return None, None
    x_gradient = lax.dot_general(g, w_IxO, (((g.ndim - 1,), (1,)), ((), ())))
    if x is None:
        return x_gradient, None
    rows = tuple(range(x.ndim - 1))
    if w_IxO.shape[0] <= w_IxO.shape[1]:
        return x_gradient, lax.dot_general(x, g, ((rows, rows), ((), ())))
    # A tall gradient takes twice the time of a wide one; the barrier keeps XLA from undoing this.
    return x_gradient, lax.optimization_barrier(lax.dot_general(g, x, ((rows, rows), ((), ())))).T


_dot.defvjp(_dot_forward, _dot_backward, symbolic_zeros=True)


def dot_experts(x_BxExMxI: jax.Array, w_ExIxO: jax.Array) -> jax.Array:
    """Each expert's slots through its own weights, [B, E, M, O]."""
    return jax.numpy.einsum("beci,eio->beco", x_BxExMxI, w_ExIxO)


def project(x_BxLxI: jax.Array, table_OxI: jax.Array) -> jax.Array:
    """x on each row of a table, [B, L, O]: a head, which may be the embedding."""
    return x_BxLxI @ table_OxI.T


def conv(
    x: jax.Array,
    kernel: jax.Array,
    strides: Sequence[int],
    groups: int = 1,
    transposed: bool = False,
    padding: Any = "SAME",
) -> jax.Array:
    """Convolve x [B, *space, I] with `kernel` [*window, I / groups, O]; any number of axes.

    The output has ceil(space / stride) places; `transposed`, space * stride. A transposed one is
    the adjoint of the convolution whose kernel is mirrored, inputs and outputs exchanged. Zeros are
    around x, or as many as `padding` says, (before, after) of each axis; fewer than none cut it.
    """
    window, space = kernel.shape[:-2], x.shape[1:-1]
    axes = "".join("XYZW"[: len(space)])
    names = (f"N{axes}C", f"{axes}IO", f"N{axes}C")
    if not transposed:
        return lax.conv_general_dilated(
            x, kernel, strides, padding, dimension_numbers=names, feature_group_count=groups
        )
    padding = []
    for taps, stride in zip(window, strides, strict=True):
        over = max(taps - stride, 0)  # taps that reach beyond the output, as SAME splits them
        low = taps - 1 - over // 2
        padding.append((low, taps + stride - 2 - low))
    ones = (1,) * len(space)
    return lax.conv_general_dilated(
        x, kernel, ones, padding, strides, dimension_numbers=names, feature_group_count=groups
    )
