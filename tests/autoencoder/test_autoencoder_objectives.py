"""What training charges for a latent: each objective is the bound where it has to be."""

import functools
import math
from typing import Any

import jax
import numpy as np
import pytest
from scipy import special, stats

from research import failures, programs
from research.families import autoencoder
from research.families.autoencoder import coding, correlation_objective
from tests import shapes
from tests.layouts import QUICK

KEY, ROWS = jax.random.key(2), 8
MLP: Any = dict(network="mlp_coder", width=8, depth=1, latent_channels=3)
MLP |= dict(likelihood="gaussian", deviation=1.0)


def batch() -> dict[str, Any]:
    return {"image": np.random.default_rng(0).normal(size=(ROWS, 8, 8, 1)).astype(np.float32)}


def setting(objective="bound", **changes) -> Any:
    return shapes.autoencoder(objective=objective, **MLP, **changes)


@functools.cache
def params() -> Any:
    generator = np.random.default_rng(1)
    found = jax.tree.map(
        lambda leaf: generator.normal(0, 0.3, leaf.shape).astype(np.float32),
        jax.eval_shape(lambda: autoencoder.init(setting(), KEY)),
    )
    found["encoder"]["last"]["kernel"] *= 2  # means and deviations that differ between images
    return found


def value(step: Any = 0, key=KEY, objective="bound", given=None, **changes) -> float:
    """The objective in nats of an image."""
    config = setting(objective, **changes)
    part = coding.objective(config)

    @functools.partial(jax.jit, compiler_options=QUICK)
    def run(params: Any) -> Any:
        return part.value(config, params, given or batch(), key, step)[0]

    return float(run(params()))


@functools.cache
def compiled() -> Any:
    return jax.jit(functools.partial(coding.once, setting()), compiler_options=QUICK)


def seen(key=KEY) -> Any:
    """What `once` gives of the batch with a key."""
    return jax.tree.map(np.asarray, compiled()(params(), batch(), key))


def test_the_latent_is_charged_more_and_more():
    coded, judged = seen()
    for step, share in ((0, 0.0), (25, 0.25), (100, 1.0), (400, 1.0)):
        wanted = judged["reconstruction"].mean() + share * coded.nats_B.mean()
        found = value(np.int32(step), kl_warmup_steps=100)
        assert found == pytest.approx(wanted, rel=1e-6)
    assert value(np.int32(100), kl_warmup_steps=100) == value()


def test_nats_are_free_up_to_a_number_a_group():
    coded, judged = seen()
    groups = coded.groups_BxG.mean(0)
    assert groups.sum() == pytest.approx(coded.nats_B.mean(), rel=1e-5) and len(groups) == 3
    middle = float(np.sort(groups)[:2].mean())  # one group lies below, two above
    charged = 0.5 * np.maximum(groups, middle).sum()
    wanted = judged["reconstruction"].mean() + charged
    assert value(free_nats=middle, kl_weight=0.5) == pytest.approx(wanted, rel=1e-5)
    assert value(free_nats=1e-6) == pytest.approx(value(), rel=1e-6)
    assert charged > 0.5 * groups.sum() * 1.001


@pytest.mark.parametrize("samples", [1, 4])
def test_importance_weights_are_the_densities(samples):
    """log mean exp of log p(x, z) - log q(z | x), by scipy, for the samples that were drawn."""
    rows = []
    for key in jax.random.split(KEY, samples):
        coded, judged = seen(key)
        mean, log_variance = coded.posterior
        q = stats.norm(mean, np.exp(0.5 * log_variance)).logpdf(coded.latent_BxHxWxC)
        ratio = (q - stats.norm.logpdf(coded.latent_BxHxWxC)).sum((1, 2, 3))
        np.testing.assert_allclose(coded.ratio_B, ratio, rtol=1e-4, atol=1e-4)
        rows.append(-judged["reconstruction"] - ratio)
    wanted = -(special.logsumexp(rows, 0) - math.log(samples)).mean()
    found = value(objective="importance", importance_samples=samples)
    assert found == pytest.approx(wanted, rel=1e-5)
    if samples == 1:  # the bound, but for the divergence by its sample
        only = jax.random.split(KEY, 1)[0]
        coded, _ = seen(only)
        moved = (coded.ratio_B - coded.nats_B).mean()
        assert found == pytest.approx(value(key=only) + moved, rel=1e-5)


def test_the_divergence_falls_into_three_parts():
    """By scipy: densities of the mixture of the batch's posteriors and of its margins."""
    coded, _ = seen()
    parts = jax.tree.map(np.asarray, jax.jit(correlation_objective.parts)(coded))
    z, (mean, log_variance) = coded.latent_BxHxWxC.reshape(ROWS, -1), coded.posterior
    each = stats.norm(mean.reshape(ROWS, -1), np.exp(0.5 * log_variance.reshape(ROWS, -1)))
    among = np.stack([each.logpdf(row) for row in z])
    joint = special.logsumexp(among.sum(2), 1) - math.log(ROWS)
    product = (special.logsumexp(among, 1) - math.log(ROWS)).sum(1)
    np.testing.assert_allclose(parts.total_correlation_B, joint - product, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(sum(parts), coded.ratio_B, rtol=1e-4, atol=1e-4)
    assert 0 < parts.information_B.mean() <= math.log(ROWS)
    alike = {"image": np.repeat(batch()["image"][:1], ROWS, 0)}
    same, _ = compiled()(params(), alike, KEY)
    none = jax.jit(correlation_objective.parts)(same)
    np.testing.assert_allclose(none.information_B, 0, atol=1e-5)
    np.testing.assert_allclose(none.total_correlation_B, 0, atol=1e-5)
    assert value(objective="total_correlation", tc_weight=1.0) == value()
    more = value(objective="total_correlation", tc_weight=3.0) - value()
    assert more == pytest.approx(2 * parts.total_correlation_B.mean(), abs=2e-4)


@pytest.mark.parametrize("weight, failed", [(1.0, False), (1e4, True)])
def test_a_collapsed_posterior_fails_by_name(weight, failed):
    """An image is one of two: with the bound's charge they are told apart, with 1e4 times not."""
    config = setting(kl_weight=weight)
    config.train.clip_norm = 0.0
    sign = np.where(np.arange(32) % 2, 1.0, -1.0)[:, None, None, None]
    given = {"image": np.float32(sign * np.ones((32, 8, 8, 1)))}

    state = programs.fresh(config, autoencoder, autoencoder.init(config, KEY))

    @functools.partial(jax.jit, compiler_options=QUICK)
    def run(state: Any, rate: Any) -> Any:
        def step(state: Any, index: Any) -> Any:
            key = jax.random.fold_in(KEY, index)
            return autoencoder.update(config, state, given, key, index, rate)

        return jax.lax.scan(step, state, np.arange(200))[1]

    metrics = run(state, 0.01)
    rows = [{"step": i, "active_units": float(n)} for i, n in enumerate(metrics["active_units"])]
    found = failures.found(config, rows, {})
    assert set(found) == ({"posterior_collapse"} if failed else set())


@pytest.mark.parametrize("kind", ["vq", "fsq"])
def test_a_codebook_of_which_one_code_is_left_fails_by_name(kind):
    config = shapes.autoencoder(bottleneck=kind)
    for perplexity, named in ((1.0, {"codebook_collapse"}), (1.7, set())):
        assert set(failures.found(config, [{"perplexity": perplexity}], {})) == named
