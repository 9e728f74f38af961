"""Samplers against exact denoisers: a point mass, a Gaussian, a mixture."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.families.diffusion import process, samplers, schedule, step_schedules

WEIGHTS = np.array([0.5, 0.2, 0.3])
MEANS = np.array([-1.5, 0.3, 1.8])
DEVIATIONS = np.array([0.3, 0.15, 0.5])


def mixture_denoise(x_t, gamma):
    """E[x_0 | x_t] for the mixture, each entry of x_t [batch, dims] on its own."""
    gamma = gamma[:, None, None]
    alpha, noise = jnp.sqrt(jax.nn.sigmoid(-gamma)), jax.nn.sigmoid(gamma)
    spread = alpha**2 * DEVIATIONS**2 + noise
    residual = x_t[..., None] - alpha * MEANS
    logits = jnp.log(WEIGHTS) - 0.5 * residual**2 / spread - 0.5 * jnp.log(spread)
    posterior = MEANS + alpha * DEVIATIONS**2 / spread * residual
    return jnp.sum(jax.nn.softmax(logits) * posterior, -1)


def walk(name, denoise_x, path, noise, key, steps):
    """From N(0, 1) at the variance-preserving scale, of which `denoise_x` [batch] is told."""

    def denoise(y, gamma, guess):
        alpha = process.along(jnp.sqrt(jax.nn.sigmoid(-gamma)), y)
        return samplers.Denoised(denoise_x(alpha * y, gamma))

    gammas = step_schedules.STEP_SCHEDULES["time"](path, steps, None)
    y = noise / jnp.sqrt(jax.nn.sigmoid(-jnp.float32(path.gammas[-1])))
    return samplers.run(name, denoise, y, gammas, key, None)[0]


@pytest.mark.parametrize("name", samplers.SAMPLERS)
@pytest.mark.parametrize("steps", [1, 3])
def test_point_mass_is_hit(name, steps):
    """With the exact denoiser of one image, z_0 / alpha_0 is it plus noise of level gamma_min."""
    image = jnp.array([0.7, -0.2, 0.0])
    path = schedule.make("log_linear", -13.3, 5.0)
    noise = jax.random.normal(jax.random.key(0), (500, 3))
    x0 = walk(name, lambda x_t, gamma: image + 0 * x_t, path, noise, jax.random.key(1), steps)
    left = (x0 - image) / np.exp(-13.3 / 2)
    assert float(left.std()) == pytest.approx(1, abs=0.08)


def test_ddim_carries_a_point_mass_exactly():
    """One step gives alpha_0 m + sigma_0 eps with the very eps the noise holds."""
    gamma_min, gamma_max = -6.0, 5.0
    noise = jax.random.normal(jax.random.key(0), (10, 3))
    path = schedule.make("cosine", gamma_min, gamma_max)
    x0 = walk("ddim", lambda x_t, gamma: 0.7 + 0 * x_t, path, noise, jax.random.key(1), 1)
    alpha = jax.nn.sigmoid(-gamma_max) ** 0.5
    eps = (noise - alpha * 0.7) / jax.nn.sigmoid(gamma_max) ** 0.5
    np.testing.assert_allclose(x0, 0.7 + np.exp(gamma_min / 2) * eps, atol=1e-5)


def test_ddim_is_of_first_order():
    """Error on the mixture falls as 1 / steps, log-SNR in [-4, 4] (Lu 2022, theorem 3.2)."""
    path = schedule.make("log_linear", -4.0, 4.0)
    noise = jnp.linspace(-2.5, 2.5, 101)[None]

    def end(steps):
        return walk("ddim", mixture_denoise, path, noise, jax.random.key(0), steps)

    coarse, fine, finer = (end(steps) for steps in (64, 128, 256))
    # Three step sizes need no reference: differences fall by 2^order.
    ratio = jnp.linalg.norm(coarse - fine) / jnp.linalg.norm(fine - finer)
    assert float(jnp.log2(ratio)) == pytest.approx(1, abs=0.25)


@pytest.mark.parametrize("name", samplers.SAMPLERS)
def test_mixture_is_recovered(name):
    path = schedule.make("log_linear", -10.0, 10.0)
    noise = jax.random.normal(jax.random.key(2), (400, 100))
    run = jax.jit(lambda: walk(name, mixture_denoise, path, noise, jax.random.key(3), 200))
    x = np.asarray(run(), np.float64).ravel()
    nearest = np.argmin(np.abs(x[:, None] - MEANS) / DEVIATIONS, axis=1)
    assert np.bincount(nearest) / len(x) == pytest.approx(WEIGHTS, abs=0.03)
    mean = WEIGHTS @ MEANS
    variance = WEIGHTS @ (DEVIATIONS**2 + MEANS**2) - mean**2
    assert x.mean() == pytest.approx(mean, abs=0.03)
    assert x.var() == pytest.approx(variance, rel=0.05)


def test_ancestral_step_is_the_posterior():
    """q(x_s | x_t, x_0) by multiplying q(x_s | x_0) with q(x_t | x_s), two Gaussians in x_s."""
    x_t, x0 = jnp.array([[0.4], [-1.0]]), jnp.array([[0.1], [0.8]])
    gamma_t, gamma_s = jnp.array([1.0, 3.0]), jnp.array([-2.0, 2.5])
    alpha_t, alpha_s = (jax.nn.sigmoid(-gamma)[:, None] ** 0.5 for gamma in (gamma_t, gamma_s))
    ratio, variance_s = alpha_t / alpha_s, 1 - alpha_s**2
    variance_ts = (1 - alpha_t**2) - ratio**2 * variance_s
    precision = 1 / variance_s + ratio**2 / variance_ts
    mean = (alpha_s * x0 / variance_s + ratio * x_t / variance_ts) / precision
    share, spread = process.step_back(gamma_t[:, None], gamma_s[:, None])
    y_t = x_t / alpha_t
    np.testing.assert_allclose(alpha_s * (y_t + share * (x0 - y_t)), mean, atol=1e-6)
    np.testing.assert_allclose(alpha_s * jnp.sqrt(spread), precision**-0.5, atol=1e-6)
