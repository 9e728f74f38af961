"""Likelihoods sum to one, are the textbook's, and their draws are theirs."""

import jax
import numpy as np
import pytest
from jax import numpy as jnp
from ml_collections import FrozenConfigDict
from scipy import special, stats

from research.families.autoencoder import (
    bernoulli_likelihood,
    gaussian_likelihood,
    pixel_likelihood,
)
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


def test_two_levels_sum_to_one_by_their_odds():
    said = jnp.array([-90.0, -1.3, 0.0, 4.0, 90.0])
    both = [
        np.asarray(bernoulli_likelihood.cost(None, None, jnp.full(5, each, jnp.uint8), said))
        for each in (0, 1)
    ]
    np.testing.assert_allclose(both[0] - both[1], said, rtol=1e-6)  # the log odds of a one
    np.testing.assert_allclose(np.exp(-both[0]) + np.exp(-both[1]), 1, rtol=1e-6)
    np.testing.assert_allclose(
        bernoulli_likelihood.location(None, said), np.exp(-both[1]) - np.exp(-both[0]), atol=1e-6
    )


@pytest.mark.parametrize("deviation", [0.0, 0.4])
def test_a_gaussian_has_one_deviation(deviation):
    model = FrozenConfigDict(dict(deviation=deviation))
    params = gaussian_likelihood.init(model, jax.random.key(0))
    assert (params == {}) == bool(deviation)
    if not deviation:
        params["log_scale"] = jnp.log(jnp.array([0.7]))
    image, said = np.random.default_rng(0).normal(size=(2, 50)).astype(np.float32)
    found = gaussian_likelihood.cost(model, params, image, said)
    scale = deviation or 0.7
    np.testing.assert_allclose(found, -stats.norm.logpdf(image, said, scale), rtol=1e-5)
    drawn = gaussian_likelihood.drawn(model, params, jnp.ones(4000), jax.random.key(0))
    assert stats.kstest(drawn, stats.norm(1, scale).cdf).pvalue > 1e-3


@pytest.mark.parametrize("levels, location, log_scale", [(5, 0.2, -1.0), (2, -0.5, 0.3)])
def test_draws_have_the_shares_that_levels_cost(levels, location, log_scale):
    model = FrozenConfigDict(dict(levels=levels, discrete=True))
    said = jnp.broadcast_to(jnp.array([location, log_scale]), (20_000, 2))
    drawn = nearest(pixel_likelihood.drawn(model, None, said, jax.random.key(1)), levels)
    share = np.bincount(np.asarray(drawn).ravel(), minlength=levels)
    wanted = np.exp(-every_level(location, log_scale, levels))
    assert stats.chisquare(share, 20_000 * wanted / wanted.sum()).pvalue > 1e-3
