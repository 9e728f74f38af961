"""A mistake in a data config is one line that names the key and the nearest valid choice."""

import argparse
import json

import pytest

from research import data
from research.data import command
from research.errors import UserError

WRONG = [
    ("markov", {"lenght": 3}, r"data.lenght is not a key of markov \(did you mean 'length'\?\)"),
    ("markov", {"length": 0}, "data.length is 0; it must be at least 1"),
    ("markov", {"length": 2.5}, "data.length is 2.5; expected int, such as 128"),
    ("markov", {"length": "long"}, "data.length is 'long'; expected int"),
    ("markov", {"length": 10**6}, r"data.length is 1000000, longer than data.validation_tokens"),
    ("markov", {"vocab_size": 1}, "data.vocab_size is 1; a Markov chain has 2 to 256 symbols"),
    ("markov", {"vocab_size": 257}, "data.vocab_size is 257"),
    ("markov", {"order": 0}, "data.order is 0; it must be at least 1"),
    ("markov", {"order": 6}, r"data.order is 6 with data.vocab_size 16: .*16\^7 probabilities"),
    ("markov", {"concentration": 0.0}, "data.concentration is 0.0; it must be in"),
    ("markov", {"seed": -1}, "data.seed is -1; it must be from 0"),
    ("markov", {"tokens": 0}, "data.tokens is 0; it must be at least 1"),
    ("gaussian_mixture", {"resolution": 1}, "data.resolution is 1; a Gaussian mixture has 2 to"),
    ("gaussian_mixture", {"rank": -1}, "data.rank is -1; it must be from 0 to 64"),
    ("gaussian_mixture", {"rank": 65}, "data.rank is 65; it must be from 0 to 64"),
    ("gaussian_mixture", {"noise": 0.0}, "data.noise is 0.0; it must be above 0"),
    ("gaussian_mixture", {"noise": 1.0}, "data.noise is 1.0; it must be above 0 and below 1"),
    ("gaussian_mixture", {"components": 0}, "data.components is 0; it must be at least 1"),
    ("glyphs", {"resolution": 24}, r"data.resolution is 24; glyphs has 8, 16, 28 and 32"),
    ("glyphs", {"resolution": 31}, r"nearest: 32"),
    ("glyphs", {"label": "styel"}, r"data.label is 'styel'; .*did you mean 'style'\?"),
    ("glyphs", {"fonts": ()}, r"data.fonts is \(\); expected a tuple of patterns"),
    ("glyphs", {"fonts": ("Comic*",)}, r"data.fonts: no font matches Comic\*; there are Deja"),
    ("glyphs", {"order": 1}, "data.order is not a key of glyphs"),
    ("glyphs", {"unique": -1}, "data.unique is -1; expected 0, for all images, or more"),
    ("fashion_mnist", {"resolution": 64}, r"fashion_mnist has 8, 16, 28 and 32 \(nearest: 32\)"),
    ("python_stdlib", {"include_tests": 1}, "data.include_tests is 1; expected bool"),
    ("python_stdlib", {"files": ("no/such/*",)}, r"data.files: no source file of .* no/such/\*"),
    ("python_stdlib", {"unique": 127}, "data.unique is 127; expected 0, .* a window of 128"),
    ("python_stdlib", {"unique": -1}, "data.unique is -1; expected 0"),
    ("python_stdlib", {"name": "pyton_stdlib"}, r"did you mean 'python_stdlib'\?"),
    ("python_stdlib", {"name": "zzzz"}, "data.name is 'zzzz', which is neither python_stdlib"),
    ("python_stdlib", {"name": None}, "data.name is missing; it is one of python_stdlib"),
]


@pytest.mark.parametrize("name, changes, message", WRONG)
def test_a_wrong_config_is_one_clear_line(tmp_path, name, changes, message):
    config = dict(data.default(name)) | {"folder": str(tmp_path / "data")} | changes
    with pytest.raises(UserError, match=message) as caught:
        data.load(config, "train")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "data").exists()  # refused before anything is written


def test_a_missing_key_is_named(small_chain):
    given = dict(small_chain)
    del given["order"]
    with pytest.raises(UserError, match="data.order is missing"):
        data.load(given, "train")


def test_an_unknown_split_is_refused(small_chain):
    with pytest.raises(UserError, match=r"split 'valid' .*\(did you mean 'validation'\?\)"):
        data.load(small_chain, "valid")


def test_a_window_longer_than_the_split(small_text):
    config = small_text.copy_and_resolve_references()
    config.length = 10**7
    with pytest.raises(UserError, match=r"data.length is 10000000, longer than the train split"):
        data.load(config, "train")


def test_a_split_without_an_image_is_refused(tmp_path):
    config = data.default("glyphs")
    config.folder, config.fonts = str(tmp_path), ("DejaVuSerifDisplay",)
    assert data.describe(config)["splits"].keys() == {"train", "validation"}
    with pytest.raises(UserError, match="nothing of glyphs falls into the test split"):
        data.load(config, "test")


def test_an_unwritable_folder_is_named(small_chain, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    small_chain.folder = str(tmp_path / "file" / "data")
    with pytest.raises(UserError, match="file/data cannot be written: Not a directory"):
        data.load(small_chain, "train")


def test_a_config_read_back_from_json_is_the_same(small_glyphs):
    again = json.loads(json.dumps(dict(small_glyphs)))  # tuples come back as lists
    assert data.fingerprint(again) == data.fingerprint(small_glyphs)


@pytest.mark.parametrize("name", data.names())
def test_defaults_are_complete_and_valid(name):
    config = data.default(name)
    assert config.name == name and config.folder == "data"
    assert data.check(config) == dict(config)


def test_the_data_verb_prints_a_table(tmp_path, capsys):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    args = parser.parse_args(["gaussian_mixture", "--folder", str(tmp_path)])
    assert command.run(args) == 0
    lines = capsys.readouterr().out.splitlines()
    config = data.default("gaussian_mixture")
    config.folder = str(tmp_path)
    described = data.describe(config)
    assert lines[-4].split() == ["name", "split", "examples", "tokens/images", "floor",
                                 "fingerprint"]  # fmt: skip
    assert lines[-3].split() == [
        "gaussian_mixture",
        "train",
        "20,000",
        "20,000",
        f"{described['floor']['value']:.4f}",
        "bits/dim",
        described["fingerprint"][:16],
    ]
    assert lines[-1].split() == ["test", "4,000", "4,000"]
