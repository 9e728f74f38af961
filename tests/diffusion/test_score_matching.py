"""Score matching by noise and by slices, and what denoising learns beside x_0."""

import functools
from typing import Any

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from research.families import diffusion
from research.families.diffusion import bound, denoiser, drawing, process, samplers, weightings
from research.models import numerics
from research.models.conditions import Conditions
from tests import shapes
from tests.diffusion.test_flow_maps import C, loss, make_batch, make_config, make_params


def mse(config: Any, params: Any, rows: int = 256, key: int = 0) -> float:
    return float(loss(config, params, make_batch(rows), jax.random.key(key))[1]["mse"])


def linear(config: Any, factor: float) -> Any:
    """A network whose output is `factor` times x_t."""
    params = make_params(config, "learned")
    return params | {"learned": params["learned"].at[0, 0].set(factor)}


def test_denoising_a_score_is_the_loss_of_ncsn():
    """sigma^2 |s(x + sigma eps) + eps / sigma|^2 (Song & Ermon 2019, eqs. 5 and 6), to the bit."""
    config = make_config("denoising", process="ve", prediction="score", loss_weighting="eps")
    batch, key = make_batch(), jax.random.key(5)
    value, _ = loss(config, linear(config, -0.7), batch, key)
    time_key, noise_key, *_ = jax.random.split(key, 4)
    times_B = process.stratified_times(time_key, (32,))
    sigma = jnp.exp(0.5 * denoiser.make_schedule(config)(times_B)[0])[:, None, None, None]
    eps = jax.random.normal(noise_key, batch["image"].shape)
    error = -0.7 * (batch["image"] + sigma * eps) + eps / sigma
    assert float(value) == pytest.approx(float(jnp.mean(sigma**2 * error**2)), rel=1e-5)


@pytest.mark.parametrize("name", ["eps", "x0", "v", "velocity", "edm"])
def test_a_unit_weight_is_on_the_error_that_it_names(name):
    """Whatever is predicted: two predictions of one x_0 have one loss."""
    gamma, slope = jnp.linspace(-6, 4, 11), jnp.ones(11)
    x_t, x0 = jnp.full(11, 0.3), jnp.full(11, -0.2)
    for prediction in ("eps", "v", "x0"):
        config = make_config("denoising", prediction=prediction, loss_weighting=name)
        own = denoiser.make_process(config)
        named = process.Process(own.scale, name)
        weigh: Any = weightings.WEIGHTINGS[name]
        weight = weigh(config.model, own, gamma, slope)
        eps = (x_t - own.scales(gamma)[0] * x0) / own.scales(gamma)[1]
        wrong = (x_t - own.scales(gamma)[0] * (x0 + 0.1)) / own.scales(gamma)[1]
        error = named.target(x0, eps, gamma) - named.target(x0 + 0.1, wrong, gamma)
        np.testing.assert_allclose(weight * (eps - wrong) ** 2, error**2, rtol=1e-4)


@pytest.mark.parametrize("reduced", [True, False])
def test_slices_are_denoising_on_a_gaussian(reduced):
    """m^2 E x_t^2 - 2 m sigma + 1 is the error of eps = m x_t by both roads, and the explicit one
    more than that of the best m (Vincent 2011; Song 2019, theorem 1).
    """
    sliced = make_config(
        "sliced_score_matching", prediction="eps", reduced_variance=reduced,
        projections=1 if reduced else 16,
    )  # fmt: skip
    plain = make_config("denoising", prediction="eps")
    gamma = np.linspace(-6.0, 4.0, 2001)
    alpha, sigma = 1 / np.sqrt(1 + np.exp(gamma)), 1 / np.sqrt(1 + np.exp(-gamma))
    power = alpha**2 * C + sigma**2
    for factor in (0.3, 0.9):
        expected = np.mean(factor**2 * power - 2 * factor * sigma + 1)
        found = [mse(config, linear(config, factor)) for config in (sliced, plain)]
        np.testing.assert_allclose(found, expected, rtol=0.03 if reduced else 0.06)
    best, other = (mse(plain, make_params(plain, kind)) for kind in ("denoiser", "learned"))
    explicit = np.mean(power * (sigma / power) ** 2)  # of eps = 0 against sigma x_t / power
    assert other - best == pytest.approx(explicit, rel=0.05)


@functools.cache
def small(objective: str) -> tuple[Any, Any]:
    """A transformer and parameters that are nowhere zero."""
    config = shapes.diffusion(objective=objective)
    shape = jax.eval_shape(lambda: diffusion.init(config, jax.random.key(0)))
    rng = np.random.default_rng(1)
    draw = lambda leaf: jnp.asarray(0.15 * rng.normal(size=leaf.shape), jnp.float32)  # noqa: E731
    return config, jax.tree.map(draw, shape)


def test_forward_mode_is_the_transpose_of_reverse_mode():
    """<w, J v> = <J^T w, v> of a transformer, whose rules for going back are left out of J v."""
    config, params = small("sliced_score_matching")
    x, v, w = jax.random.normal(jax.random.key(0), (3, 2, 8, 8, 1))

    def see(x):
        return denoiser.apply(config, params, x, Conditions(jnp.array([-1.0, 2.0])))[0]

    @jax.jit
    def both(x, v, w):
        with numerics.forwards():
            found, forward = jax.jvp(see, (x,), (v,))
        plain, back = jax.vjp(see, x)
        return found - plain, jnp.vdot(w, forward), jnp.vdot(back(w)[0], v)

    difference, forward, backward = both(x, v, w)
    assert float(jnp.abs(difference).max()) < 1e-5
    assert float(forward) == pytest.approx(float(backward), rel=1e-4)


def test_slices_are_denoising_on_a_transformer():
    """In expectation; from one key both see the same images, times and noise."""
    found = {}
    for objective in ("sliced_score_matching", "denoising"):
        config, params = small(objective)
        batch = make_batch(64)

        @jax.jit
        def value(key, config=config, params=params, batch=batch):
            return diffusion.loss(config, params, batch, key, jnp.int32(0))[1]["mse"]

        found[objective] = np.array([value(jax.random.key(seed)) for seed in range(24)])
    sliced, denoising = found.values()
    difference = sliced - denoising
    error = float(difference.std() / len(difference) ** 0.5)
    assert abs(difference.mean()) < 3.5 * error and error < 0.1 * denoising.mean()


def test_step_divergence_is_that_of_two_gaussians():
    """KL(N(m, v) || N(n, w)) = (log(w / v) + (v + (m - n)^2) / w - 1) / 2, nats a dimension."""
    gamma_t, gamma_s = jnp.array([1.0, -2.0]), jnp.array([0.5, -4.0])
    x0, guess = jnp.full((2, 2, 2, 1), 0.4), jnp.full((2, 2, 2, 1), 0.1)
    place = jnp.full((2, 2, 2, 1), 0.3)
    divergence = jax.jit(bound.step_divergence)
    found = divergence(gamma_t, gamma_s, x0, guess, place)
    t, s = np.exp(np.float64(gamma_t)), np.exp(np.float64(gamma_s))  # variances of y
    share, true = 1 - s / t, (1 - s / t) * s
    widest = true * (t / (1 + t)) / (s / (1 + s))
    wide = np.exp(0.65 * np.log(widest) + 0.35 * np.log(true))
    expected = 0.5 * (np.log(wide / true) + (true + (share * 0.3) ** 2) / wide - 1)
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    exact = divergence(gamma_t, gamma_s, x0, x0, -jnp.ones_like(x0))
    np.testing.assert_allclose(exact, 0, atol=1e-6)

    def total(guess, place):
        return divergence(gamma_t, gamma_s, x0, guess, place).sum()

    to_mean, to_place = jax.grad(total, (0, 1))(guess, place)
    assert not np.any(to_mean) and np.all(to_place != 0)


def test_a_sampler_hands_on_the_guess():
    """Each step is given the x_0 of the one before: one that adds 1 to it counts the steps."""

    def denoise(y, gamma, guess):
        return samplers.Denoised(guess + 1)

    y, gammas = jnp.zeros((2, 3)), jnp.linspace(4.0, -4.0, 6)
    options = diffusion.default_sampling()
    for name in samplers.SAMPLERS:
        _, seen = samplers.run(name, denoise, y, gammas, jax.random.key(0), options)
        np.testing.assert_array_equal(seen[:, 0, 0], [1, 2, 3, 4, 5])


def test_a_self_conditioned_network_reads_its_guess():
    config = shapes.diffusion()
    config.model.self_conditioning = True
    params = jax.eval_shape(lambda: diffusion.init(config, jax.random.key(0)))
    assert params["patches"]["kernel"].shape[0] == 2 * config.model.patch_size**2
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: 0.3 * rng.normal(size=leaf.shape), params)
    nothing: Any = None
    asked = drawing.Request(Conditions(nothing))
    denoise = jax.jit(drawing.denoise_of(config, params, asked))
    y, gamma_B = jnp.ones((1, 8, 8, 1)), jnp.zeros(1)
    first = denoise(y, gamma_B, jnp.zeros_like(y)).x0
    assert not np.allclose(first, denoise(y, gamma_B, first).x0)
