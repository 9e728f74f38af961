"""The block: causality, rotary positions, grouped queries, remat and scan change nothing."""

import jax
import numpy as np
import pytest
from jax import numpy as jnp
from ml_collections import FrozenConfigDict

from research.models import common, rotary, transformer
from tests import shapes

KEY = jax.random.key(0)
ROTARY = FrozenConfigDict(rotary.default_model())


def stack(causal=True, hardware=None, **model):
    config = shapes.autoregressive(**model)
    config.hardware.update(hardware or {})
    model, hardware = FrozenConfigDict(config.model), FrozenConfigDict(config.hardware)
    return transformer.Stack(model, hardware, causal)


def apply(module, *inputs):
    return shapes.apply(module, *inputs)[0]


def test_scores_depend_on_relative_position_only():
    """<rotate(q)_i, rotate(k)_j> is a function of i - j (Su et al. 2021, eq. 16)."""
    query, key = jax.random.normal(KEY, (2, 8))
    same = jnp.broadcast_to(query, (1, 1, 6, 8)), jnp.broadcast_to(key, (1, 1, 6, 8))
    rotated_query, rotated_key = (rotary.turn(ROTARY, x)[0, 0] for x in same)
    scores = np.asarray(rotated_query @ rotated_key.T)
    for offset in range(-5, 6):
        diagonal = np.diagonal(scores, offset)
        np.testing.assert_allclose(diagonal, diagonal[0], atol=1e-5)
    assert np.ptp(scores) > 0.1


def test_positions_in_order_turn_as_the_same_positions_given():
    """The constants of a program, forwards and backwards, and what it finds of its input."""
    x, weight = jax.random.normal(KEY, (2, 2, 3, 6, 8))

    @jax.jit
    def turned(x, positions):
        y, back = jax.vjp(lambda x: rotary.turn(ROTARY, x, positions), x)
        return y, back(weight)

    for one, two in zip(turned(x, None), turned(x, jnp.arange(6)), strict=True):
        np.testing.assert_allclose(one, two, atol=1e-6)


def test_grouped_queries_with_every_head_are_plain_attention():
    x = jax.random.normal(KEY, (2, 6, 16))
    plain, grouped = stack(num_kv_heads=0), stack(num_kv_heads=2)
    params = shapes.init(plain, KEY, x)
    np.testing.assert_array_equal(apply(plain, params, x), apply(grouped, params, x))


def test_shared_keys_equal_repeated_keys():
    """One key-value head shared by two queries is two equal ones."""
    x = jax.random.normal(KEY, (2, 6, 16))
    shared, full = stack(num_kv_heads=1), stack(num_kv_heads=0)
    params = shapes.init(shared, KEY, x)
    qkv = params["blocks"]["attention"]["qkv"]["kernel"]  # [depth, width, 1, 2 + 2, 8]
    query, keys = jnp.split(qkv, [2], axis=3)
    repeated = jnp.concatenate([query.swapaxes(2, 3), jnp.repeat(keys, 2, axis=2)], axis=3)
    other = jax.tree.map(lambda leaf: leaf, params)
    other["blocks"]["attention"]["qkv"]["kernel"] = repeated
    np.testing.assert_allclose(apply(shared, params, x), apply(full, other, x), atol=1e-5)


def gradient(hardware):
    """The gradient's leaves of a stack as `hardware` computes it."""
    x, module = jax.random.normal(KEY, (2, 6, 16)), stack(hardware=hardware)
    params = shapes.init(stack(), KEY, x)
    of = jax.jit(jax.grad(lambda p: jnp.square(common.apply(module, p, x)[0]).sum()))
    return jax.tree.leaves(of(params))


@pytest.fixture(scope="module")
def plain_gradient():
    return gradient({})


@pytest.mark.parametrize(
    "hardware",
    [
        dict(unroll=1),
        *(dict(remat=name, unroll=1) for name in ("full", "attention", "dots", "offload")),
    ],
)
def test_hardware_choices_do_not_change_the_gradient(plain_gradient, hardware):
    for one, two in zip(plain_gradient, gradient(hardware), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-4)


def test_remat_saves_fewer_values():
    """The policy is really on: the backward pass keeps less than without it."""
    x = jax.random.normal(KEY, (4, 32, 16))

    def saved(hardware):
        module = stack(hardware=hardware)
        params = shapes.init(module, KEY, x)
        grad = jax.jit(jax.grad(lambda p: jnp.square(common.apply(module, p, x)[0]).sum()))
        analysis = grad.lower(params).compile().memory_analysis()
        assert analysis is not None
        return analysis.temp_size_in_bytes

    assert saved(dict(remat="full", unroll=1)) < saved(dict(remat="none", unroll=1))


def test_modulated_stack_starts_as_the_identity():
    x, condition = jax.random.normal(KEY, (2, 6, 16)), jax.random.normal(KEY, (2, 16))
    module = stack(causal=False)
    params = shapes.init(module, KEY, x, condition)
    np.testing.assert_array_equal(apply(module, params, x, condition), x)


def test_bfloat16_computes_near_float32_with_float32_parameters():
    x = jax.random.normal(KEY, (2, 6, 16))
    half = stack(hardware=dict(compute_dtype="bfloat16"))
    params = shapes.init(half, KEY, x)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    y = apply(half, params, x)
    assert y.dtype == jnp.bfloat16
    np.testing.assert_allclose(y.astype(jnp.float32), apply(stack(), params, x), atol=0.15)
