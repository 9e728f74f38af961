"""The likelihood of levels sums to one, and is the textbook's where that can be computed."""

import jax
import numpy as np
import pytest
from jax import numpy as jnp
from scipy import special, stats

from research.families.autoencoder import pixel_likelihood
from research.levels import nearest


def every_level(location, log_scale, levels=256):
    """-log p of each of the levels."""
    given = (jnp.full(levels, each, jnp.float32) for each in (location, log_scale))
    every = jnp.arange(levels, dtype=jnp.uint8)
    return np.asarray(pixel_likelihood.nats(every, *given, levels=levels), np.float64)


@pytest.mark.parametrize("location", [-3.0, -1.0, -0.13, 0.0, 0.77, 1.0, 2.5])
@pytest.mark.parametrize("log_scale", [-30.0, -6.0, -3.0, 0.0, 4.0])
@pytest.mark.parametrize("levels", [2, 5, 256])
def test_the_levels_sum_to_one(location, log_scale, levels):
    assert np.exp(-every_level(location, log_scale, levels)).sum() == pytest.approx(1, abs=1e-5)


def test_it_is_the_logistic_mass_of_a_level():
    """In float64, by the difference of two sigmoids that is lost in float32."""
    location, scale = 0.2, 0.05
    edges = np.concatenate([[-np.inf], (np.arange(255) + 0.5) / 127.5 - 1, [np.inf]])
    mass = np.diff(special.expit((edges - location) / scale))
    np.testing.assert_allclose(every_level(location, np.log(scale)), -np.log(mass), rtol=2e-5)


def test_the_nearest_level_is_the_most_likely():
    for location in (-0.8, -0.401, 0.003, 0.9):  # the first and the last level have tails, too
        assert every_level(location, -4.0).argmin() == nearest(jnp.array(location), 256)


def test_floats_have_a_gaussian_density():
    x, location, scale = (np.random.default_rng(0).normal(size=(3, 50))).astype(np.float32)
    found = pixel_likelihood.nats(x, location, scale, 0)
    np.testing.assert_allclose(found, -stats.norm.logpdf(x, location, np.exp(scale)), rtol=1e-5)


@pytest.mark.parametrize("level", [0, 1, 254, 255])
@pytest.mark.parametrize("location", [-50.0, 50.0])
def test_gradients_are_finite_however_wrong_it_is(level, location):
    def nats(given):
        return pixel_likelihood.nats(jnp.array([level], jnp.uint8), *given, levels=256).sum()

    value, slopes = jax.value_and_grad(nats)((jnp.array([location]), jnp.array([-20.0])))
    assert np.isfinite(value) and np.isfinite(slopes).all()
