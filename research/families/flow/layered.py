"""What flows share: layers of one kind as one scan, squares of pixels as channels, and checks."""

import math
from collections.abc import Callable
from typing import Any

import jax
from jax import Array
from jax import numpy as jnp

from research import mesh
from research.errors import UserError
from research.models import common


def init(module: Any, key: Array, count: int, *inputs: Any) -> common.Params:
    """Parameters of `count` modules of one kind, along a first axis."""
    keys = jax.random.split(key, count)
    return jax.vmap(lambda each: common.init(module, each, *inputs))(keys)


def axes(module: Any, *inputs: Any) -> common.Params:
    """Logical axes of them; stacks of stacks have one axis `layers`, the inner one."""
    return jax.tree.map(
        lambda names: (None if "layers" in names else "layers", *names),
        common.logical_axes(module, *inputs),
        is_leaf=mesh.is_axes,
    )


def run(hardware: Any, layer: Callable, carry: Any, each: Any, reverse: bool = False) -> Any:
    """`layer(carry, its entry of each)` -> (carry, found) of every layer, one after another."""
    count = len(jax.tree.leaves(each)[0])
    return jax.lax.scan(layer, carry, each, reverse=reverse, unroll=hardware.unroll >= count)


def nothing(x: Array) -> Array:
    """A log-determinant of zero for each example of x."""
    return jnp.zeros(len(x), x.dtype)


def total(x: Array) -> Array:
    """Sum over all but the examples."""
    return x.sum(tuple(range(1, x.ndim)))


def label(model: Any) -> Array | None:
    """A label that a network can be started with."""
    return jnp.zeros(1, jnp.int32) if model.num_classes else None


def squeeze(x_BxHxWxC: Array, side: int) -> Array:
    """Squares of pixels as channels of one place, [B, H / side, W / side, side^2 C]."""
    batch, height, across, channels = x_BxHxWxC.shape
    x = x_BxHxWxC.reshape(batch, height // side, side, across // side, side, channels)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, height // side, across // side, -1)


def unsqueeze(x_BxHxWxC: Array, side: int) -> Array:
    """`squeeze` undone."""
    batch, height, across, channels = x_BxHxWxC.shape
    x = x_BxHxWxC.reshape(batch, height, across, side, side, channels // side**2)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, height * side, across * side, -1)


def squeezed(shape: Any, side: int) -> tuple[int, int, int]:
    """The shape that `squeeze` gives an image."""
    return shape[0] // side, shape[1] // side, shape[2] * side**2


def check_count(model: Any, key: str) -> None:
    """Raise UserError for a number of layers or steps below one."""
    if model[key] < 1:
        raise UserError(f"config.model.{key}={model[key]} must be at least 1")


def check_side(model: Any, key: str, side: int) -> None:
    """Raise UserError where squares of `side` pixels, as `key` wants, do not cover the image."""
    height, across, _ = model.image_shape
    if height % side or across % side:
        raise UserError(
            f"config.model.{key}={model[key]} makes squares of {side} pixels, which do not cover "
            f"{height}x{across}; the largest that do have {math.gcd(height, across)}"
        )
