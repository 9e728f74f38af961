"""Tokens are read as they were stored, whatever integers they are, from the pack to the batch."""

import numpy as np
import pytest

from research import data, defaults, study
from research.data import pack, pipeline, prepare, source
from research.errors import UserError

DTYPES = ("uint8", "uint16", "int32", "int64", ">u2")


def packed(folder, dtype, high):
    tokens = np.arange(1000, dtype=np.int64) * 7 % (high + 1)

    def fill(writer):
        writer.facts["kind"] = "text"
        for split in data.SPLITS:
            writer.append(split, "tokens", tokens.astype(dtype))

    return tokens, pack.ensure(folder, "wide", f"wide-{np.dtype(dtype).name}", {}, fill)


@pytest.mark.parametrize("dtype", DTYPES)
def test_windows_and_batches_of_every_width(tmp_path, dtype):
    high = 255 if dtype == "uint8" else 40_000
    tokens, found = packed(tmp_path, dtype, high)
    arrays, spec = source.text(found.arrays("train")["tokens"], "train", 9, high + 1, "", 5)
    split = source.Source("text", "train", arrays, spec, "")
    assert len(split) == (1000 - 10) // 5 + 1
    for index in (0, 1, len(split) - 1):
        window = split[index]["tokens"]
        assert window.dtype == np.int32
        np.testing.assert_array_equal(window, tokens[5 * index : 5 * index + 10])
    (batch,) = list(pipeline.eval_batches(split, 4, 4))
    np.testing.assert_array_equal(batch["tokens"][0], tokens[:10])
    seen = next(iter(pipeline.batches(split, 8, seed=1)))["tokens"]
    assert {tuple(row) for row in seen} <= {tuple(tokens[5 * i : 5 * i + 10]) for i in range(199)}
    assert found.meta.get("vocab_size") == (None if dtype == "uint8" else tokens.max() + 1)


def test_a_wide_source_through_the_front_door(tmp_path, monkeypatch):
    """The vocabulary is what is stored; a model with too small a one is refused."""
    config = defaults.config("autoregressive", "python_stdlib")
    config.data.update(folder=str(tmp_path), length=9)
    tokens, found = packed(tmp_path, np.uint16, 40_000)
    monkeypatch.setattr(prepare, "prepare", lambda _: found)
    loaded = data.load(config.data, "train")
    assert loaded.spec["vocab_size"] == tokens.max() + 1 and loaded.spec["unit"] == "bits/token"
    config.recipe = "fixed"
    config.train.update(steps=1, batch_size=8, learning_rate=0.1, warmup_steps=0, decay_steps=0)
    config.model.update(width=8, depth=1, num_heads=1, vocab_size=256)
    config.evaluation.batch_size = 8
    with pytest.raises(UserError, match="vocab_size=256 is too small for the 6994 symbols"):
        study.check(config)


@pytest.mark.parametrize("array", [np.ones(99), np.ones((9, 9), np.uint8), np.ones(99, bool)])
def test_what_are_no_tokens(array):
    with pytest.raises(UserError, match="tokens are integers in one row"):
        source.text(array, "train", 9, 256, "", 9)


def test_no_token_is_negative(tmp_path):
    with pytest.raises(ValueError, match="token -1 is negative"):
        pack.Writer(tmp_path).append("train", "tokens", np.array([3, -1], np.int32))
