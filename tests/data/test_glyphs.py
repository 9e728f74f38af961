"""Glyphs: real characters, no blank or repeated image, one side for each character."""

import unicodedata

import numpy as np
import pytest

from research import data
from research.data import imaging
from research.data.sources import glyphs
from research.errors import UserError


def test_all_distinct_images_of_all_named_characters():
    codes, images = set(), set()
    for code, style, image in glyphs.draw(("*",)):
        assert style.startswith(("DejaVu", "STIXGeneral"))
        assert image.shape == (32, 32) and image.dtype == np.uint8 and image.any()
        assert unicodedata.name(chr(code))
        images.add(image.tobytes())
        codes.add(code)
    # 40,900 with Pillow 13, matplotlib 3.11 and Unicode 14; others differ by a few.
    assert len(images) == pytest.approx(40_900, rel=0.02)
    assert len(codes) == pytest.approx(7_077, rel=0.02)


def test_a_character_is_on_one_side_in_every_font():
    sides = glyphs.splits(("DejaVuSansMono*",))
    codes = {split: {key.split()[0] for key, _ in each} for split, each in sides.items()}
    assert all(len(each) > 50 for each in codes.values())
    assert not codes["train"] & codes["validation"]
    assert not codes["train"] & codes["test"]
    assert not codes["validation"] & codes["test"]
    styles = {features["style"] for _, features in sides["validation"]}
    assert len(styles) == 4  # a side holds whole characters, not whole fonts


def test_features_describe_the_character():
    features = {
        key: each for split in glyphs.splits(("STIXGeneralItalic",)).values() for key, each in split
    }
    found = features["U+0041 STIXGeneralItalic"]
    assert found["text"] == "LATIN CAPITAL LETTER A"
    assert found["category"] == "Lu" and found["style"] == "STIXGeneralItalic"
    image = imaging.decode(found["image"], 1)[..., 0]
    # Drawn around the middle: as much ink left as right, above as below, to a few pixels.
    rows, columns = np.nonzero(image > 127)
    assert abs(rows.min() + rows.max() - 31) <= 3 and abs(columns.min() + columns.max() - 31) <= 3


def test_halving_is_the_exact_mean_of_four_pixels():
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 1), dtype=np.uint8)
    half = imaging.resize(image, 16)
    exact = image.astype(float).reshape(16, 2, 16, 2, 1).mean((1, 3))
    assert half.shape == (16, 16, 1) and np.array_equal(half, np.floor(exact + 0.5))


@pytest.mark.parametrize("size", [28, 20, 45])
def test_other_sizes_average_by_area(size):
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    fine = image.repeat(size, 0).repeat(size, 1).astype(float)  # a common grid of both sizes
    exact = fine.reshape(size, 32, size, 32, 3).mean((1, 3))
    assert np.array_equal(imaging.resize(image, size), np.floor(exact + 0.5))


def test_a_wide_image_is_cropped_around_its_middle():
    image = np.zeros((4, 8, 1), np.uint8)
    image[:, 2:6] = 9
    assert np.array_equal(imaging.resize(image, 4), np.full((4, 4, 1), 9))


@pytest.mark.parametrize("resolution", [8, 16, 28, 32])
def test_every_resolution_shows_the_same_images(small_glyphs, resolution):
    config = small_glyphs.copy_and_resolve_references()
    config.resolution = 32
    large = data.load(config, "train")
    config.resolution = resolution
    small = data.load(config, "train")
    assert small.spec["shape"] == (resolution, resolution, 1) and small.spec["discrete"]
    assert len(small) == len(large) == small.spec["unique"]
    for index in (0, 5, len(small) - 1):
        expected = imaging.resize(large[index]["image"], resolution)
        assert np.array_equal(small[index]["image"], expected)
        assert small[index]["label"] == large[index]["label"]


def test_the_label_is_the_category_or_the_style(small_glyphs):
    config = small_glyphs.copy_and_resolve_references()
    category = data.load(config, "train")
    config.label = "style"
    style = data.load(config, "train")
    names = style.spec["class_names"]
    found = {names[i] for i in style.arrays["label"]}
    assert found == set(config.fonts) and style.spec["num_classes"] == len(names) == 18
    names = category.spec["class_names"]
    assert {"Lu", "Ll"} <= {names[i] for i in category.arrays["label"]} <= set(names)
    assert style.fingerprint == category.fingerprint  # the same content, read another way


def test_both_labels_are_one_class_a_pair(small_glyphs):
    config = small_glyphs.copy_and_resolve_references()
    found = {}
    for label in ("category", "style", "both"):
        config.label = label
        found[label] = data.load(config, "train")
    names = {label: np.array(each.spec["class_names"]) for label, each in found.items()}
    rows = np.arange(len(found["both"]))
    labels = {label: names[label][each.gather(rows)["label"]] for label, each in found.items()}
    pairs = zip(labels["category"], labels["style"], labels["both"], strict=True)
    assert all(f"{category} {style}" == both for category, style, both in pairs)
    assert found["both"].spec["num_classes"] == len(names["category"]) * len(names["style"])


def test_names_are_words_and_the_images_stay_what_they_were(small_glyphs):
    config = small_glyphs.copy_and_resolve_references()
    plain = data.load(config, "train")
    assert "text" not in plain.spec and "text" not in plain[0]
    assert "words" not in glyphs.identity(config)  # packs of before are found again
    config.text = "words"
    named = data.load(config, "train")
    np.testing.assert_array_equal(named.arrays["image"], plain.arrays["image"])
    length, vocab_size = (named.spec["text"][key] for key in ("length", "vocab_size"))
    words = ("", *glyphs.vocabulary())
    assert len(words) == vocab_size and words == tuple(sorted(words))
    batch = named.gather(np.arange(len(named)))
    assert batch["text"].dtype == np.int32 and batch["text"].shape[1] == length
    assert batch["text"].max() < vocab_size
    rows = {tuple(row) for row in batch["text"].tolist()}
    everything = [features["text"] for _, features in glyphs.splits(config.fonts)["train"]]
    assert rows == {tuple(glyphs.tokens_of(config, name).tolist()) for name in everything}
    spelled = [" ".join(words[token] for token in row if token) for row in sorted(rows)]
    assert {*spelled} == {" ".join(glyphs.words_of(name)) for name in everything}


def test_any_name_of_known_words_has_tokens():
    config = data.default("glyphs")
    config.text = "words"
    words = ("", *glyphs.vocabulary())
    tokens = glyphs.tokens_of(config, "latin small letter A with grave")
    assert [words[token] for token in tokens if token] == "LATIN SMALL LETTER A WITH GRAVE".split()
    assert glyphs.words_of("BRAILLE PATTERN DOTS-12") == ["BRAILLE", "PATTERN", "DOTS", "1", "2"]
    assert len(tokens) == glyphs.longest_name() == 12 and len(words) == pytest.approx(
        1897, rel=0.05
    )


@pytest.mark.parametrize(
    "name, said",
    [
        ("LATIN SMALL LETTER A WITH GRAVES", "no name has 'GRAVES' .did you mean 'GRAVE'"),
        ("", "'' has 0 words; expected 1 to 12"),
        ("A " * 13, "has 13 words; expected 1 to 12"),
    ],
)
def test_what_is_no_name_is_refused(name, said):
    config = data.default("glyphs")
    config.text = "words"
    with pytest.raises(UserError, match=said):
        glyphs.tokens_of(config, name)
    config.text = "none"
    with pytest.raises(UserError, match="names have tokens where it is 'words'"):
        glyphs.tokens_of(config, name)


@pytest.mark.parametrize(
    "key, value, said",
    [
        ("text", "word", "data.text is 'word'; it is none or words .did you mean 'words'"),
        ("label", "styles", "category, style or both .did you mean 'style'"),
    ],
)
def test_labels_and_texts_that_are_not_there(key, value, said):
    config = data.default("glyphs")
    config[key] = value
    with pytest.raises(UserError, match=said):
        data.outline(config)


def test_no_font_is_an_error_that_lists_them():
    with pytest.raises(UserError, match="no font matches Comic.*there are DejaVuSans, "):
        glyphs.chosen(("Comic",))


def test_some_images_are_read_again_and_again(small_glyphs):
    config, whole = small_glyphs.copy_and_resolve_references(), data.load(small_glyphs, "train")
    config.unique = 20
    some = data.load(config, "train")
    assert len(some) == some.spec["unique"] == 20 and some.fingerprint == whole.fingerprint
    found = {image.tobytes() for image in some.gather(np.arange(20))["image"]}
    assert len(found) == 20
    assert found <= {image.tobytes() for image in whole.gather(np.arange(len(whole)))["image"]}
    assert len(data.load(config, "validation")) == len(data.load(small_glyphs, "validation"))
