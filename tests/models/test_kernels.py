"""Every kernel of attention honours every kind's rule: equal to one plain softmax over a mask."""

import functools

import jax
import numpy as np
import pytest
from jax import numpy as jnp
from ml_collections import FrozenConfigDict

from research.models import full_attention, kernels, window_attention
from research.models.kernels import Places, Rule
from tests.toys import strided_attention

KEY = jax.random.key(0)
MODEL = FrozenConfigDict(dict(window=40, stride=3))
KINDS = (full_attention, window_attention, strided_attention)


def plain(query, key, value, places, rule):
    """By the definition: each row's softmax over the keys that it sees."""
    scores = jnp.einsum("bhqd,bhkd->bhqk", query, key) / query.shape[-1] ** 0.5
    seen = np.ones((query.shape[-2], key.shape[-2]), bool)
    groups = query.shape[-2] // key.shape[-2]
    for row in range(len(seen)):
        for at in range(seen.shape[1]):
            own = row // groups
            near = {
                full_attention: True,
                window_attention: abs(own - at) < rule.model.window,
                strided_attention: abs(own - at) % rule.model.stride == 0,
            }[rule.kind]
            seen[row, at] = near and (at <= own or not rule.causal)
    segment = places.key_segment
    if segment is not None:
        seen = seen & (jnp.repeat(segment, groups, -1)[:, :, None] == segment[:, None])[:, None]
    weights = jax.nn.softmax(jnp.where(seen, scores, -jnp.inf))
    return jnp.einsum("bhqk,bhkd->bhqd", weights, value), None


def places(length, groups, segment=None):
    at = jnp.arange(length)
    rows = None if segment is None else jnp.repeat(segment, groups, -1)
    return Places(jnp.repeat(at, groups), at, rows, segment)


def inputs(batch, heads, groups, length, size):
    rows, keys = (batch, heads, groups * length, size), (batch, heads, length, size)
    return [*map(jax.random.normal, jax.random.split(KEY, 4), (rows, keys, keys, rows))]


@functools.partial(jax.jit, static_argnums=(0, 4))
def run(kernel, arrays, weight, where, rule):
    """Output and the gradients of query, key and value."""

    def total(*arrays):
        y, _ = kernel(*arrays, where, rule)
        return (y * weight).sum(), y

    return jax.grad(total, argnums=(0, 1, 2), has_aux=True)(*arrays)


def assert_equal(kernel, other, length, groups, rule, segment=None, atol=5e-5):
    *arrays, weight = inputs(2, 2, groups, length, 16 if length < 128 else 128)
    where = places(length, groups, segment)
    found, expected = (run(each, arrays, weight, where, rule) for each in (kernel, other))
    for one, two in zip(*map(jax.tree.leaves, (found, expected)), strict=True):
        np.testing.assert_allclose(one, two, atol=atol)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_dense_is_the_definition(kind, causal):
    """With gradients made by hand, and with several texts in an example."""
    rule = Rule(kind, FrozenConfigDict(dict(window=4, stride=3)), causal)
    segment = jnp.array([[0] * 12, [0] * 5 + [1] * 7])
    assert_equal(kernels.dense, plain, 12, 3, rule, atol=3e-6)
    assert_equal(kernels.dense, plain, 12, 3, rule, segment, atol=3e-6)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["chunked", "splash"])
def test_every_kernel_is_the_dense_one(name, kind, causal, monkeypatch):
    """Values and gradients, with three heads a key and with several chunks."""
    monkeypatch.setattr(kernels, "ROWS", 96)
    rule = Rule(kind, MODEL, causal)
    segment = jnp.array([[0] * 128, [0] * 50 + [1] * 78]) if kind is window_attention else None
    assert_equal(kernels.KERNELS[name], kernels.dense, 128, 3, rule, segment)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_cudnn_is_asked_for_the_same_rule(kind, causal, monkeypatch):
    """No GPU here: what the kernel is told, computed by XLA, is the dense one."""
    said = []

    original = jax.nn.dot_product_attention

    def by_xla(*arrays, implementation, **how):
        said.append((implementation, *how))
        return original(*arrays, implementation="xla", **how)

    monkeypatch.setattr(jax.nn, "dot_product_attention", by_xla)
    rule = Rule(kind, FrozenConfigDict(dict(window=4, stride=3)), causal)
    segment = jnp.array([[0] * 16, [0] * 5 + [1] * 11])
    for each in (None, segment):
        assert_equal(kernels.cudnn, kernels.dense, 16, 3, rule, each)
    words = {"cudnn", "scale"} | ({"is_causal"} if causal and kind is full_attention else set())
    if causal and kind is window_attention:
        words |= {"local_window_size", "is_causal"}
    if not words & {"is_causal"} and kind is not full_attention:
        words |= {"mask"}
    assert set(said[0]) == words and set(said[-1]) == {"cudnn", "scale", "mask"}


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_a_band_is_what_the_rule_sees(kind, causal):
    rule, at = Rule(kind, MODEL, causal), np.arange(100)
    seen = rule.sees(at[:, None], at[None])
    if kind is strided_attention:
        assert rule.band is None
        return
    left, right = (100 if bound is None else bound for bound in rule.band or ())
    away = at[None] - at[:, None]
    inside = (away >= -left) & (away <= right)
    np.testing.assert_array_equal(np.ones((100, 100), bool) if seen is None else seen, inside)


def test_a_window_of_the_whole_length_is_full():
    wide = FrozenConfigDict(dict(window=16))
    *arrays, _ = inputs(1, 2, 1, 16, 8)
    full, window = (
        kernels.KERNELS["dense"](*arrays, places(16, 1), Rule(kind, wide, True))[0]
        for kind in (full_attention, window_attention)
    )
    np.testing.assert_array_equal(full, window)
