"""The classifier of glyphs that ships: its weights are the ones that were pinned, and they see."""

import numpy as np
import pytest

from experiments import glyph_features
from research import config as configs
from research import data, parts
from research.data.sources import glyphs
from research.errors import UserError
from research.evaluation import frechet, image_features
from research.families import classifier


@pytest.fixture(scope="module")
def features():
    return image_features.load("glyphs")


def accuracies(features, config, split):
    """Of category and style together, of each alone, and bits an image."""
    source, styles = data.load(config, split), len(glyphs.styles())
    found = source.gather(np.arange(len(source)))
    p, label = features.probabilities(found["image"]), found["label"]
    p_BxCxS = p.reshape(len(p), -1, styles)
    category, style = (p_BxCxS.sum(axis).argmax(1) for axis in (2, 1))
    both = p.argmax(1) == label
    bits = -np.log2(p[np.arange(len(p)), label])
    hits = both, category == label // styles, style == label % styles, bits
    return [float(each.mean()) for each in hits]


def test_the_file_is_small_and_what_was_pinned(features, tmp_path, monkeypatch):
    assert image_features.PINNED.stat().st_size < 200_000
    config, params = image_features.read(image_features.PINNED)
    assert image_features.digest(config, params) == image_features.PINNED_DIGEST
    assert features.digest == image_features.PINNED_DIGEST and features.shape == (16, 16, 1)
    params["head"]["bias"][3] += 0.01
    image_features.write(tmp_path / "other.npz", config, params)
    monkeypatch.setattr(image_features, "PINNED", tmp_path / "other.npz")
    with pytest.raises(UserError, match=r"other.npz holds other weights than were pinned"):
        image_features.load("glyphs")


def test_the_experiment_that_trains_it_has_its_keys():
    pinned = image_features.read(image_features.PINNED)[0].model
    model = parts.keys(classifier, pinned) | configs.to_plain(pinned)  # with keys that came later
    asked = configs.to_plain(glyph_features.get_config("glyphs").model)
    filled = {key: value for key, value in asked.items() if value is not None}
    assert {key: model[key] for key in filled} == filled


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Two fonts of few characters, as it sees glyphs."""
    config = data.default("glyphs")
    config.update(
        folder=str(tmp_path_factory.mktemp("glyphs")), label="both",
        fonts=("DejaVuSansDisplay", "STIXGeneralItalic"),
    )  # fmt: skip
    return config


def test_it_tells_held_out_characters_of_small_fonts(features, small):
    both, category, style, bits = accuracies(features, small, "test")
    assert both > 0.4 and category > 0.5 and style > 0.5 and bits < np.log2(468) / 2


def test_real_characters_are_nearer_to_others_than_noise(features, small):
    train, test = (data.load(small, split).arrays["image"] for split in ("train", "test"))
    noise = np.random.default_rng(0).integers(0, 256, (200, 16, 16, 1), dtype=np.uint8)
    real = features.of(np.concatenate([train]))
    floor = frechet.frechet(real[::2], real[1::2])
    assert 20 * floor < frechet.frechet(features.of(noise), real)
    assert features.of(test).shape[1] == 48


@pytest.mark.slow
def test_accuracy_is_as_the_experiment_says(features, data_folder):
    config = data.default("glyphs")
    config.update(folder=str(data_folder), label="both")
    both, category, style, bits = accuracies(features, config, "test")
    said = glyph_features.__doc__ or ""
    assert f"{both:.0%} both, {category:.0%} category, {style:.0%} style" in said
    assert f"{bits:.2f} bits" in said
