"""Invertible maps of single numbers, whose parameters a network says: affine, or a spline.

The spline is the monotone rational-quadratic one of Durkan et al. (2019, arXiv 1906.04032,
equations 4 to 8): `bins` pieces over [-bound, bound], and the identity outside. Where all
parameters are zero both maps are the identity.
"""

import math
from typing import Any

import jax
from jax import Array
from jax import numpy as jnp

from research.errors import UserError
from research.parts import check_choice

TRANSFORMS = ("affine", "spline")
STEEPEST = 2.0  # of the log scale of an affine map, either way
LEAST = 1e-3  # of a bin's share of the width or height, and of a slope at a knot


def default_model() -> dict[str, Any]:
    """Its keys of `config.model`."""
    return dict(
        transform="affine",
        bins=8,  # of a spline
        bound=4.0,  # a spline is the identity beyond
    )


def check(model: Any) -> None:
    """Raise UserError for maps that cannot be."""
    check_choice("model.transform", model.transform, TRANSFORMS)
    if not 2 <= model.bins <= 100:
        near = min(max(model.bins, 2), 100)
        raise UserError(
            f"config.model.bins={model.bins} must be from 2 to 100; nearest valid: {near}"
        )
    if model.bound <= 0:
        raise UserError(f"config.model.bound={model.bound} must be positive")


def numbers(model: Any) -> int:
    """How many parameters the map of one number has."""
    return 2 if model.transform == "affine" else 3 * model.bins - 1


def forward(model: Any, raw: Array, x: Array) -> tuple[Array, Array]:
    """The map of each number of x [...] by raw [..., numbers], and the log of its slope."""
    if model.transform == "affine":
        log_scale = STEEPEST * jnp.tanh(raw[..., 0] / STEEPEST)
        return x * jnp.exp(log_scale) + raw[..., 1], log_scale
    return _spline(model, raw, x, inverse=False)


def inverse(model: Any, raw: Array, y: Array) -> Array:
    """x of `forward`."""
    if model.transform == "affine":
        log_scale = STEEPEST * jnp.tanh(raw[..., 0] / STEEPEST)
        return (y - raw[..., 1]) * jnp.exp(-log_scale)
    return _spline(model, raw, y, inverse=True)[0]


def _knots(model: Any, raw: Array) -> tuple[Array, Array, Array]:
    """Places, heights and slopes of the bins + 1 knots, each [..., knots]."""
    bins, bound = model.bins, model.bound

    def edges(raw):
        share = LEAST + (1 - LEAST * bins) * jax.nn.softmax(raw)
        inner = bound * (2 * jnp.cumsum(share, -1)[..., :-1] - 1)
        end = jnp.full_like(inner[..., :1], bound)
        return jnp.concatenate([-end, inner, end], -1)

    slopes = LEAST + jax.nn.softplus(raw[..., 2 * bins :] + math.log(math.expm1(1 - LEAST)))
    one = jnp.ones_like(raw[..., :1])
    slopes = jnp.concatenate([one, slopes, one], -1)
    return edges(raw[..., :bins]), edges(raw[..., bins : 2 * bins]), slopes


def _spline(model: Any, raw: Array, given: Array, inverse: bool) -> tuple[Array, Array]:
    places, heights, slopes = _knots(model, raw)
    inside = jnp.abs(given) < model.bound
    at = jnp.where(inside, given, 0)  # elsewhere any number that has a gradient
    known = heights if inverse else places
    index = (at[..., None] >= known[..., 1:-1]).sum(-1)[..., None]

    def picked(knots, offset=0):
        return jnp.take_along_axis(knots, index + offset, -1)[..., 0]

    x_0, y_0, d_0, d_1 = picked(places), picked(heights), picked(slopes), picked(slopes, 1)
    width, height = picked(places, 1) - x_0, picked(heights, 1) - y_0
    mean = height / width
    bend = d_0 + d_1 - 2 * mean
    if inverse:
        above = at - y_0
        a, b, c = height * (mean - d_0) + above * bend, height * d_0 - above * bend, -mean * above
        share = 2 * c / (-b - jnp.sqrt(jnp.maximum(b**2 - 4 * a * c, 0)))
        found = x_0 + share * width
    else:
        share = (at - x_0) / width
        both = share * (1 - share)
        found = y_0 + height * (mean * share**2 + d_0 * both) / (mean + bend * both)
    both = share * (1 - share)
    slope = d_1 * share**2 + 2 * mean * both + d_0 * (1 - share) ** 2
    log_slope = 2 * jnp.log(mean) + jnp.log(slope) - 2 * jnp.log(mean + bend * both)
    return jnp.where(inside, found, given), jnp.where(inside, log_slope, 0)
