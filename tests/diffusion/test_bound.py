"""The variational bound against closed forms: Gaussian data with the exact denoiser."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import expit
from scipy.stats import norm

from research.families.diffusion import bound, process, schedule

VARIANCE = 2.5
ENDS = (-13.3, 5.0)
VP = process.Process()


def exact_eps(x_t, gamma, rows):
    """E[eps | x_t] for data N(0, VARIANCE)."""
    gamma = gamma[:, None]
    share = jax.nn.sigmoid(-gamma) * VARIANCE + jax.nn.sigmoid(gamma)
    return jnp.sqrt(jax.nn.sigmoid(gamma)) * x_t / share


def eps_error(gamma):
    """Expected squared error of `exact_eps`, a dimension."""
    return VARIANCE * expit(-gamma) / (VARIANCE * expit(-gamma) + expit(gamma))


def expected_eps(x0):
    """A stand-in for `exact_eps` on known images x0, its squared error averaged over the noise.

    It reads the noise out of x_t, so what the bound then returns has no sampling error in it.
    """

    def predict(x_t, gamma, rows):
        gamma = gamma[:, None]
        alpha, sigma = jnp.sqrt(jax.nn.sigmoid(-gamma)), jnp.sqrt(jax.nn.sigmoid(gamma))
        images = jnp.tile(x0, (len(x_t) // len(x0), 1))
        share = alpha**2 * VARIANCE + sigma**2
        error = (sigma * alpha * images / share) ** 2 + (alpha**2 * VARIANCE / share) ** 2
        return (x_t - alpha * images) / sigma + jnp.sqrt(error)

    return predict


def midpoints(key, shape):
    """The stratified times without their random offset: the integral by the midpoint rule."""
    return jnp.broadcast_to((jnp.arange(shape[0])[:, None] + 0.5) / shape[0], shape)


IMAGES = jnp.array([[0.0], [0.5], [-1.0], [3.0]])


@pytest.mark.parametrize(
    "name, ends",
    [
        ("log_linear", (-13.3, 9.0)),
        ("linear", (-9.0, 9.0)),
        ("cosine", (-9.0, 9.0)),
        ("scaled_linear", (-7.0, 5.36)),
    ],
)
def test_bound_is_exact_on_gaussian_data(name, ends, monkeypatch):
    """Prior + reconstruction + diffusion is -log p(x) for every x, whatever the schedule."""
    monkeypatch.setattr(bound, "stratified_times", midpoints)
    path, key, gamma_max = schedule.make(name, *ends), jax.random.key(0), ends[1]
    nats = bound.diffusion(expected_eps(IMAGES), VP, path, IMAGES, key, time_samples=200_000)
    nats += bound.prior(IMAGES, gamma_max) + bound.reconstruction(IMAGES, ends[0], 256)
    exact = IMAGES[:, 0] ** 2 / (2 * VARIANCE) + 0.5 * np.log(2 * np.pi * VARIANCE)
    last = VARIANCE * expit(-gamma_max) + expit(gamma_max)  # z_1 is N(0, last), taken for N(0, 1)
    second = expit(-gamma_max) * IMAGES[:, 0] ** 2 + expit(gamma_max)  # E[z_1^2 | x]
    gap = 0.5 * (second * (1 - 1 / last) - np.log(last))
    np.testing.assert_allclose(nats, exact + gap, atol=1e-3)


def monte_carlo(path, num_steps=0):
    """Mean diffusion term a dimension with the exact denoiser, all of it sampled."""
    data_key, key = jax.random.split(jax.random.key(0))
    x0 = VARIANCE**0.5 * jax.random.normal(data_key, (1024, 64))
    nats = jax.jit(lambda: bound.diffusion(exact_eps, VP, path, x0, key, 8, num_steps))()
    return float(nats.mean() / 64)


def test_diffusion_term_is_mutual_information():
    """I-MMSE: half the integral of the error is I(x; z_0) - I(x; z_1)."""
    information = [0.5 * np.log1p(VARIANCE * np.exp(-gamma)) for gamma in ENDS]
    value = monte_carlo(schedule.make("log_linear", *ENDS))
    assert value == pytest.approx(information[0] - information[1], abs=0.03)


def test_i_mmse_constant():
    """Half the integral of the error over log-SNR in [-14, 14] is 7.458144 at variance 2.5."""
    path = schedule.make("log_linear", -14.0, 14.0)
    with jax.enable_x64(True):
        times = (jnp.arange(4000) + 0.5) / 4000
        gamma, weight = map(np.asarray, bound.diffusion_weight(path, times))
    assert np.mean(weight * eps_error(gamma)) == pytest.approx(7.458144, abs=1e-6)


@pytest.mark.parametrize("name", schedule.NAMES)
def test_bound_depends_on_the_ends_alone(name):
    """The integral of the error along any path is I(x; z_0) - I(x; z_1) (Kingma 2021, eq. 18)."""
    least, most = -9.0, 5.0
    path = schedule.make(name, least, most)
    nodes, weights = np.polynomial.legendre.leggauss(32)
    widths = np.diff(path.times)[:, None]
    times = path.times[:-1, None] + 0.5 * widths * (1 + nodes)
    with jax.enable_x64(True):
        gamma, weight = map(np.asarray, bound.diffusion_weight(path, jnp.asarray(times)))
    value = np.sum(0.5 * widths * weights * weight * eps_error(gamma))
    exact = 0.5 * np.log((1 + VARIANCE * np.exp(-least)) / (1 + VARIANCE * np.exp(-most)))
    assert value == pytest.approx(exact, abs=1e-6)


def test_discrete_bound_falls_to_the_continuous_one():
    """Each T-step bound is its closed form; they decrease with T, to the integral."""
    path = schedule.make("linear", *ENDS)
    values = []
    for num_steps in (4, 16, 64, 256):
        gamma = np.interp(np.linspace(0, 1, num_steps + 1), path.times, path.gammas)
        exact = np.sum(0.5 * np.expm1(np.diff(gamma)) * eps_error(gamma[1:]))
        times = jnp.asarray((np.arange(num_steps) + 0.5) / num_steps, jnp.float32)
        at, weight = bound.diffusion_weight(path, times, num_steps)
        values.append(float(np.mean(weight * eps_error(np.asarray(at, np.float64)))))
        assert values[-1] == pytest.approx(exact, rel=1e-5)
    continuous = 0.5 * np.log1p(VARIANCE * np.exp(-ENDS[0])) - 0.5 * np.log1p(
        VARIANCE * np.exp(-ENDS[1])
    )
    assert values == sorted(values, reverse=True) and values[-1] > continuous
    assert monte_carlo(path, 16) == pytest.approx(values[1], rel=0.02)


def test_every_image_gets_its_own_labels_and_times():
    """A denoiser wrong by its label shows in that image's nats alone."""

    def predict(x_t, gamma, rows):
        return jnp.where(label[rows][:, None] == 1, 1e3, 0.0) * jnp.ones_like(x_t)

    label = jnp.array([0, 1, 0, 1])
    path = schedule.make("log_linear", *ENDS)
    nats = bound.diffusion(predict, VP, path, jnp.zeros((4, 8)), jax.random.key(0), 5)
    assert nats.shape == (4,) and np.array_equal(nats > 1e4, label == 1)


def test_many_times_cut_the_variance():
    def spread(time_samples):
        path = schedule.make("log_linear", *ENDS)
        x0 = jnp.ones((4, 1024))
        keys = jax.random.split(jax.random.key(1), 32)
        one = jax.jit(lambda key: bound.diffusion(exact_eps, VP, path, x0, key, time_samples)[0])
        nats = jnp.stack([one(key) for key in keys])
        return float(nats.std())

    assert spread(8) < spread(1) / 8  # better than the 1 / sqrt(8) of independent times


@pytest.mark.parametrize("gamma_max", [-1.0, 0.5, 5.0])
def test_prior_is_the_divergence_of_two_gaussians(gamma_max):
    clean = np.array([[0.9], [-0.2]])
    mean, deviation = expit(-gamma_max) ** 0.5 * clean[:, 0], expit(gamma_max) ** 0.5
    exact = 0.5 * (mean**2 + deviation**2 - 1) - np.log(deviation)
    np.testing.assert_allclose(bound.prior(jnp.asarray(clean), gamma_max), exact, rtol=1e-4)


@pytest.mark.parametrize("gamma_min", [-13.3, -4.0])
@pytest.mark.parametrize("levels", [2, 5, 256])
def test_levels_are_weighed_by_the_noise_left(gamma_min, levels):
    """p(x | z_0) is the Gaussian of z_0 around each level, normalised over all."""
    z0 = np.array([-1.02, -0.5017, 0.3])
    density = norm.logpdf(z0[:, None], np.linspace(-1, 1, levels), np.exp(gamma_min / 2))
    log_probability = bound.level_log_probabilities(z0, gamma_min, levels)
    np.testing.assert_allclose(np.diff(log_probability), np.diff(density), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("gamma_min", [-16.0, -13.3, -9.0, -4.0])
def test_level_probabilities_sum_to_one(gamma_min):
    z0 = np.array([-1.2, -1.0, -0.5017, 0.0, 0.3, 1.0, 1.4])
    total = np.exp(bound.level_log_probabilities(z0, gamma_min, 256)).sum(-1)
    np.testing.assert_allclose(total, 1, atol=1e-12)


@pytest.mark.parametrize("gamma_min", [-13.3, -9.0, -4.0])
@pytest.mark.parametrize(
    "level, levels",
    [(0, 256), (1, 256), (100, 256), (254, 256), (255, 256), (1, 2), (2, 3)],
)
def test_reconstruction_table_is_the_integral(gamma_min, level, levels):
    clean = 2 * level / (levels - 1) - 1

    def integrand(noise):
        z0 = np.array(clean + np.exp(gamma_min / 2) * noise)
        log_probability = bound.level_log_probabilities(z0, gamma_min, levels)[level]
        return -np.exp(-0.5 * noise**2) / np.sqrt(2 * np.pi) * log_probability

    exact, _ = quad(integrand, -9, 9, limit=400, epsabs=1e-10)
    found = bound.reconstruction_table(gamma_min, levels)
    assert len(found) == levels and found[level] == pytest.approx(exact, abs=1e-6, rel=1e-5)


def test_reconstruction_of_floats_has_no_image_in_it():
    nats = bound.reconstruction(jnp.array([[0.3, -2.0], [5.0, 1.0]]), -6.0, 256)
    np.testing.assert_allclose(nats, np.log(2 * np.pi) - 6 + 1, rtol=1e-6)
