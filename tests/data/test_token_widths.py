"""Tokens are read as they were stored, whatever integers they are, from the pack to the batch."""

import jax
import numpy as np
import pytest

from research import data, defaults, families, study
from research.data import pack, pipeline, source
from research.errors import UserError
from tests.toys import tokens16

DTYPES = ("uint8", "uint16", "uint32", "int32", "int64", ">u2")


def packed(folder, dtype, high):
    tokens = np.arange(1000, dtype=np.int64) * 7 % (high + 1)

    def fill(writer):
        for split in data.SPLITS:
            writer.append(split, "tokens", tokens.astype(dtype))

    return tokens, pack.ensure(folder, "wide", f"wide-{np.dtype(dtype).name}", {}, fill)


@pytest.mark.parametrize("dtype", DTYPES)
def test_windows_and_batches_of_every_width(tmp_path, dtype):
    high = 255 if dtype == "uint8" else 40_000
    tokens, found = packed(tmp_path, dtype, high)
    spec = source.text(9, high + 1, stride=5)
    split = source.open_split("train", found.arrays("train"), spec, "")
    assert len(split) == (1000 - 10) // 5 + 1
    for index in (0, 1, len(split) - 1):
        window = split[index]["tokens"]
        assert window.dtype == np.int32
        np.testing.assert_array_equal(window, tokens[5 * index : 5 * index + 10])
    (batch,) = list(pipeline.eval_batches(split, 4, 4))
    np.testing.assert_array_equal(batch["tokens"][0], tokens[:10])
    seen = next(pipeline.batches(split, 8, seed=1))["tokens"]
    assert {tuple(row) for row in seen} <= {tuple(tokens[5 * i : 5 * i + 10]) for i in range(199)}
    assert found.meta["vocab_size"] == tokens.max() + 1


@pytest.fixture
def wide(tmp_path):
    """A run on the toy source of 16-bit tokens, given by its dotted path."""
    config = defaults.config("autoregressive", "tests.toys.tokens16")
    config.data.folder, config.recipe = str(tmp_path), "fixed"
    config.train.update(steps=1, batch_size=8, learning_rate=0.1, warmup_steps=0, decay_steps=0)
    config.model.update(width=8, depth=1, num_heads=1, vocab_size=40_000)
    config.evaluation.batch_size = 8
    return config


def test_a_source_of_one_file_comes_with_what_lies_beside_its_tokens(wide):
    loaded = data.load(wide.data, "train")
    assert loaded.arrays["tokens"].dtype == np.uint16 and loaded.spec["unit"] == "tokens"
    batch = loaded.gather(np.arange(len(loaded)))
    shapes = {name: (value.shape, value.dtype) for name, value in batch.items()}
    assert shapes == data.batch_shapes(data.outline(wide.data), len(loaded))
    assert batch["tokens"].max() > 255
    # Positions and segments are those of the tokens read, weights those of the tokens predicted.
    steps = np.diff(batch["tokens"]) % 40_000
    inside = batch["weights"] == 1
    assert (steps == batch["segments"] + 1)[inside].all()
    assert (batch["positions"][~inside] == 4 * wide.data.length - 1).all() and not inside.all()


def test_a_model_with_too_few_symbols_is_refused(wide):
    wide.model.vocab_size = 256
    with pytest.raises(UserError, match="vocab_size=256 is too small for the 40000 symbols"):
        study.check(wide)


def test_a_token_outside_the_vocabulary_is_refused(wide, monkeypatch):
    monkeypatch.setattr(tokens16, "outline", lambda data: source.text(data["length"], 300))
    with pytest.raises(UserError, match=r"holds token \d+, which is outside the 300 symbols of"):
        data.load(wide.data, "train")


def test_a_module_that_is_no_source_says_what_it_lacks(wide, monkeypatch):
    with pytest.raises(UserError, match="data.name='tests.toys.absent': No module named"):
        data.default("tests.toys.absent")
    monkeypatch.delattr(tokens16, "fill")
    with pytest.raises(UserError, match="data.name='tests.toys.tokens16' lacks fill"):
        data.default("tests.toys.tokens16")


@pytest.mark.parametrize(
    "arrays, said",
    [
        ({"tokens": np.ones(99)}, "tokens are integers in one row"),
        ({"tokens": np.ones((9, 9), np.uint8)}, "tokens are integers in one row"),
        ({"tokens": np.ones(99, bool)}, "tokens are integers in one row"),
        ({"tokens": np.ones(99, int)}, "has no array 'weights'; it has tokens"),
        ({"tokens": np.ones(99, int), "weights": np.ones(98)}, r"weights \[98\] beside 99 tokens"),
    ],
)
def test_what_is_not_as_the_outline_says(arrays, said):
    beside = ("weights",) if arrays["tokens"].dtype == int else ()
    with pytest.raises(UserError, match=said):
        source.open_split("train", arrays, source.text(9, 256, beside=beside), "")


@pytest.mark.parametrize("dtype, token", [(np.int32, -1), (np.uint32, 2**31), (np.int64, 2**40)])
def test_no_token_is_outside_32_bits(tmp_path, dtype, token):
    with pytest.raises(UserError, match=f"the train split has token {token}; tokens are 0 to"):
        pack.Writer(tmp_path).append("train", "tokens", np.array([3, token], dtype))


def test_weights_decide_the_loss_and_the_score(wide):
    """Nats of weight 0 do not count; the score does not depend on the weights' scale."""
    wide.model.vocab_size = wide.data.vocab_size = 64
    family, key = families.load(wide.family), jax.random.key(0)
    batch = data.load(wide.data, "train").gather(np.arange(4))
    weights = np.random.default_rng(0).integers(0, 3, (4, 16)).astype(np.float32)
    scored = batch | {"mask": np.array([1, 1, 1, 0], np.float32)}

    @jax.jit
    def measure(key):
        params = family.init(wide, key)
        params = jax.tree.map(lambda x: x + 0.1 * jax.random.normal(key, x.shape), params)
        nats, _ = family.cross_entropy(wide, params, batch["tokens"])
        loss, _ = family.loss(wide, params, batch | {"weights": weights}, key, 0)
        bits = family.score(wide, params, scored | {"weights": 7 * weights}, key)
        return nats, loss, bits["likelihood"]

    nats, loss, found = measure(key)
    np.testing.assert_allclose(loss, np.mean(nats * weights), rtol=1e-6)
    expected = (nats * weights)[:3].sum() / weights[:3].sum() / np.log(2)
    np.testing.assert_allclose(found["total"] / found["count"], expected, rtol=1e-5)
