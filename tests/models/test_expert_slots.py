"""Slots of experts: a dispatch is a matching, and what is taken has the plain gradient."""

import jax
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from research.models import expert_slots

KEY = jax.random.key(0)
dispatch = jax.jit(expert_slots.dispatch, static_argnums=(1, 2))


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
    slot, choice = expert_slots.dispatch(expert, 3, 3)
    x, g = jax.random.normal(KEY, (2, 6, 4)), jax.random.normal(KEY, (2, 9, 4))
    readers = slot.reshape(2, 6, 2)
    ours = jax.grad(lambda x: (expert_slots.take(x, choice // 2, readers) * g).sum())(x)
    plain = jax.grad(lambda x: (expert_slots.rows(x, choice // 2) * g).sum())(x)
    np.testing.assert_allclose(ours, plain, atol=1e-6)
    assert np.abs(ours).min() == 0 or (np.asarray(slot) < 9).all()  # what is dropped has none
