"""Guidance against closed forms: Gaussians, a mixture, and what must change nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.families import diffusion
from research.families.diffusion import samplers
from research.families.diffusion.guidance import Guidance, along_classifier, push
from research.families.diffusion.samplers import Denoised


def gaussian_x0(y, gamma_B, mean, variance):
    """E[x_0 | y] for data N(mean, variance)."""
    share = variance / (variance + jnp.exp(gamma_B))[:, None]
    return mean + share * (y - mean)


@pytest.mark.parametrize("weight, mean, variance", [(1, 1.374, 0.0625), (3, 1.514, 0.003907)])
def test_guided_gaussians_are_not_the_tilt(weight, mean, variance):
    """From sigma 80: conditional N(1, 1/4), unconditional N(0, 1), variance sigma_c^(2 + 2w).

    The tilted density would have variances 0.1429 and 0.0769, means 1.143 and 1.231.
    """
    guidance = Guidance(scale=1.0 + weight)

    def denoise(y, gamma_B, guess):
        good, bad = gaussian_x0(y, gamma_B, 1.0, 0.25), gaussian_x0(y, gamma_B, 0.0, 1.0)
        return Denoised(push(guidance, good, bad, gamma_B))

    with jax.enable_x64(True):
        start = jnp.array([[-80.0], [0.0], [80.0]], jnp.float64)
        gammas = jnp.linspace(2 * np.log(80.0), -28.0, 8001, dtype=jnp.float64)
        end, _ = samplers.run(
            "ddim", denoise, start, gammas, jax.random.key(0), diffusion.default_sampling()
        )
    # The map is affine: of its input N(0, 80^2), the slope gives the deviation.
    end = np.asarray(end)[:, 0]
    assert end[2] - end[1] == pytest.approx(end[1] - end[0], rel=1e-9)
    assert ((end[2] - end[1]) / 1) ** 2 == pytest.approx(variance, abs=1e-3)
    assert end[1] == pytest.approx(mean, abs=1e-3)


GAMMAS = jnp.array([-6.0, 0.0, 4.0])
GOOD, BAD = jax.random.normal(jax.random.key(0), (2, 3, 4, 4, 1))


def test_a_scale_of_one_changes_nothing():
    assert np.array_equal(push(Guidance(), GOOD, BAD, GAMMAS), GOOD)
    assert np.array_equal(push(Guidance(7.0), GOOD, GOOD, GAMMAS), GOOD)


def test_guidance_keeps_to_its_interval():
    found = push(Guidance(3.0, -1.0, 1.0), GOOD, BAD, GAMMAS)
    assert np.array_equal(found[::2], GOOD[::2])
    np.testing.assert_allclose(found[1], 3 * GOOD[1] - 2 * BAD[1], atol=1e-5)


def test_rescaled_guidance_has_the_deviation_of_what_was_guided():
    whole = push(Guidance(5.0, rescale=1.0), GOOD, BAD, GAMMAS)
    np.testing.assert_allclose(whole.std((1, 2, 3)), GOOD.std((1, 2, 3)), rtol=1e-5)
    half = push(Guidance(5.0, rescale=0.5), GOOD, BAD, GAMMAS)
    plain = push(Guidance(5.0), GOOD, BAD, GAMMAS)
    np.testing.assert_allclose(half, (whole + plain) / 2, atol=1e-5)


def test_the_exact_classifier_makes_the_exact_condition():
    """Bayes' rule: of a mixture of N(-1, .25) and N(2, 1), the score of one of them."""
    weights, means, variances = (jnp.array(each) for each in ((0.3, 0.7), (-1.0, 2.0), (0.25, 1.0)))
    y = jnp.linspace(-3, 4, 12).reshape(3, 4)

    def log_joint(y):
        spread = variances + jnp.exp(GAMMAS)[:, None, None]
        each = -0.5 * (y[..., None] - means) ** 2 / spread - 0.5 * jnp.log(spread)
        return jnp.log(weights) + each

    def score(y):
        return jax.grad(lambda y: jax.nn.logsumexp(log_joint(y), -1).sum())(y)

    x0 = y + jnp.exp(GAMMAS)[:, None] * score(y)  # Tweedie, of the mixture

    def second(y):
        return jax.nn.log_softmax(log_joint(y))[..., 1].sum(-1)

    found = along_classifier(Guidance(1.0), second, x0, y, GAMMAS)
    np.testing.assert_allclose(found, gaussian_x0(y, GAMMAS, 2.0, 1.0), atol=1e-4)
