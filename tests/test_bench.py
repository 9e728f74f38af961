"""`make bench` measures what it says: the FLOPs it counts, and steps that really train."""

import jax
import numpy as np
import pytest

from tests.bench import __main__ as bench
from tests.bench import step


@pytest.mark.parametrize("argv", [bench.SMALL, bench.LARGE])
def test_useful_flops_are_those_the_peers_are_counted_by(argv):
    shape = step.arguments(argv)
    products = 6 * 12 * shape.depth * shape.width**2
    attention = 12 * shape.depth * shape.width * shape.length
    head = 6 * shape.width * shape.vocab
    assert bench.flops_per_token(shape) == products + attention + head


def test_a_window_trains():
    shape = step.arguments(["--width=16", "--depth=1", "--heads=2", "--length=8", "--batch=8"])
    step.setup(shape)
    done, before = step.STATE["done"], jax.tree.map(np.array, step.STATE["state"]["params"])
    assert step.window(0.05) > 0
    assert step.STATE["done"] > done
    moved = jax.tree.map(lambda a, b: np.any(a != b), before, step.STATE["state"]["params"])
    assert all(jax.tree.leaves(moved))
