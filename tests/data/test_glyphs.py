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


def test_no_font_is_an_error_that_lists_them():
    with pytest.raises(UserError, match="no font matches Comic.*there are DejaVuSans, "):
        glyphs.chosen(("Comic",))
