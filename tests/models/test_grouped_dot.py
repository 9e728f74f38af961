"""Products of sorted rows: each group's own, on a CPU and in what the ledger reads."""

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from research import cost
from research.models import grouped_dot

KEY = jax.random.key(0)
SIZES = (3, 40, 6, 10)  # experts, rows, inputs, outputs


def operands():
    experts, rows, inputs, outputs = SIZES
    keys = jax.random.split(KEY, 3)
    sides = [(rows, inputs), (experts, inputs, outputs), (rows, outputs)]
    return [jax.random.normal(key, side) for key, side in zip(keys, sides, strict=True)]


def loss(x, w, rows_E, g):
    return (grouped_dot.dot_grouped(x, w, rows_E) * g).sum()


# Groups of several tiles and an empty one; of parts of a tile; rows of nobody; nothing at all.
ROWS = [[33, 0, 7], [9, 17, 14], [1, 0, 20], [0, 0, 0]]


def test_each_group_has_its_own_matrix(monkeypatch):
    """Values and both gradients by hand; stacked, as several stages or runs are, it is the same."""
    monkeypatch.setattr(grouped_dot, "TILE", 8)
    x, w, g = operands()
    rows_SxE = jnp.array(ROWS)
    each = jax.vmap(jax.value_and_grad(loss, (0, 1)), (None, None, 0, None))
    one = jax.jit(jax.value_and_grad(loss, (0, 1)))
    stacked = jax.jit(each)(x, w, rows_SxE, g)
    for index, sizes in enumerate(ROWS):
        owner = np.repeat(np.arange(4), [*sizes, 40 - sum(sizes)])
        of_row = np.concatenate([w, np.zeros((1, *w.shape[1:]))])[owner]
        y, x_gradient = np.einsum("ti,tio->to", x, of_row), np.einsum("to,tio->ti", g, of_row)
        w_gradient = np.stack([x[owner == e].T @ g[owner == e] for e in range(3)])
        expected = [(y * g).sum(), x_gradient, w_gradient]
        of_stack = [leaf[index] for leaf in jax.tree.leaves(stacked)]
        for found in (jax.tree.leaves(one(x, w, rows_SxE[index], g)), of_stack):
            for a, b in zip(found, expected, strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("trained, products", [((0, 1), 3), ((0,), 2), ((1,), 2)])
def test_the_ledger_counts_each_row_once(trained, products):
    """2 x rows x inputs x outputs, forward and for each gradient that is wanted."""
    x, w, g = operands()
    _, rows, inputs, outputs = SIZES
    found = cost.count(jax.grad(loss, trained), x, w, jnp.array(ROWS[0]), g)
    assert sum(found.values()) == products * 2 * rows * inputs * outputs
