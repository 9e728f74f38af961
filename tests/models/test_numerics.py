"""Products, convolutions and norms: exact gradients, adjoints, nothing done for the frozen."""

from typing import Any

import jax
import numpy as np
import pytest
from jax import lax
from jax import numpy as jnp

from research import cost
from research.models import common, numerics
from tests import shapes

KEY = jax.random.key(0)


def test_gradient_of_a_product_is_the_plain_one():
    for sides in ([(7, 5), (5, 3), (7, 3)], [(2, 7, 3), (3, 5), (2, 7, 5)]):  # tall, then wide
        x, w, weight = map(jax.random.normal, jax.random.split(KEY, 3), sides)
        ours, plain = (
            jax.grad(lambda x, w, p=product, g=weight: (p(x, w) * g).sum(), argnums=(0, 1))(x, w)
            for product in (numerics.dot, lambda x, w: x @ w)
        )
        for one, other in zip(ours, plain, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-6)


def layers(how, trained, frozen, x):
    """Three products with a frozen weight and one with a trained one."""

    def body(x, w):
        return jnp.tanh(numerics.dot(x, w)), None

    if how == "remat":
        body = jax.checkpoint(body)
    if how == "unrolled":
        for w in frozen:
            x, _ = body(x, w)
    else:
        x, _ = lax.scan(body, x, frozen)
    return jnp.square(numerics.dot(x, trained)).sum()


@pytest.mark.parametrize("how, again", [("unrolled", 0), ("scanned", 0), ("remat", 3)])
def test_a_frozen_weight_costs_no_gradient(how, again):
    """Only the gradient of what comes in passes it: two products a frozen weight, not three."""
    x, frozen = jax.random.normal(KEY, (4, 8)), jax.random.normal(KEY, (3, 8, 8))
    trained = jax.random.normal(KEY, (8, 2))
    one, last = 2 * 4 * 8 * 8, 2 * 4 * 8 * 2

    def count(*which):
        found = cost.count(jax.grad(lambda *a: layers(how, *a), which), trained, frozen, x)
        return sum(found.values())

    assert count(0, 2) == (2 * 3 + again) * one + 3 * last
    assert count(0, 1, 2) == (3 * 3 + again) * one + 3 * last
    whole = jax.grad(lambda *a: layers(how, *a), (0, 1, 2))(trained, frozen, x)
    part = jax.grad(lambda *a: layers(how, *a), (0, 2))(trained, frozen, x)
    np.testing.assert_array_equal(part[0], whole[0])
    np.testing.assert_array_equal(part[1], whole[2])


@pytest.mark.parametrize("space, window, strides", [((9,), (3,), (1,)), ((8, 6), (3, 2), (2, 3))])
def test_a_convolution_is_its_definition(space, window, strides):
    """Over one and two axes: a sum over taps, zeros outside."""
    x: Any = np.asarray(jax.random.normal(KEY, (2, *space, 3)))
    kernel: Any = np.asarray(jax.random.normal(KEY, (*window, 3, 4)))
    y = numerics.conv(x, kernel, strides)
    out = tuple(-(-n // s) for n, s in zip(space, strides, strict=True))
    expected = np.zeros((2, *out, 4), np.float32)
    for place in np.ndindex(out):
        for tap in np.ndindex(window):
            over = [
                max((o - 1) * s + w - n, 0)
                for o, s, w, n in zip(out, strides, window, space, strict=True)
            ]
            at = [p * s + t - o // 2 for p, s, t, o in zip(place, strides, tap, over, strict=True)]
            if all(0 <= a < n for a, n in zip(at, space, strict=True)):
                expected[:, *place] += x[:, *at] @ kernel[tap]
    np.testing.assert_allclose(y, expected, atol=1e-5)


@pytest.mark.parametrize("window, strides", [((3, 3), (2, 2)), ((2, 5), (2, 1)), ((1, 2), (3, 4))])
def test_a_transposed_convolution_is_the_adjoint(window, strides):
    """<conv x, y> = <x, transposed y>, with the kernel mirrored, its ends exchanged."""
    kernel = jax.random.normal(KEY, (*window, 3, 4))
    small = jax.random.normal(KEY, (2, 5, 4, 4))
    space = tuple(n * s for n, s in zip((5, 4), strides, strict=True))
    large = jax.random.normal(jax.random.key(1), (2, *space, 3))
    mirrored = jnp.flip(kernel, (0, 1)).swapaxes(-1, -2)
    up = numerics.conv(small, mirrored, strides, transposed=True)
    assert up.shape == large.shape
    down = numerics.conv(large, kernel, strides)
    assert float((down * small).sum()) == pytest.approx(float((large * up).sum()), rel=1e-4)


def test_grouped_convolutions_are_side_by_side():
    x, kernel = jax.random.normal(KEY, (2, 6, 4)), jax.random.normal(KEY, (3, 2, 6))
    for how in (dict(), dict(transposed=True)):
        both = numerics.conv(x, kernel, (2,), 2, **how)
        halves = [
            numerics.conv(x[..., 2 * i : 2 * i + 2], kernel[..., 3 * i : 3 * i + 3], (2,), **how)
            for i in range(2)
        ]
        np.testing.assert_allclose(both, jnp.concatenate(halves, -1), atol=1e-5)


def test_a_convolution_starts_with_the_variance_of_its_input():
    x = jax.random.normal(KEY, (8, 32, 32, 16))
    ways: Any = (dict(), dict(strides=(2, 2), transposed=True), dict(groups=4))
    for how in ways:
        module = common.Conv(64, (3, 3), (None, "mlp"), **how)
        params = shapes.init(module, KEY, x)
        inside = shapes.apply(module, params, x)[:, 2:-2, 2:-2]
        assert float(inside.std()) == pytest.approx(1, abs=0.1)
        assert common.logical_axes(module, x)["kernel"] == (None, None, None, "mlp")


def test_group_norm_is_each_groups():
    x = jax.random.normal(KEY, (2, 5, 5, 8)) * 3 + 1
    norm = common.Norm("groupnorm", groups=2)
    y = np.asarray(shapes.apply(norm, shapes.init(norm, KEY, x), x)).reshape(2, 25, 2, 4)
    np.testing.assert_allclose(y.mean((1, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(y.std((1, 3)), 1, atol=1e-4)
