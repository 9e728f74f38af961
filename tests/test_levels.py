"""Levels go to the range of networks and back, however many there are; floats stay as they are."""

import numpy as np
import pytest
from jax import numpy as jnp

from research import levels


@pytest.mark.parametrize("count", [2, 3, 17, 256])
def test_levels_come_back(count):
    every = jnp.arange(count, dtype=jnp.uint8)
    x = levels.scaled(every, count)
    assert float(x[0]) == -1 and float(x[-1]) == 1
    for shift in (-0.4, 0.0, 0.4):  # of the gap between two levels
        np.testing.assert_array_equal(levels.nearest(x + shift * levels.gap(count), count), every)


def test_floats_stay_as_they_are():
    assert np.array_equal(levels.scaled(jnp.array([3.5]), 0), [3.5])
