"""Scores of codes, and of pixels by what a family has learned of latents."""

import functools

import jax
import numpy as np
import pytest

from research import data, evaluation, families, trained
from research.errors import UserError
from research.families import autoencoder
from research.train import train
from tests import shapes
from tests.test_latents import STEPS, of_latents


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with a run of a codebook and what it scores."""
    home = tmp_path_factory.mktemp("codes")
    config = shapes.autoencoder(bottleneck="vq", codes=16)
    config.data.folder, config.train.steps = str(home / "data"), STEPS
    config.evaluation.evaluators = ("validation", "codebook")
    return home, train(config, home / "vq")["scores"]


def test_the_perplexity_is_of_all_batches_together(runs):
    config, params = trained.load(runs[0] / "vq")
    source = data.load(config.data, "validation")
    image = source.gather(np.arange(32))["image"]
    code = jax.jit(functools.partial(autoencoder.codes, config))(params, image)
    share = np.bincount(np.asarray(code).reshape(-1), minlength=16) / code.size
    entropy = -sum(p * np.log(p) for p in share if p)
    assert runs[1]["perplexity"]["value"] == pytest.approx(np.exp(entropy), rel=1e-6)
    assert 1 <= runs[1]["perplexity"]["value"] <= 16


def test_codes_of_a_uniform_model_are_paid_by_their_vocabulary(runs):
    """The bound of pixels is the autoencoder's, whose codes cost log2 16 bits, but for theirs."""
    home, scores = runs
    config = of_latents(home, "autoregressive", "latent_codes", "vq")
    family = families.load(config.family)
    start = jax.eval_shape(lambda: family.init(config, jax.random.key(0)))
    uniform = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), start)
    found = evaluation.evaluate(config, uniform, "pixel_bound")["pixel_bound"]
    more = (np.log2(256) - np.log2(16)) * 16 / 64
    assert found["value"] == pytest.approx(scores["bound"]["value"] + more, rel=1e-5)
    assert found["kind"] == "upper bound" and found["unit"] == "bits/dim"


def test_what_has_no_codes_or_latents_is_refused():
    config = shapes.autoencoder()
    with pytest.raises(UserError, match="'codebook' counts codes, and config.family='autoencoder'"):
        evaluation.load("codebook").check(config, {})
    with pytest.raises(UserError, match="'codebook' counts codes"):
        evaluation.load("codebook").check(shapes.autoregressive(), {})
    with pytest.raises(UserError, match="'pixel_bound' reads latents; .*'gaussian_mixture' gives"):
        evaluation.load("pixel_bound").check(config, {})
