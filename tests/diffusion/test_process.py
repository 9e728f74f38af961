"""Any prediction of any process turned into any other, and the low-discrepancy times."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.families.diffusion import process, schedule

GAMMAS = jnp.array([-8.0, -2.0, 0.0, 1.5, 5.0])


@pytest.fixture(name="triple")
def make_triple():
    x0, eps = jax.random.normal(jax.random.key(0), (2, 5, 3, 2))
    return x0, eps


EVERY = [
    process.Process(scale, prediction, data_std)
    for scale in process.SCALES
    for prediction in process.PREDICTIONS
    for data_std in ((0.5, 1.0) if prediction == "edm" else (1.0,))
]


@pytest.mark.parametrize("of", EVERY, ids=str)
def test_target_gives_back_both_parts(of, triple):
    x0, eps = triple
    x_t, output = of.add_noise(x0, eps, GAMMAS), of.target(x0, eps, GAMMAS)
    np.testing.assert_allclose(of.to_eps(output, x_t, GAMMAS), eps, atol=6e-5)
    np.testing.assert_allclose(of.to_x0(output, x_t, GAMMAS), x0, atol=6e-5)


@pytest.mark.parametrize("of", EVERY, ids=str)
def test_any_output_splits_x_t(of, triple):
    """alpha x0 + sigma eps is x_t whatever the network says."""
    x_t, output = triple
    x0, eps = of.to_x0(output, x_t, GAMMAS), of.to_eps(output, x_t, GAMMAS)
    np.testing.assert_allclose(of.add_noise(x0, eps, GAMMAS), x_t, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("of", EVERY, ids=str)
def test_error_weight_is_the_squared_ratio(of, triple):
    x0, eps = triple
    x_t, wrong = of.add_noise(x0, eps, GAMMAS), of.target(x0, eps, GAMMAS) + 0.5
    error = (of.to_eps(wrong, x_t, GAMMAS) - eps) ** 2
    np.testing.assert_allclose(error.mean((1, 2)), of.eps_error_weight(GAMMAS) * 0.25, rtol=2e-3)


def test_a_target_is_another_one_rescaled(triple):
    """velocity of a straight line, v and EDM's F of unit data are one thing at three scales."""
    x0, eps = triple
    targets = {each: process.Process("vp", each).target(x0, eps, GAMMAS) for each in ("v", "edm")}
    np.testing.assert_allclose(targets["edm"], -targets["v"], atol=1e-5)
    velocity = process.Process("flow", "velocity").target(x0, eps, GAMMAS)
    np.testing.assert_allclose(velocity, eps - x0, atol=1e-6)


@pytest.mark.parametrize("scale", process.SCALES)
def test_every_scale_has_the_log_snr(scale):
    alpha, sigma = process.Process(scale).scales(GAMMAS)
    np.testing.assert_allclose(2 * jnp.log(sigma / alpha), GAMMAS, atol=2e-5)


def test_scales_are_those_of_their_names():
    alpha, sigma = process.Process("sub_vp").scales(GAMMAS)
    np.testing.assert_allclose(sigma, 1 - alpha**2, atol=1e-6)
    alpha, sigma = process.Process("flow").scales(GAMMAS)
    np.testing.assert_allclose(alpha + sigma, np.ones(5), atol=1e-6)
    assert np.array_equal(process.Process("ve").scales(GAMMAS)[0], np.ones(5))


def test_inputs_have_unit_variance():
    """Karras 2022, c_in: data of deviation .5 with noise, seen at any level."""
    of = process.Process("ve", "edm", data_std=0.5, scale_input=True)
    x0, eps = jax.random.normal(jax.random.key(5), (2, 5, 200, 200))
    seen = of.network_input(of.add_noise(0.5 * x0, eps, GAMMAS), GAMMAS)
    np.testing.assert_allclose(seen.std((1, 2)), np.ones(5), atol=0.02)


@pytest.mark.parametrize("scale", process.SCALES)
def test_the_equation_has_the_marginals(scale):
    """Mean and variance of dx = f x dt + g dw from a point: dm = f m, dv = 2 f v + g^2."""
    of, path = process.Process(scale), schedule.make("log_linear", -4.0, 4.0)
    with jax.enable_x64(True):
        times = jnp.linspace(0.0, 1.0, 4001, dtype=jnp.float64)
        alpha, sigma = of.scales(path(times)[0])
        drift, diffusion = process.drift_and_diffusion(of, path, times)
        slopes = [
            np.gradient(np.asarray(each), 1 / 4000, edge_order=2) for each in (alpha, sigma**2)
        ]
    np.testing.assert_allclose(slopes[0], drift * alpha, atol=1e-5)
    np.testing.assert_allclose(slopes[1], 2 * drift * sigma**2 + diffusion, rtol=1e-5, atol=1e-4)


def test_variance_preserving_drift_is_half_of_beta():
    """DDPM's limit: f = -beta / 2, g^2 = beta (Song 2021, eq. 11)."""
    path = schedule.make("linear", -9.0, 9.0)
    times = jnp.linspace(0.05, 0.95, 7)
    drift, diffusion = process.drift_and_diffusion(process.Process(), path, times)
    np.testing.assert_allclose(-2 * drift, diffusion, rtol=1e-4)


def test_a_step_back_has_both_variances():
    """At place -1 the posterior's, at 1 that of a step forward (Ho 2020, section 3.2)."""
    gamma_t, gamma_s = jnp.array([1.0, 3.0]), jnp.array([-2.0, 2.5])
    alpha_t, alpha_s = (jax.nn.sigmoid(-gamma) for gamma in (gamma_t, gamma_s))  # squared
    beta = 1 - alpha_t / alpha_s
    least = beta * (1 - alpha_s) / (1 - alpha_t)
    for place, expected in ((-1.0, least), (1.0, beta), (0.0, jnp.sqrt(beta * least))):
        _, variance = process.step_back(gamma_t, gamma_s, place)
        np.testing.assert_allclose(variance * alpha_s, expected, rtol=1e-5)


def test_variance_is_preserved():
    alpha, sigma = process.Process().scales(GAMMAS)
    np.testing.assert_allclose(alpha**2 + sigma**2, np.ones(5), atol=1e-6)


def test_times_are_stratified():
    """Sorted, times of a batch and of every image are evenly spaced; each is uniform."""
    times = process.stratified_times(jax.random.key(0), (4, 6))
    np.testing.assert_allclose(np.diff(np.sort(times.reshape(-1))), 1 / 24, atol=1e-6)
    np.testing.assert_allclose(np.diff(np.sort(times, axis=0), axis=0), 1 / 4, atol=1e-6)
    keys = jax.random.split(jax.random.key(1), 4000)
    first = np.sort(jax.vmap(lambda key: process.stratified_times(key, (4, 6))[2, 5])(keys))
    assert np.abs(first - (np.arange(4000) + 0.5) / 4000).max() < 0.03  # Kolmogorov-Smirnov
