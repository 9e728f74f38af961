"""Samplers against exact denoisers: a point mass, Gaussians, a mixture."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from research.errors import UserError
from research.families.diffusion import process, samplers, schedule, step_schedules

WEIGHTS = np.array([0.5, 0.2, 0.3])
MEANS = np.array([-1.5, 0.3, 1.8])
DEVIATIONS = np.array([0.3, 0.15, 0.5])
ROOM = 4097  # log-SNRs of the longest walk
# The order of each that follows the flow, and its place by error, the least first.
ORDERS = {"dpm_solver_3": 3, "dpm_solver_2": 2, "dpm_solver_pp_2m": 2, "heun": 2, "ddim": 1}
FLOWS = (*ORDERS, "unipc")
STOCHASTIC = ("ddpm", "dpm_solver_pp_sde", "euler_maruyama", "predictor_corrector", "langevin")


def options(**changes):
    return ConfigDict(samplers.default_sampling() | dict(steps=10) | changes)


def mixture(y, gamma, guess):
    """E[x_0 | y] for the mixture, each entry of y [batch, dims] on its own."""
    weights, means, variances = (
        jnp.asarray(each, y.dtype) for each in (WEIGHTS, MEANS, DEVIATIONS**2)
    )
    spread = variances + jnp.exp(gamma)[:, None, None]
    residual = y[..., None] - means
    logits = jnp.log(weights) - 0.5 * residual**2 / spread - 0.5 * jnp.log(spread)
    posterior = means + variances / spread * residual
    return samplers.Denoised(jnp.sum(jax.nn.softmax(logits) * posterior, -1))


def point(y, gamma, guess):
    """E[x_0 | y] where all images are one."""
    return samplers.Denoised(jnp.full_like(y, 0.7))


def walked(name, denoise, y, gammas, key, **changes):
    """Where a walk of few steps ends, an operation at a time: nothing is compiled for it."""
    with jax.disable_jit():
        return samplers.run(name, denoise, y, gammas, key, options(**changes))[0]


def even(steps, most, least):
    """Even steps of log-SNR, with room for more."""
    return np.pad(np.linspace(most, least, steps + 1), (0, ROOM - steps - 1), mode="edge")


@functools.cache
def precise(name) -> Any:
    """A compiled walk on the mixture in float64: of y, log-SNRs and how many steps they are."""

    def walk(y, gammas, steps):
        return samplers.walk(name, mixture, y, gammas, steps, jax.random.key(0), options())

    return jax.jit(walk)


@functools.cache
def error(name, steps):
    """Root mean square distance from the flow's end, log-SNR in [-4, 4]."""
    with jax.enable_x64(True):
        y = np.linspace(-2.5, 2.5, 101)[None] * np.sqrt(1 + np.exp(4.0))
        found = precise(name)(y, even(steps, 4.0, -4.0), steps)
        exact = precise("dpm_solver_3")(y, even(4096, 4.0, -4.0), 4096)
        return float(jnp.sqrt(jnp.mean((found - exact) ** 2)))


@pytest.mark.parametrize("name", ORDERS)
def test_order(name):
    """The error falls as steps^-order (Lu 2022, theorem 3.2; Karras 2022, section 3)."""
    errors = np.array([error(name, steps) for steps in (64, 128, 256)])
    np.testing.assert_allclose(np.log2(errors[:-1] / errors[1:]), ORDERS[name], atol=0.25)


def test_order_of_unipc():
    """Its predictor is of third order and its corrector of fourth."""
    assert np.log2(error("unipc", 64) / error("unipc", 256)) / 2 > 3


def test_a_long_last_step_does_not_swing_out():
    """Many even steps, and one to hardly any noise: a parabola is 11 times as far off as a line."""
    gammas = np.append(np.linspace(4.0, -2.0, 18), -13.0)
    gammas = np.pad(gammas, (0, ROOM - len(gammas)), mode="edge")
    with jax.enable_x64(True):
        y = np.linspace(-2.5, 2.5, 101)[None] * np.sqrt(1 + np.exp(4.0))
        exact = precise("dpm_solver_3")(y, even(4096, 4.0, -13.0), 4096)
        errors = {
            name: float(jnp.abs(precise(name)(y, gammas, 18) - exact).max())
            for name in ("unipc", "dpm_solver_pp_2m")
        }
    assert errors["unipc"] < 2 * errors["dpm_solver_pp_2m"]


def test_errors_rank_as_known():
    errors = [error(name, 256) for name in ORDERS]
    assert errors == sorted(errors)


def test_any_number_of_steps_is_one_program():
    for name in ORDERS:
        for steps in (10, 50):
            error(name, steps)
        assert precise(name)._cache_size() == 1


@pytest.mark.parametrize("name", ["dpm_solver_pp_sde", "unipc"])
def test_walk_is_run(name):
    y, gammas, key = jnp.linspace(-4, 4, 7)[None], jnp.linspace(3.0, -3.0, 6), jax.random.key(4)
    padded = jnp.pad(gammas, (0, 30))
    alone = samplers.walk(name, mixture, y, padded, jnp.array(5), key, options())
    y, seen = samplers.run(name, mixture, y, gammas, key, options())
    np.testing.assert_allclose(alone, y, atol=1e-6)
    assert seen.shape == (5, 1, 7)


@pytest.mark.parametrize("name", ["dpm_solver_pp_2m", "dpm_solver_pp_sde", "unipc"])
def test_steps_that_are_made_again_know_those_before_them(name):
    """Of a point mass no y matters: what is seen is the point, and a line through it is level."""
    y, gammas = jnp.linspace(-4, 4, 7)[None], jnp.linspace(3.0, -3.0, 6)
    key = jax.random.key(4)
    once, often = (walked(name, mixture, y, gammas, key, repeats=n) for n in (1, 3))
    assert np.isfinite(often).all() and not np.allclose(once, often, atol=1e-2)
    found = walked(name, point, y, gammas, key, repeats=3)
    assert np.abs(found - 0.7).max() < 5 * np.exp(-1.5)  # but for the noise of the last level


@pytest.mark.parametrize("name", FLOWS)
@pytest.mark.parametrize("steps", [1, 3])
def test_a_point_mass_is_carried_exactly(name, steps):
    """x_0 + s eps with the very eps that the noise holds."""
    y = 0.7 + np.exp(2.5) * jnp.linspace(-2, 2, 9)[None]
    gammas = jnp.linspace(5.0, -6.0, steps + 1)
    y = walked(name, point, y, gammas, jax.random.key(0))
    np.testing.assert_allclose(y, 0.7 + np.exp(-3.0) * jnp.linspace(-2, 2, 9)[None], atol=1e-5)


@pytest.mark.parametrize("name", ["ddpm", "dpm_solver_pp_sde", "predictor_corrector"])
@pytest.mark.parametrize("steps", [1, 3])
def test_a_point_mass_is_hit(name, steps):
    """What is left is noise of the last level, whatever the number of steps."""
    y = np.exp(2.5) * jax.random.normal(jax.random.key(0), (500, 3))
    gammas = jnp.linspace(5.0, -13.3, steps + 1)
    y = walked(name, point, y, gammas, jax.random.key(1))
    assert float(((y - 0.7) / np.exp(-13.3 / 2)).std()) == pytest.approx(1, abs=0.08)


@functools.cache
def drawer(name, **changes):
    """A compiled walk on the mixture from noise, 40 x 100 entries: of log-SNRs and steps."""
    y = np.exp(4.0) * jax.random.normal(jax.random.key(2), (40, 100))

    def draw(gammas, steps):
        key = jax.random.key(3)
        return samplers.walk(name, mixture, y, gammas, steps, key, options(**changes))

    return jax.jit(draw)


@pytest.mark.parametrize(
    "name, changes", [*((name, ()) for name in samplers.SAMPLERS), ("heun", (("churn", 40.0),))]
)
def test_one_step_or_a_thousand(name, changes):
    """One is finite; a thousand recover the mixture."""
    draw = drawer(name, **dict(changes))
    assert np.isfinite(draw(even(1, 8.0, -8.0), 1)).all()
    x = np.asarray(draw(even(1000, 8.0, -8.0), 1000), np.float64).ravel()
    nearest = np.argmin(np.abs(x[:, None] - MEANS) / DEVIATIONS, axis=1)
    assert np.bincount(nearest) / len(x) == pytest.approx(WEIGHTS, abs=0.03)
    mean = WEIGHTS @ MEANS
    variance = WEIGHTS @ (DEVIATIONS**2 + MEANS**2) - mean**2
    assert x.mean() == pytest.approx(mean, abs=0.08)
    assert x.var() == pytest.approx(variance, rel=0.06)


def both(first, second, steps=4) -> Any:
    """Where two samplers (name, options, key) end on the mixture, of one noise."""
    y = 5 * jax.random.normal(jax.random.key(5), (3, 50))
    gammas = jnp.linspace(3.0, -4.0, steps + 1)
    return [
        walked(name, mixture, y, gammas, key, **changes) for name, changes, key in (first, second)
    ]


KEY = jax.random.key(6)


@pytest.mark.parametrize(
    "first, second, steps",
    [
        (("ddim", dict(eta=1.0), KEY), ("ddpm", {}, KEY), 4),
        (("euler_maruyama", dict(sde_noise=0.0), KEY), ("ddim", {}, KEY), 4),
        (("dpm_solver_pp_sde", {}, KEY), ("ddpm", {}, KEY), 1),
        (("dpm_solver_pp_2m", {}, KEY), ("ddim", {}, KEY), 1),
        (("unipc", {}, KEY), ("ddim", {}, KEY), 1),
    ],
)
def test_one_is_another(first, second, steps):
    np.testing.assert_allclose(*both(first, second, steps), atol=2e-5)


def test_flows_need_no_key():
    for name in FLOWS:
        np.testing.assert_array_equal(*both((name, {}, KEY), (name, {}, jax.random.key(7)), 2))


def test_ddim_is_eulers_method_of_a_rectified_flow():
    """x + (t' - t)(eps - x_0) with x = (1 - t) x_0 + t eps, so sigma / alpha = t / (1 - t)."""
    path = schedule.make("log_linear", -6.0, 6.0)
    gammas = step_schedules.STEP_SCHEDULES["flow"](path, 6, None)
    y = jnp.linspace(-20, 20, 11)[None]
    times = jax.nn.sigmoid(0.5 * gammas)
    np.testing.assert_allclose(np.diff(times), np.diff(times)[0], rtol=1e-4)
    x = (1 - times[0]) * y
    for now, to, gamma in zip(times[:-1], times[1:], gammas[:-1], strict=True):
        x0 = mixture(x / (1 - now), gamma[None], None).x0
        x = x + (to - now) * ((x - (1 - now) * x0) / now - x0)
    y = walked("ddim", mixture, y, gammas, KEY)
    np.testing.assert_allclose(x / (1 - times[-1]), y, atol=1e-4)


def test_langevin_spreads_by_its_steps():
    """x - m becomes (1 - a / 2)(x - m) + sqrt(a) z, whose variance tends to 1 / (1 - a / 4)."""
    y, changes = jnp.zeros((100, 1000)), dict(langevin_rate=0.8, langevin_steps=20)
    y = walked("langevin", point, y, jnp.zeros(2), KEY, **changes)
    assert float(y.mean()) == pytest.approx(0.7, abs=0.02)
    assert float(y.var()) == pytest.approx(1.25, abs=0.025)


def test_learned_variance_is_that_of_the_step():
    """The noise of `ddpm` is as large as the network says, between the two bounds."""
    gammas = jnp.array([2.0, 0.5])
    ends = []
    for place in (-1.0, 0.3):

        def denoise(y, gamma, guess, place=place):
            return samplers.Denoised(jnp.zeros_like(y), jnp.full_like(y, place))

        y = walked("ddpm", denoise, jnp.zeros((1, 5)), gammas, KEY)
        spread = process.step_back(gammas[0], gammas[1], place)[1]
        ends.append(y / jnp.sqrt(spread))
    np.testing.assert_allclose(ends[0], ends[1], rtol=1e-5)


@pytest.mark.parametrize("extra, variance, mean", [(1.0, 0.0625, 1.374), (3.0, 0.003907, 1.514)])
def test_guided_gaussians_are_not_the_tilt(extra, variance, mean):
    """D_c + w (D_c - D_u) of N(1, 1/4) and N(0, 1) from a level of 80: the closed form."""

    def denoise(y, gamma, guess):
        noise = jnp.exp(gamma)[:, None]
        one = 1 + 0.25 / (0.25 + noise) * (y - 1)
        return samplers.Denoised(one + extra * (one - y / (1 + noise)))

    with jax.enable_x64(True):
        y, gammas = jnp.array([[0.0, 80.0]]), jnp.linspace(2 * np.log(80), -20.0, 201)
        run = jax.jit(lambda: samplers.run("dpm_solver_3", denoise, y, gammas, KEY, options())[0])
        middle, deviation = np.asarray(run()[0])
    assert middle == pytest.approx(mean, abs=1e-3)
    assert (deviation - middle) ** 2 == pytest.approx(variance, abs=1e-3 * variance + 1e-6)
    assert variance == pytest.approx(0.25 ** (1 + extra), rel=1e-3)


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


@pytest.mark.parametrize("name", samplers.SAMPLERS)
def test_calls_are_counted(name):
    """As often as a walk asks for x_0, so often is it said to."""
    counted = []

    def denoise(y, gamma, guess):
        counted.append(float(gamma[0]))
        return point(y, gamma, guess)

    changes = dict(sampler=name, steps=3, langevin_steps=4)
    walked(name, denoise, jnp.ones((1, 2)), jnp.linspace(2.0, -2.0, 4), KEY, **changes)
    assert len(counted) == samplers.network_calls(options(**changes))


@pytest.mark.parametrize(
    "changes, words",
    [
        (dict(sampler="hein"), "did you mean 'heun'"),
        (dict(sampler="heun", churn=-1.0), "sampling.churn=-1.0 must be from 0"),
        (dict(sampler="ddim", eta=1.5), "sampling.eta=1.5 must be from 0 to 1"),
        (dict(sampler="ddim", snr=float("nan")), "sampling.snr=nan"),
        (dict(sampler="langevin", langevin_rate=0.0), "langevin_rate=0.0"),
        (dict(sampler="langevin", langevin_steps=0), "langevin_steps=0 must be from 1"),
        (dict(sampler="euler_maruyama", sde_noise=-0.1), "sde_noise=-0.1"),
    ],
)
def test_bad_options_are_refused(changes, words):
    with pytest.raises(UserError, match=words):
        samplers.check(options(**changes))
