"""Any TFDS data set goes through the same pipeline: its first image or text feature."""

import numpy as np
import pytest
import tensorflow_datasets as tfds

from research import data, sample
from research.__main__ import main
from research.data import imaging, settings
from research.data.sources import foreign
from research.errors import UserError
from research.run import record


class IsoflopTestWords(tfds.core.GeneratorBasedBuilder):
    """Sixty short texts, and a test split."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {"id": tfds.features.Scalar(np.int64), "line": tfds.features.Text()}
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(60), "test": self._generate_examples(9)}

    def _generate_examples(self, count):
        for i in range(count):
            yield i, {"id": i, "line": f"line {i} of {count}"}


class IsoflopTestPictures(tfds.core.GeneratorBasedBuilder):
    """Colour pictures of two sizes with labels, all in one split."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {
            "picture": tfds.features.Image(shape=(None, None, 1), encoding_format="png"),
            "kind": tfds.features.ClassLabel(names=["wide", "square"]),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for i in range(40):
            shape = (8, 12) if i % 2 else (8, 8)
            picture = imaging.png(np.full(shape, i, np.uint8))
            yield i, {"picture": picture, "kind": "wide" if i % 2 else "square"}


class IsoflopTestNeedsTensorflow(tfds.core.GeneratorBasedBuilder):
    """A builder that imports a package which is not here."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {"line": tfds.features.Text()}
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        import tensorflow_that_is_missing  # noqa: F401 # pyright: ignore

    def _generate_examples(self):
        yield 0, {"line": ""}


def config(name, tmp_path, **changes):
    made = data.default(name)
    made.update(folder=str(tmp_path), **changes)
    return made


def test_text_is_read_as_bytes_and_a_missing_split_is_taken_from_train(tmp_path):
    chosen = config("isoflop_test_words", tmp_path, length=4)
    lines = {
        split: data.load(chosen, split).arrays["tokens"].tobytes().decode().split("\0")[:-1]
        for split in data.SPLITS
    }
    assert sorted(lines["train"] + lines["validation"]) == sorted(
        f"line {i} of 60" for i in range(60)
    )
    assert len(lines["validation"]) == 3
    assert sorted(lines["test"]) == [f"line {i} of 9" for i in range(9)]
    spec = data.load(chosen, "train").spec
    assert spec["unit"] == "tokens" and spec["bytes_per_token"] == 1


def test_its_text_is_tokenized(tmp_path):
    plain = data.load(config("isoflop_test_words", tmp_path, length=4), "train")
    chosen = config("isoflop_test_words", tmp_path, length=4, tokenizer="bpe", vocab=262)
    found = data.load(chosen, "train").arrays["tokens"]
    assert data.tokenizer(chosen).decode(found) == plain.arrays["tokens"].tobytes()
    assert len(found) < len(plain.arrays["tokens"])


def test_images_are_read_with_their_labels(tmp_path):
    chosen = config("isoflop_test_pictures", tmp_path, resolution=4)
    seen = []
    for split in data.SPLITS:
        source = data.load(chosen, split)
        assert source.spec["shape"] == (4, 4, 1)
        for index in range(len(source)):
            example = source[index]
            (level,) = np.unique(example["image"])
            assert source.spec["class_names"][example["label"]] == ["square", "wide"][level % 2]
            seen.append(int(level))
    assert sorted(seen) == list(range(40))


@pytest.mark.parametrize(
    "name, changes, message",
    [
        ("isoflop_test_pictures", {}, "differ in size; give data.resolution"),
        ("isoflop_test_words", {"feature": "lines"}, r"data.feature is 'lines'; .*mean 'line'\?"),
        ("isoflop_test_needs_tensorflow", {}, "TFDS needs tensorflow_that_is_missing to prepare"),
    ],
)
def test_what_cannot_be_prepared_says_why(tmp_path, name, changes, message):
    with pytest.raises(UserError, match=message) as caught:
        data.load(config(name, tmp_path, **changes), "train")
    assert "\n" not in str(caught.value)
    assert not [f for f in (tmp_path / "packed").iterdir()]


def test_without_a_network_a_download_is_refused_at_once(tmp_path, monkeypatch):
    from research.data import builders

    monkeypatch.setattr(builders, "reachable", lambda urls: not list(urls))
    with pytest.raises(UserError, match="must download lm1b and no network is reachable"):
        data.load(config("lm1b", tmp_path), "train")


def test_a_misspelt_name_of_tfds_is_hinted():
    with pytest.raises(UserError, match=r"did you mean 'isoflop_test_words'\?"):
        foreign.check_name("isoflop_test_word", settings.names())


STUDY = '''
"""Does text of TFDS train?"""
import tensorflow_datasets as tfds

from research import defaults


class IsoflopTestLines(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = tfds.features.FeaturesDict({{"line": tfds.features.Text()}})
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, dl_manager):
        return {{"train": self._generate_examples()}}

    def _generate_examples(self):
        for i in range(60):
            yield i, {{"line": f"line {{i}}"}}


PARTS = {{
    "words": {{
        "title": "Words", "family": "autoregressive", "data": "isoflop_test_lines",
        "unit": "bits/byte", "data_unit": "tokens",
    }}
}}


def get_config(part):
    config = defaults.config("autoregressive", "isoflop_test_lines")
    config.part, config.recipe = part, "fixed"
    config.data.update(folder={folder!r}, length=8)
    config.model.update(width=8, depth=1, num_heads=1)
    config.train.update(steps=2, batch_size=8, learning_rate=0.1, warmup_steps=0, decay_steps=0)
    config.evaluation.update(batch_size=8, examples=8)
    return config


def get_trials(part):
    return [{{"size": 8}}]
'''


@pytest.mark.slow
def test_its_text_is_swept_sampled_and_reported(tmp_path, capsys):
    """Its source has a key of images too; and to read the run, the builder need not be known."""
    path, folder = tmp_path / "lines.py", tmp_path / "runs" / "lines"
    path.write_text(STUDY.format(folder=str(tmp_path)))
    assert main(["sweep", "--config", str(path), "--workdir", str(folder.parent)]) == 0
    run = folder / "words-size8"
    result = record.read_json(run / "result.json")
    assert result["score"]["unit"] == "bits/byte" and result["data"]["unit"] == "tokens"
    assert (run / "samples.txt").stat().st_size
    with pytest.raises(UserError, match="samples need a name ending in .txt"):
        sample.write(run, 2, out=tmp_path / "samples.png")
    with pytest.raises(UserError, match="ending in .png or .txt"):
        sample.write(run, 2, out=tmp_path / "samples.gif")
    stored = record.read_json(run / "config.json")
    stored["data"]["name"] = "registered_elsewhere"
    record.write_json(run / "config.json", stored)
    words = ["sample", "--run", str(run), "--num", "2", "--out", str(tmp_path / "new.txt")]
    assert main(words) == 0 and main(["report", str(folder)]) == 0, capsys.readouterr().err
    assert (tmp_path / "new.txt").stat().st_size and (folder / "report.html").stat().st_size


def test_tokens_that_are_no_bytes_are_written_as_numbers():
    assert sample.to_text(np.array([[0, 300], [7, 65535]])) == "0 300\n7 65535\n"
    assert sample.to_text(np.array([[0, 104, 105]])) == "hi\n"
