"""Schedule constants to the digit, and every schedule's path from end to end."""

import statistics

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.errors import UserError
from research.families.diffusion import schedule
from research.families.diffusion.bound import prior


def test_linear_table_is_ddpm():
    kept = schedule.alpha_bar(schedule.linear_betas())
    gammas = schedule.gamma_of_alpha_bar(kept)
    assert kept[0] == pytest.approx(0.9999, abs=1e-12)
    assert kept[499] == pytest.approx(0.0785872, abs=5e-8)
    assert kept[-1] == pytest.approx(4.035830e-5, abs=5e-12)
    assert kept[-1] ** 0.5 == pytest.approx(6.35282e-3, abs=5e-9)
    assert -gammas[0] == pytest.approx(9.21024, abs=5e-6)
    assert -gammas[-1] == pytest.approx(-10.11767, abs=5e-6)
    assert np.exp(gammas[-1] / 2) == pytest.approx(157.407, abs=5e-4)


def test_linear_table_tends_to_the_vp_sde():
    steps = 10**6
    kept = schedule.alpha_bar(schedule.linear_betas(steps, 0.1 / steps, 20 / steps))
    assert kept[-1] == pytest.approx(4.318575e-5, rel=1e-4)


def test_cosine_table_clips_one_beta():
    betas = schedule.cosine_betas()
    kept = schedule.alpha_bar(betas)
    assert betas[0] == pytest.approx(4.12842e-5, abs=5e-11)
    assert np.sum(betas == 0.999) == 1
    assert kept[499] == pytest.approx(0.493844, abs=5e-7)
    assert kept[-1] == pytest.approx(2.42877e-9, abs=5e-15)


def test_scaled_linear_table_keeps_a_signal():
    gammas = schedule.gamma_of_alpha_bar(schedule.alpha_bar(schedule.scaled_linear_betas()))
    assert 1 / (1 + np.exp(gammas[-1])) == pytest.approx(0.00466010, abs=5e-9)
    assert np.exp(gammas[-1] / 2) == pytest.approx(14.61464, abs=5e-6)
    assert np.exp(gammas[0] / 2) == pytest.approx(0.0291672, abs=5e-8)


def test_prior_term_of_ddpm():
    gamma_max = schedule.gamma_of_alpha_bar(schedule.alpha_bar(schedule.linear_betas()))[-1]
    bits = prior(jnp.ones((1, 7)), float(gamma_max)) / np.log(2) / 7
    assert float(bits[0]) == pytest.approx(2.911e-5, abs=5e-9)


@pytest.mark.parametrize("name", schedule.NAMES)
@pytest.mark.parametrize("ends", [(-13.3, 5.0), (-6.0, 4.0)])
def test_path_runs_from_end_to_end(name, ends):
    path = schedule.make(name, *ends)
    times = jnp.linspace(0, 1, 4001)
    gammas, slopes = path(times)
    assert float(gammas[0]) == pytest.approx(ends[0], abs=1e-5)
    assert float(gammas[-1]) == pytest.approx(ends[1], abs=1e-4)
    assert jnp.all(jnp.diff(gammas) > 0) and jnp.all(slopes > 0)
    # The slope is the derivative: its mean over the knots' intervals is the rise.
    middles = jnp.asarray((path.times[:-1] + path.times[1:]) / 2, jnp.float32)
    rise = np.sum(np.diff(path.times) * np.asarray(path(middles)[1], np.float64))
    assert rise == pytest.approx(ends[1] - ends[0], rel=1e-5)


def test_normal_schedule_is_logit_normal_time():
    """A flow's t = sigmoid(u), u normal: sigma / alpha = t / (1 - t), so gamma = 2 u."""
    path = schedule.make("normal", -20.0, 20.0)
    for quantile in (0.1, 0.25, 0.5, 0.9):
        gamma = float(path(jnp.float32(quantile)[None])[0][0])
        assert gamma == pytest.approx(2 * statistics.NormalDist().inv_cdf(quantile), abs=1e-3)


@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_path_passes_through_its_table(name):
    gammas = schedule.gamma_of_alpha_bar(schedule.alpha_bar(schedule.TABLES[name]()))
    path = schedule.make(name, -13.3, float(gammas[-1]))
    steps = np.array([1, 10, 500, 900, 1000])
    values, _ = path(jnp.asarray(steps / 1000))
    np.testing.assert_allclose(values, gammas[steps - 1], atol=2e-3)


def test_slope_is_the_derivative():
    path = schedule.make("cosine", -13.3, 5.0)
    times = jnp.array([0.1234, 0.51, 0.87])
    slope = jax.vmap(jax.grad(lambda t: path(t)[0]))(times)
    np.testing.assert_allclose(path(times)[1], slope, rtol=1e-6)


@pytest.mark.parametrize(
    "arguments, words",
    [
        (("cosin", -13.3, 5.0), "did you mean 'cosine'"),
        (("linear", 5.0, -13.3), "gamma_min"),
        (("scaled_linear", -13.3, 8.0), "beyond 5.3640"),
    ],
)
def test_bad_schedule_is_refused(arguments, words):
    with pytest.raises(UserError, match=words):
        schedule.make(*arguments)
