"""Bottlenecks by themselves: divergences in closed form, straight-through gradients, codebooks."""

import functools
import math
from typing import Any

import jax
import numpy as np
import pytest
from jax import numpy as jnp
from ml_collections import FrozenConfigDict
from scipy import stats

from research.families.autoencoder import (
    gaussian_bottleneck,
    pixel_likelihood,
    scalar_bottleneck,
    vector_bottleneck,
)
from research.families.autoencoder.coded import perplexity, usage
from tests.layouts import QUICK

GRID = np.linspace(-12, 12, 20_001)


def normal(*shape, seed=0) -> Any:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def model(of, **changes) -> Any:
    return FrozenConfigDict(of.default_model() | changes)


def changed(chosen, **changes) -> Any:
    return FrozenConfigDict({**chosen, **changes})


@functools.cache
def compiled(function) -> Any:
    """A function of a frozen section and arrays, which op by op would take seconds."""
    return jax.jit(function, static_argnums=0, compiler_options=QUICK)


@pytest.mark.parametrize("mean, deviation", [(0.0, 1.0), (1.3, 0.2), (-2.0, 1.5)])
def test_the_divergence_is_the_integral(mean, deviation):
    q, p = stats.norm(mean, deviation), stats.norm()
    integral = np.trapezoid(q.pdf(GRID) * (q.logpdf(GRID) - p.logpdf(GRID)), GRID)
    found = gaussian_bottleneck.divergence(jnp.float32(mean), jnp.float32(2 * math.log(deviation)))
    assert float(found) == pytest.approx(integral, abs=1e-6)


@pytest.mark.parametrize("mean, deviation", [(None, None), (0.4, 0.3), (-1.0, 2.0)])
def test_the_bound_misses_the_likelihood_by_the_posteriors_error(mean, deviation):
    """x = w u + b + noise: log p(x) is known, and the bound is short of it by KL(q || p(u | x))."""
    x, w, b, noise = 0.9, 1.7, -0.2, 0.5
    precision = 1 + (w / noise) ** 2
    true = stats.norm(w * (x - b) / noise**2 / precision, precision**-0.5)
    q = true if mean is None else stats.norm(mean, deviation)
    given = jnp.asarray(w * GRID + b), jnp.full(GRID.shape, math.log(noise))
    decoded = pixel_likelihood.nats(jnp.full(GRID.shape, x), *given, levels=0)
    reconstruction = np.trapezoid(q.pdf(GRID) * np.asarray(decoded, np.float64), GRID)
    moments = jnp.float32(q.mean()), jnp.float32(2 * math.log(q.std()))
    bound = reconstruction + gaussian_bottleneck.divergence(*moments)
    exact = -stats.norm.logpdf(x, b, math.hypot(w, noise))
    missed = np.trapezoid(q.pdf(GRID) * (q.logpdf(GRID) - true.logpdf(GRID)), GRID)
    assert float(bound) == pytest.approx(exact + missed, abs=1e-5)


def test_a_posteriors_entropy_is_what_its_divergence_has_of_it():
    """KL = E log q - E log p, and E log p of a standard normal is a second moment."""
    h, chosen = normal(3, 2, 2, 8), model(gaussian_bottleneck, kl_weight=0.5)
    coded = compiled(gaussian_bottleneck.code)(chosen, {}, h, jax.random.key(1))
    mean, log_variance = np.split(np.asarray(h), 2, axis=-1)
    second = mean**2 + np.exp(log_variance) + math.log(2 * math.pi)
    np.testing.assert_allclose(coded.nats_B, coded.density_B + 0.5 * second.sum((1, 2, 3)), 1e-5)
    np.testing.assert_allclose(coded.cost_B, 0.5 * coded.nats_B, rtol=1e-6)
    assert gaussian_bottleneck.channels(chosen) == coded.read_BxHxWxC.shape[-1] == 4


@pytest.fixture(scope="module")
def vectors():
    chosen = model(vector_bottleneck, codes=8, latent_channels=3, commitment=0.3)
    return chosen, vector_bottleneck.init(chosen, jax.random.key(0)), normal(5, 4, 4, 3, seed=2)


def test_codes_are_the_nearest(vectors):
    chosen, params, h = vectors
    away = np.square(np.asarray(h)[..., None, :] - np.asarray(params["codebook"])).sum(-1)
    found = compiled(vector_bottleneck.codes)(chosen, params, h)
    np.testing.assert_array_equal(found, away.argmin(-1))
    snapped = compiled(vector_bottleneck.snapped)(chosen, params, h)
    np.testing.assert_array_equal(snapped, params["codebook"][found])
    np.testing.assert_array_equal(compiled(vector_bottleneck.codes)(chosen, params, snapped), found)


def test_gradients_pass_straight_through(vectors):
    """What the decoder says of a code, the encoder hears unchanged; and it commits to the code."""
    chosen, params, h = vectors
    slope, key = normal(*h.shape, seed=3), jax.random.key(0)

    @compiled
    def slopes(chosen, h, codebook):
        def said(h, codebook):
            coded = vector_bottleneck.code(chosen, params | {"codebook": codebook}, h, key)
            return (slope * coded.read_BxHxWxC).sum(), coded.cost_B.sum()

        return jax.jacrev(said, (0, 1))(h, codebook)

    nearest = compiled(vector_bottleneck.snapped)(chosen, params, h)
    read, cost = slopes(chosen, h, params["codebook"])
    np.testing.assert_allclose(read[0], slope, rtol=1e-6)
    np.testing.assert_allclose(cost[0], 0.6 * (h - nearest), atol=1e-6)
    assert not np.any(read[1]) and not np.any(cost[1])  # an average moves codes
    read, cost = slopes(changed(chosen, codebook_update="gradient"), h, params["codebook"])
    pull, code = np.zeros((8, 3)), compiled(vector_bottleneck.codes)(chosen, params, h)
    np.add.at(pull, np.asarray(code), 2 * np.asarray(nearest - h))
    np.testing.assert_allclose(cost[1], pull, atol=1e-4)
    assert not np.any(read[1])


def test_a_step_without_memory_is_one_of_k_means(vectors):
    chosen, params, h = vectors
    chosen = changed(chosen, codebook_decay=0.0, dead_below=0.0)
    coded = compiled(vector_bottleneck.code)(chosen, params, h, jax.random.key(0))
    now = compiled(vector_bottleneck.moved)(chosen, params, params, coded.found, jax.random.key(1))
    code, rows = np.asarray(coded.code_BxHxW).reshape(-1), np.asarray(h).reshape(-1, 3)
    for each in np.unique(code):
        np.testing.assert_allclose(now["codebook"][each], rows[code == each].mean(0), rtol=1e-4)
        assert float(now["share"][each]) == pytest.approx(np.mean(code == each))


def test_dead_codes_are_filled_by_doubling(vectors):
    """Of eight codes far away one is used at first; in a few steps all are, nothing lost."""
    chosen, params, h = vectors
    chosen = changed(chosen, codebook_decay=0.5, dead_below=0.3)
    params = params | {"codebook": params["codebook"] * 0.01 + jnp.arange(8.0)[:, None] + 9}
    used = []
    for step in range(40):
        coded = compiled(vector_bottleneck.code)(chosen, params, h, jax.random.key(0))
        used.append(len(np.unique(coded.code_BxHxW)))
        params = compiled(vector_bottleneck.moved)(
            chosen, params, params, coded.found, jax.random.key(step)
        )
        assert float(params["share"].sum()) <= 1 + 1e-5
    assert used[0] == 1 and used[-1] == 8
    kept = changed(chosen, dead_below=0.0)
    for _ in range(10):
        coded = compiled(vector_bottleneck.code)(kept, params, h, jax.random.key(0))
        params = compiled(vector_bottleneck.moved)(
            kept, params, params, coded.found, jax.random.key(0)
        )
    assert float(params["share"].sum()) == pytest.approx(1, abs=1e-3)


def test_perplexity_counts_codes():
    counted = jax.jit(lambda code: perplexity(usage(code, 16)))
    code = np.arange(8).repeat(6).reshape(3, 4, 4)
    assert float(counted(code)) == pytest.approx(8, rel=1e-5)
    assert float(counted(0 * code)) == pytest.approx(1, rel=1e-5)
    for seed in range(5):
        drawn = np.random.default_rng(seed).integers(0, 16, code.shape)
        assert 1 < float(counted(drawn)) <= 16


def test_finite_scalars_number_every_code():
    chosen = model(scalar_bottleneck, scalar_levels=(4, 3, 2))
    every = jnp.arange(24).reshape(1, 4, 6)
    looked_up = compiled(scalar_bottleneck.looked_up)(chosen, {}, every)
    assert len(np.unique(np.asarray(looked_up).reshape(-1, 3), axis=0)) == 24
    assert float(looked_up.min()) == -1 and float(looked_up.max()) == 1
    np.testing.assert_array_equal(compiled(scalar_bottleneck.codes)(chosen, {}, looked_up), every)
    latent = compiled(scalar_bottleneck.read)(chosen, {}, 2 * normal(9, 5, 5, 3), None)
    snapped = compiled(scalar_bottleneck.snapped)(chosen, {}, latent)
    found = compiled(scalar_bottleneck.looked_up)(
        chosen, {}, compiled(scalar_bottleneck.codes)(chosen, {}, latent)
    )
    np.testing.assert_allclose(snapped, found, atol=1e-6)
    # Each number is rounded to the nearest level, at most half of the way to the next.
    half = 1 / (np.array([4, 3, 2]) - 1)
    assert np.all(np.abs(np.asarray(snapped - latent)) <= half + 1e-6)


def test_finite_scalars_pass_gradients_of_the_bound():
    chosen, h, slope = model(scalar_bottleneck), normal(2, 3, 3, 3), normal(2, 3, 3, 3, seed=1)

    def said(of):
        return jax.jit(jax.grad(lambda h: (slope * of(chosen, {}, h, None)).sum()))(h)

    through = said(lambda *given: scalar_bottleneck.code(*given).read_BxHxWxC)
    np.testing.assert_allclose(through, said(scalar_bottleneck.read), rtol=1e-6)
