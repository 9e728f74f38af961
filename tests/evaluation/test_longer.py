"""Longer windows than those of training are of the same text, and rotary positions scale."""

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from research import data, evaluation
from research.errors import UserError
from research.evaluation import likelihood, longer, validation
from research.families import autoregressive
from research.models.attention import Where
from tests import shapes

VERSES = 7  # whose bytes make as many windows of 8 as twice those of 16


@pytest.fixture(scope="module")
def read(tmp_path_factory):
    """A config on text that windows of 8 and of 16 divide, its parameters, and its scores."""
    config = shapes.autoregressive(vocab=256, length=8, depth=1)
    config.data = data.default("tests.toys.verses")
    config.data.update(length=8, verses=VERSES, folder=str(tmp_path_factory.mktemp("data")))
    config.evaluation.update(batch_size=64, examples=1000, evaluators=("validation", "longer"))
    config.evaluation.update(lengths=(8, 16), scalings=("linear",))
    evaluation.check(config, data.outline(config.data))
    params = jax.jit(lambda key: autoregressive.init(config, key))(jax.random.key(0))
    params["head"] = jax.random.normal(jax.random.key(1), params["head"].shape)
    found = evaluation.scores(config, params)
    return config, params, {name: each["value"] for name, each in found.items()}


def test_windows_of_training_score_as_in_validation(read):
    _, _, values = read
    assert values["longer_8"] == pytest.approx(values["likelihood"], rel=1e-6)
    assert abs(values["longer_16"] - values["longer_8"]) > 1e-3
    assert [name for name in values if name.startswith("longer_position")] == [
        f"longer_position_{first}" for first in (1, 2, 4, 8, 16)
    ]


def test_octaves_make_up_the_longest_window(read):
    _, _, values = read
    shares = {1: 1, 2: 2, 4: 4, 8: 8, 16: 1}
    whole = sum(values[f"longer_position_{first}"] * share for first, share in shares.items()) / 16
    assert whole == pytest.approx(values["longer_16"], rel=1e-6)


def test_scaled_positions_are_those_between_the_trained_ones(read):
    """Linear scaling by two reads position p as p / 2 (Chen et al. 2023, equation 3)."""
    config, params, values = read
    source = longer.examples(config)
    tokens = jnp.array(source.gather(range(len(source)))["tokens"])

    @jax.jit
    def nats(params, tokens):
        where = Where(positions=jnp.arange(16) / 2)
        return autoregressive.cross_entropy(config, params, tokens, where)[0].mean()

    bits = float(nats(params, tokens) / np.log(2))
    assert values["longer_16_linear"] == pytest.approx(bits, rel=1e-5)
    assert abs(values["longer_16_linear"] - values["longer_16"]) > 1e-4


def test_every_token_is_predicted_once_at_every_length(read, monkeypatch):
    config, _, _ = read
    monkeypatch.setattr(likelihood, "nats", lambda c, p, batch: batch["tokens"][:, 1:] * 1.0)
    tokens = np.arange(3 * 17).reshape(3, 17)
    weights = np.arange(48.0).reshape(3, 16)
    batch = {"tokens": tokens, "mask": np.array([1.0, 1.0, 0.0]), "weights": weights}
    sums = longer.update(config, None, {k: jnp.array(v) for k, v in batch.items()}, None)
    total = (tokens[:2, 1:] * weights[:2]).sum() / np.log(2)
    for name in ("longer_8", "longer_16"):
        np.testing.assert_allclose(sums[name]["total"], total, rtol=1e-6)
        assert sums[name]["count"] == weights[:2].sum()


def test_lengths_are_multiples_of_that_of_training_by_default():
    config = shapes.autoregressive(vocab=16, length=8)
    assert longer.lengths(config) == (8, 16, 32, 64)
    names = [*validation.score_kinds(config), *longer.score_kinds(config)]
    assert {"longer_64", "longer_position_64"} < {*names}


REFUSED = [
    ({}, (8, 0), (), r"lengths=\(8, 0\): expected numbers of tokens, such as 16"),
    ({}, (8, 20), (), r"must be a multiple of the one before.*nearest valid to 20: 16"),
    ({}, (16, 8), (), r"nearest valid to 8: 32"),
    ({"positions": "learned"}, (8, 16), (), r"no trained vector beyond the .*length=8 of training"),
    ({"positions": "alibi"}, (8, 16), ("yarn",), "no layer has config.model.positions='rotary'"),
    ({}, (8, 16), ("yarm",), r"config.evaluation.scalings='yarm' is not one of .*'yarn'"),
]


@pytest.mark.parametrize("model, lengths, scalings, said", REFUSED)
def test_what_cannot_be_read_is_refused(model, lengths, scalings, said):
    config = shapes.autoregressive(vocab=16, length=8, **model)
    config.evaluation.update(evaluators=("longer",), lengths=lengths, scalings=scalings)
    with pytest.raises(UserError, match=said):
        evaluation.check(config, data.outline(config.data))


def test_chunks_that_do_not_divide_a_window_are_named_with_it():
    config = shapes.autoregressive(vocab=16, length=9)
    config.hardware.loss_chunks, config.evaluation.lengths = 9, (4, 8)
    config.evaluation.evaluators = ("longer",)
    with pytest.raises(UserError, match="lengths: 4 cannot be read: .*loss_chunks=9"):
        evaluation.check(config, data.outline(config.data))


def test_images_have_no_longer_windows():
    config = shapes.autoregressive(vocab=16, length=8)
    config.evaluation.evaluators = ("longer",)
    with pytest.raises(UserError, match="'longer' reads text"):
        evaluation.check(config, data.outline(data.default("glyphs")))
