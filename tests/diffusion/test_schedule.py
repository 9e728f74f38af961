"""Schedule constants to the digit, and every schedule's path from end to end."""

import statistics

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict
from scipy.special import expit, logit

from research.errors import UserError
from research.families.diffusion import schedule, step_schedules
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


def test_vp_sde_is_exact():
    """What is left is exp(-integral of beta) at every step (Song 2021, appendix C)."""
    kept, times = schedule.alpha_bar(schedule.sde_betas()), np.arange(1, 1001) / 1000
    np.testing.assert_allclose(kept, np.exp(-0.1 * times - 9.95 * times**2), rtol=1e-12)
    assert kept[-1] == pytest.approx(4.318575e-5, abs=5e-12)


def test_edm_levels():
    """Karras 2022, eq. 5, with rho 7 and 18 levels from 80 to 0.002."""
    levels = [
        80, 57.585985, 40.785574, 28.374585, 19.352453, 12.910082, 8.400935, 5.315195, 3.256822,
        1.92334, 1.088171, 0.585348, 0.296442, 0.139516, 0.059947, 0.022935, 0.007528, 0.002,
    ]  # fmt: skip
    path = schedule.make("log_linear", 2 * np.log(0.002), 2 * np.log(80.0))
    with jax.enable_x64(True):
        gammas = step_schedules.STEP_SCHEDULES["edm"](path, 17, ConfigDict(dict(rho=7.0)))
        np.testing.assert_allclose(np.exp(0.5 * np.asarray(gammas)), levels, atol=5.1e-7)


def test_steps_from_noise_alone_are_finite():
    """Where sigma / (alpha + sigma) is 1 in float32."""
    path = schedule.make("log_linear", -10.0, 40.0)
    gammas = step_schedules.STEP_SCHEDULES["flow"](path, 8, None)
    assert float(gammas[0]) == pytest.approx(40, abs=1e-3) and np.isfinite(gammas).all()


@pytest.mark.parametrize("name", step_schedules.STEP_SCHEDULES)
@pytest.mark.parametrize("steps", [1, 1000])
def test_steps_fall_from_end_to_end(name, steps):
    path = schedule.make("cosine", -13.3, 9.0)
    gammas = step_schedules.STEP_SCHEDULES[name](path, steps, ConfigDict(dict(rho=7.0)))
    assert gammas.shape == (steps + 1,) and np.all(np.diff(gammas) < 0)
    assert np.asarray(gammas)[[0, -1]] == pytest.approx([9.0, -13.3], abs=1e-4)


def test_vdm_goes_straight_between_its_ends():
    """Kingma 2021: -log SNR from -13.3 to 5."""
    gamma, slope = schedule.make("log_linear", -13.3, 5.0)(jnp.linspace(0, 1, 5))
    np.testing.assert_allclose(gamma, [-13.3, -8.725, -4.15, 0.425, 5.0], atol=1e-5)
    np.testing.assert_allclose(slope, np.full(5, 18.3), rtol=1e-6)


@pytest.mark.parametrize("shift", [0.5, 3.0**0.5, 4.0])
def test_shift_is_that_of_times(shift):
    """log SNR lowered by 2 log(a) is t -> a t / (1 + (a - 1) t), a = sqrt(m / n) of m for n pixels.

    Hoogeboom (2023) says the first, Esser (2024, section 5.3.2) the second.
    """
    ends, times = np.array([-24.0, 24.0]), np.linspace(0.05, 0.95, 7)
    path = schedule.make("flow", *ends, shift=shift)
    gammas = np.interp(times, path.times, path.gammas)
    np.testing.assert_allclose(gammas, 2 * logit(times) + 2 * np.log(shift), atol=1e-3)
    esser = shift * times / (1 + (shift - 1) * times)
    np.testing.assert_allclose(expit(gammas / 2), esser, atol=1e-4)
    # A logit-normal time is shifted by its mean.
    normal = schedule.make("normal", *ends, shift=shift)
    moved = schedule.make("normal", *ends, mean=2 * np.log(shift))
    np.testing.assert_allclose(normal.gammas, moved.gammas)


def test_a_shifted_table_is_lowered():
    table = schedule.gamma_of_alpha_bar(schedule.alpha_bar(schedule.cosine_betas()))
    path = schedule.make("cosine", -6.0, 6.0, shift=2.0)
    lowered = table + 2 * np.log(2)
    np.testing.assert_allclose(path.gammas[1:-1], lowered[(lowered > -6) & (lowered < 6)])


def test_no_signal_is_left_at_the_end():
    """Lin 2024, algorithm 1: the root of alpha_bar is lowered to 0 at the end, and scaled."""
    kept = schedule.alpha_bar(schedule.scaled_linear_betas())
    without = schedule.without_signal(kept)
    assert without[0] == pytest.approx(kept[0], rel=1e-12) and without[-1] == 0
    ratio = np.diff(np.sqrt(without)) / np.diff(np.sqrt(kept))
    scale = 1 / (1 - np.sqrt(0.00466010 / 0.99915))
    np.testing.assert_allclose(ratio, np.full(999, scale), rtol=1e-6)
    path = schedule.make("scaled_linear", -7.0, 20.0, zero_terminal=True)
    inner = schedule.gamma_of_alpha_bar(without)
    np.testing.assert_allclose(path.gammas[-2:], [inner[-2], 20.0])
    assert inner[-1] == np.inf


def test_normal_schedule_is_logit_normal_time():
    """A flow's t = sigmoid(u), u normal: sigma / alpha = t / (1 - t), so gamma = 2 u."""
    path = schedule.make("normal", -20.0, 20.0)
    for quantile in (0.1, 0.25, 0.5, 0.9):
        gamma = float(path(jnp.float32(quantile)[None])[0][0])
        assert gamma == pytest.approx(2 * statistics.NormalDist().inv_cdf(quantile), abs=1e-3)


@pytest.mark.parametrize("name", ["linear", "cosine", "vp_sde"])
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
        (("scaled_linear", -13.3, 8.0, 0.0, 2.0, 2.0), "gamma_max=8.0 is beyond 6.7503"),
        (("cosine", -13.3, 8.0, 0.0, 2.0, 0.0), "shift=0.0 must be positive"),
        (("log_linear", -13.3, 8.0, 0.0, 2.0, 1.0, True), "zero_terminal=True rescales a table"),
    ],
)
def test_bad_schedule_is_refused(arguments, words):
    with pytest.raises(UserError, match=words):
        schedule.make(*arguments)
