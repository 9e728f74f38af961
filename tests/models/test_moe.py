"""The mixture of experts: routing, its gradients, and the cases that are something else."""

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax import numpy as jnp
from ml_collections import FrozenConfigDict

from research.models import mlp, moe
from tests import shapes

KEY = jax.random.key(0)


def model(**keys):
    return FrozenConfigDict(shapes.autoregressive(channel="moe", **keys).model)


dispatch = jax.jit(moe.dispatch, static_argnums=(1, 2))


@given(st.integers(0, 2**32 - 1), st.sampled_from([(1, 12, 5), (3, 12, 2), (4, 9, 9)]))
def test_a_dispatch_is_a_matching(seed, sizes):
    """Slots and choices name each other; an expert takes its first choices and no more."""
    experts, choices, room = sizes
    expert = np.random.default_rng(seed).integers(0, experts, (2, choices))
    slot, choice = map(np.asarray, dispatch(expert, experts, room))
    for row in range(2):
        for each in range(experts):
            wanted = np.flatnonzero(expert[row] == each)
            taken, left = wanted[:room], wanted[room:]
            assert sorted(slot[row, taken]) == list(range(each * room, each * room + len(taken)))
            assert (slot[row, left] == experts * room).all()
            np.testing.assert_array_equal(choice[row, slot[row, taken]], taken)
        assert (choice[row] < choices).sum() == (slot[row] < experts * room).sum()


def test_gradient_of_take_is_the_plain_one():
    expert = jax.random.randint(KEY, (2, 12), 0, 3)
    slot, choice = moe.dispatch(expert, 3, 3)
    x, g = jax.random.normal(KEY, (2, 6, 4)), jax.random.normal(KEY, (2, 9, 4))
    readers = slot.reshape(2, 6, 2)
    ours = jax.grad(lambda x: (moe.take(x, choice // 2, readers) * g).sum())(x)
    plain = jax.grad(lambda x: (moe.rows(x, choice // 2) * g).sum())(x)
    np.testing.assert_allclose(ours, plain, atol=1e-6)
    assert np.abs(ours).min() == 0 or (np.asarray(slot) < 9).all()  # what is dropped has none


def test_one_expert_is_the_perceptron():
    x = jax.random.normal(KEY, (2, 6, 16))
    one = model(num_experts=1, experts_per_token=1, activation="swiglu")
    params = shapes.init(moe.MoE(one, jnp.float32), KEY, x)
    y, measures, _ = shapes.apply(moe.MoE(one, jnp.float32), params, x)
    dense = {name: {"kernel": params[name][0]} for name in ("gate", "up", "down")}
    np.testing.assert_allclose(
        y, shapes.apply(mlp.MLP(one, jnp.float32), dense, x)[0], rtol=1e-5, atol=1e-6
    )
    assert float(measures["balance"]) == pytest.approx(1, abs=1e-6)
    assert float(measures["dropped"]) == 0


def test_equal_experts_are_one():
    """Whoever is chosen, the weights sum to 1; with room for all nothing is dropped."""
    x = jax.random.normal(KEY, (2, 6, 16))
    four = model(num_experts=4, experts_per_token=2, capacity_factor=2.0)
    module = moe.MoE(four, jnp.float32)
    params = shapes.init(module, KEY, x)
    params |= {name: params[name][:1].repeat(4, 0) for name in ("up", "down")}
    y, measures, _ = shapes.apply(module, params, x)
    dense = {name: {"kernel": params[name][0]} for name in ("up", "down")}
    np.testing.assert_allclose(
        y, shapes.apply(mlp.MLP(four, jnp.float32), dense, x)[0], rtol=1e-5, atol=1e-6
    )
    assert float(measures["dropped"]) == 0


@pytest.mark.parametrize("chosen", [0, 3])
def test_balance_grows_as_routing_narrows(chosen):
    """1 when the router is even; the number of experts when all choose one (Fedus 2021)."""
    x = jnp.abs(jax.random.normal(KEY, (2, 8, 16)))
    module = moe.MoE(model(num_experts=4, experts_per_token=1), jnp.float32)
    params = shapes.init(module, KEY, x)
    _, even, _ = shapes.apply(module, params | {"router": jnp.zeros((16, 4))}, x)
    assert float(even["balance"]) == pytest.approx(1)
    narrow = jnp.zeros((16, 4)).at[:, chosen].set(100.0)
    _, measures, _ = shapes.apply(module, params | {"router": narrow}, x)
    assert float(measures["balance"]) == pytest.approx(4)
    room = moe.capacity(module.model, 8)
    assert float(measures["dropped"]) == pytest.approx(1 - room / 8)
