"""Latents in a ladder: densities by scipy, the bound against an integral, and priors by draws."""

import functools
from typing import Any

import jax
import numpy as np
import pytest
from scipy import special, stats

from research.config import frozen
from research.errors import UserError
from research.families import autoencoder
from research.families.autoencoder import coding, ladder_bottleneck
from tests import shapes
from tests.layouts import QUICK

KEY = jax.random.key(4)


def setting(samples=1, **changes) -> Any:
    """Linear networks around two levels, of one number each, of images of two pixels."""
    model: Any = dict(network="mlp_coder", bottleneck="ladder", likelihood="gaussian")
    model |= dict(image_shape=(1, 2, 1), depth=0, ladder_channels=(1, 1), ladder_width=3)
    config = shapes.autoencoder(**model | dict(deviation=0.5) | changes)
    config.evaluation.importance_samples = samples
    return config


def images(rows=3) -> Any:
    return np.random.default_rng(0).normal(size=(rows, 1, 2, 1)).astype(np.float32)


@functools.cache
def params(**changes) -> Any:
    generator = np.random.default_rng(7)
    return jax.tree.map(
        lambda leaf: generator.normal(0, 0.7, leaf.shape).astype(np.float32),
        jax.eval_shape(lambda: autoencoder.init(setting(**changes), KEY)),
    )


def prior(params: Any, above: Any) -> tuple[Any, Any]:
    """Mean and deviation of the lower level, given the upper one [N, C]."""
    own = params["bottleneck"]["prior_1"]
    x = above @ own["hidden_0"]["kernel"] + own["hidden_0"]["bias"]
    said = x * special.expit(x) @ own["last"]["kernel"] + own["last"]["bias"]
    mean, log_variance = np.split(said, 2, axis=-1)
    return mean, np.exp(0.5 * log_variance)


def exact() -> np.ndarray:
    """-log p of each image, by summing p(z_1) p(z_2 | z_1) p(x | z) over a grid of z."""
    u = np.linspace(-7, 7, 401)
    top, noise = (each.reshape(-1, 1) for each in np.meshgrid(u, u, indexing="ij"))
    mean, deviation = prior(params(), top)
    z = np.concatenate([top, mean + deviation * noise], 1)
    log_p = stats.norm.logpdf(top[:, 0]) + stats.norm.logpdf(noise[:, 0]) + 2 * np.log(u[1] - u[0])
    decoder = params()["decoder"]["last"]
    middle = z @ decoder["kernel"] + decoder["bias"]
    given = stats.norm.logpdf(images().reshape(-1, 1, 2), middle, 0.5).sum(-1)
    return -special.logsumexp(given + log_p, axis=1)


def test_its_bounds_lie_above_the_integral():
    nats, gaps, given = exact(), [], jax.tree.map(np.copy, params())
    given["encoder"]["last"]["bias"][2:] = 2.0  # a posterior wider than the true one
    for samples in (16, 65_536):
        config = setting(samples)
        run = jax.jit(functools.partial(autoencoder.bounds, config, shared=None))
        found = run(given, {"image": images()}, KEY)
        gaps.append({name: np.asarray(each) - nats for name, each in found.items()})
    assert np.all(gaps[1]["elbo"] > 0.02) and np.all(gaps[1]["iwae"] < gaps[0]["elbo"])
    np.testing.assert_allclose(gaps[1]["iwae"], 0, atol=0.01)


def test_the_sum_of_its_levels_is_the_divergence():
    """log q - log p of a sample by scipy; its mean over samples is what the bound has of it."""
    config = setting(ladder_channels=(2, 1))
    given = params(ladder_channels=(2, 1))
    h = np.random.default_rng(2).normal(size=(5, 1, 1, 6)).astype(np.float32)
    run = jax.jit(functools.partial(coding.coded, config), compiler_options=QUICK)
    coded = jax.tree.map(np.asarray, run(given, h, KEY))
    heard, log_variance = np.split(h.reshape(5, 6), 2, axis=-1)
    z = coded.latent_BxHxWxC.reshape(5, 3)
    mean, deviation = prior(given, z[:, :2])
    mean, deviation = np.pad(mean, ((0, 0), (2, 0))), np.pad(deviation, ((0, 0), (2, 0)))
    deviation[:, :2] = 1
    precision = np.exp(-log_variance) + deviation**-2.0
    own = (heard * np.exp(-log_variance) + mean * deviation**-2.0) / precision
    each = stats.norm.logpdf(z, own, precision**-0.5) - stats.norm.logpdf(z, mean, deviation)
    np.testing.assert_allclose(coded.ratio_B, each.sum(1), rtol=1e-4, atol=1e-4)
    many = np.repeat(h[:1], 40_000, 0)
    drawn = jax.tree.map(np.asarray, run(given, many, KEY))
    error = (drawn.ratio_B - drawn.nats_B).std() / 200
    assert abs((drawn.ratio_B - drawn.nats_B).mean()) < 4 * error
    np.testing.assert_allclose(coded.groups_BxG.sum(1), coded.nats_B, rtol=1e-5)


def test_a_level_that_heard_nothing_is_the_prior():
    config, h = setting(), np.zeros((4, 1, 1, 4), np.float32)
    h[..., 2:] = ladder_bottleneck.LOG_VARIANCE[1]
    run = jax.jit(functools.partial(coding.coded, config), compiler_options=QUICK)
    np.testing.assert_allclose(run(params(), h, KEY).nats_B, 0, atol=1e-4)


def test_draws_are_of_the_prior():
    config = setting()
    drawn = jax.jit(ladder_bottleneck.drawn, static_argnums=(0, 3))
    model = frozen(config, "model").model
    z = np.asarray(drawn(model, params()["bottleneck"], KEY, (4000, 1, 1))).reshape(-1, 2)
    mean, deviation = prior(params(), z[:, :1])
    for noise in (z[:, 0], (z[:, 1:] - mean)[:, 0] / deviation[:, 0]):
        assert stats.kstest(noise, "norm").pvalue > 1e-3


@pytest.mark.parametrize(
    "key, value", [("ladder_channels", (4,)), ("ladder_channels", (2, 0)), ("ladder_width", 0)]
)
def test_ladders_that_are_none_are_refused(key, value):
    config = setting()
    config.model[key] = value
    with pytest.raises(UserError, match=f"config.model.{key}="):
        ladder_bottleneck.check(config)
