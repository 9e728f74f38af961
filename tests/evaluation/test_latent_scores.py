"""Scores of codes, and of pixels by what a family has learned of latents."""

import functools

import jax
import numpy as np
import pytest

from research import data, evaluation, families, trained
from research.errors import UserError
from research.families import autoencoder
from tests import frozen, shapes
from tests.layouts import QUICK
from tests.test_latents import of_latents


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The home of a run of a codebook, its config and its parameters."""
    home = tmp_path_factory.mktemp("codes")
    frozen.write(home, "vq", codes=16)
    return home, *trained.load(home / "vq")


def test_the_perplexity_is_of_all_batches_together(run):
    _, config, params = run
    found = evaluation.evaluate(config, params, "codebook")["perplexity"]
    code_of = jax.jit(functools.partial(autoencoder.codes, config), compiler_options=QUICK)
    batches = data.eval_batches(data.load(config.data, "validation"), 8, 32)
    code = np.concatenate([np.asarray(code_of(params, batch["image"])) for batch in batches])
    share = np.bincount(code.reshape(-1), minlength=16) / code.size
    entropy = -sum(p * np.log(p) for p in share if p)
    assert found["value"] == pytest.approx(np.exp(entropy), rel=1e-6)
    assert 1 < found["value"] <= 16 and found["unit"] == "codes" and found["examples"] == 32


def test_codes_of_a_uniform_model_are_paid_by_their_vocabulary(run):
    """The bound of pixels is the autoencoder's, whose codes cost log2 16 bits, but for theirs."""
    home, own, params = run
    bound = evaluation.evaluate(own, params)["bound"]["value"]
    config = of_latents(home, "autoregressive", "latent_codes", "vq")
    family = families.load(config.family)
    start = jax.eval_shape(lambda: family.init(config, jax.random.key(0)))
    uniform = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), start)
    found = evaluation.evaluate(config, uniform, "pixel_bound")["pixel_bound"]
    more = (np.log2(256) - np.log2(16)) * 16 / 64
    assert found["value"] == pytest.approx(bound + more, rel=1e-5)
    assert found["kind"] == "upper bound" and found["unit"] == "bits/dim"


def test_what_has_no_codes_or_latents_is_refused():
    config = shapes.autoencoder()
    with pytest.raises(UserError, match="'codebook' counts codes, and config.family='autoencoder'"):
        evaluation.load("codebook").check(config, {})
    with pytest.raises(UserError, match="'codebook' counts codes"):
        evaluation.load("codebook").check(shapes.autoregressive(), {})
    with pytest.raises(UserError, match="'pixel_bound' reads latents; .*'gaussian_mixture' gives"):
        evaluation.load("pixel_bound").check(config, {})
