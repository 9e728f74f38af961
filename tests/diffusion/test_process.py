"""Conversions between eps, x0 and v, and the low-discrepancy times."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.families.diffusion import process

GAMMAS = jnp.array([-8.0, -2.0, 0.0, 1.5, 5.0])


@pytest.fixture(name="triple")
def make_triple():
    x0, eps = jax.random.normal(jax.random.key(0), (2, 5, 3, 2))
    return x0, eps, process.add_noise(x0, eps, GAMMAS)


@pytest.mark.parametrize("prediction", process.PREDICTIONS)
def test_target_gives_back_both_parts(prediction, triple):
    x0, eps, x_t = triple
    output = process.target(prediction, x0, eps, GAMMAS)
    np.testing.assert_allclose(process.to_eps(prediction, output, x_t, GAMMAS), eps, atol=3e-5)
    np.testing.assert_allclose(process.to_x0(prediction, output, x_t, GAMMAS), x0, atol=3e-5)


@pytest.mark.parametrize("prediction", process.PREDICTIONS)
def test_any_output_splits_x_t(prediction, triple):
    """alpha x0 + sigma eps is x_t whatever the network says."""
    _, _, x_t = triple
    output = jax.random.normal(jax.random.key(1), x_t.shape)
    x0 = process.to_x0(prediction, output, x_t, GAMMAS)
    eps = process.to_eps(prediction, output, x_t, GAMMAS)
    np.testing.assert_allclose(process.add_noise(x0, eps, GAMMAS), x_t, atol=1e-5)


@pytest.mark.parametrize("prediction", process.PREDICTIONS)
def test_error_weight_is_the_squared_ratio(prediction, triple):
    x0, eps, x_t = triple
    output = process.target(prediction, x0, eps, GAMMAS)
    wrong = output + 0.5
    error = (process.to_eps(prediction, wrong, x_t, GAMMAS) - eps) ** 2
    weight = process.eps_error_weight(prediction, GAMMAS)
    np.testing.assert_allclose(error.mean((1, 2)), weight * 0.25, rtol=2e-3)


def test_variance_is_preserved():
    alpha, sigma = process.alpha_sigma(GAMMAS, 3)
    np.testing.assert_allclose(alpha**2 + sigma**2, np.ones((5, 1, 1)), atol=1e-6)
    np.testing.assert_allclose(2 * jnp.log(sigma / alpha)[:, 0, 0], GAMMAS, atol=1e-5)


def test_times_are_stratified():
    """Sorted, times of a batch and of every image are evenly spaced; each is uniform."""
    times = process.stratified_times(jax.random.key(0), (4, 6))
    np.testing.assert_allclose(np.diff(np.sort(times.reshape(-1))), 1 / 24, atol=1e-6)
    np.testing.assert_allclose(np.diff(np.sort(times, axis=0), axis=0), 1 / 4, atol=1e-6)
    keys = jax.random.split(jax.random.key(1), 4000)
    first = np.sort(jax.vmap(lambda key: process.stratified_times(key, (4, 6))[2, 5])(keys))
    assert np.abs(first - (np.arange(4000) + 0.5) / 4000).max() < 0.03  # Kolmogorov-Smirnov
