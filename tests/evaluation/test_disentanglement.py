"""Gaps of mutual information: of latents whose information is known, and of a run on glyphs."""

import jax
import numpy as np
import pytest

from research import defaults, evaluation, recipes
from research.data.sources import glyphs
from research.errors import UserError
from research.evaluation import disentanglement
from research.families import autoencoder
from tests import shapes


def test_information_of_what_is_known():
    """Of a copy all of it; of half of a factor its entropy; of something apart none."""
    factor = np.tile(np.arange(4), 500)
    apart = np.repeat(np.arange(500), 4) % 20
    assert disentanglement.information(3.0 * factor, factor) == pytest.approx(np.log(4))
    assert disentanglement.information(factor % 2 + 0.5, factor) == pytest.approx(np.log(2))
    assert disentanglement.information(apart * 1.0, factor) == pytest.approx(0, abs=1e-9)
    assert disentanglement.information(np.ones(2000), factor) == 0


@pytest.mark.parametrize(
    "numbers, wanted", [(("all", "none"), 1.0), (("all", "half"), 0.5), (("all", "all"), 0.0)]
)
def test_a_gap_is_between_the_best_two_numbers(numbers, wanted):
    factor = np.tile(np.arange(4), 500)
    kinds = {"all": -factor, "half": factor // 2, "none": np.repeat(np.arange(500), 4) % 20}
    latent = np.stack([kinds[name] for name in (*numbers, "none")], 1).astype(float)
    assert disentanglement.gap(latent, factor) == pytest.approx(wanted, abs=1e-9)
    assert disentanglement.gap(latent, np.zeros(2000, int)) == 0


def test_styles_have_typeface_weight_and_slant():
    config = defaults.config("autoencoder", "glyphs")
    assert set(glyphs.factors(config.data)) == {"category"}
    config.data.label = "style"
    known, names = glyphs.factors(config.data), glyphs.styles()
    of = {name: {key: int(each[i]) for key, each in known.items()} for i, name in enumerate(names)}
    assert of["DejaVuSans-Bold"]["weight"] == of["STIXGeneralBolIta"]["weight"] == 1
    assert of["DejaVuSans"]["weight"] == of["DejaVuSans"]["slant"] == 0
    assert of["DejaVuSans-Oblique"]["slant"] == of["STIXGeneralItalic"]["slant"] == 1
    assert of["DejaVuSans"]["typeface"] == of["DejaVuSans-Bold"]["typeface"]
    assert of["DejaVuSans"]["typeface"] != of["DejaVuSerif"]["typeface"]
    config.data.label = "both"
    both = glyphs.factors(config.data)
    assert set(both) == {"category", "weight", "slant", "typeface"}
    assert all(len(each) == len(names) * len(glyphs.CATEGORIES) for each in both.values())


def test_a_run_on_glyphs_is_scored(data_folder):
    config = defaults.config("autoencoder", "glyphs", network="mlp_coder", optimizer="adamw")
    config.recipe = "fixed"
    config.model.update(dict(width=8, depth=1, image_shape=(8, 8, 1)))
    fonts = ("DejaVuSansDisplay", "STIXGeneralItalic", "DejaVuSerifDisplay")
    config.data.update(folder=str(data_folder), resolution=8, label="style", fonts=fonts)
    config.train.update(steps=1, batch_size=8, learning_rate=1e-3, warmup_steps=0)
    config.evaluation.update(batch_size=16, examples=64)
    recipes.apply(config)
    params = jax.jit(lambda key: autoencoder.init(config, key))(jax.random.key(0))
    found = evaluation.evaluate(config, params, "disentanglement")
    assert set(found) == {"information_gap", "weight_gap", "slant_gap", "typeface_gap"}
    assert found["weight_gap"]["value"] == 0  # none of these fonts is bold
    assert all(0 <= each["value"] < 1 for each in found.values())


def test_what_has_no_latents_or_factors_is_refused():
    for config, words in (
        (shapes.diffusion(), "'disentanglement' reads latents, and config.family='diffusion'"),
        (shapes.autoencoder(), "'gaussian_mixture' knows none of its images; nearest .*'glyphs'"),
    ):
        with pytest.raises(UserError, match=words):
            disentanglement.check(config, {})
