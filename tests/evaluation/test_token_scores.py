"""Scores of tokens by where they stand and where they are from, and of how sure the network is."""

import sys
import types
from typing import Any

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from research import data, evaluation, study
from research.errors import UserError
from research.evaluation import by_position, by_source, calibration, likelihood, validation
from research.families import autoregressive
from tests import shapes

EVALUATORS = validation, by_position, by_source, calibration


def all_at_once(monkeypatch) -> str:
    """The name of an evaluator that is all of them, compiled as one."""
    module: Any = types.ModuleType("shown_together")
    module.update = lambda *given: [each.update(*given) for each in EVALUATORS]

    def finish(config, sums):
        pairs = zip(EVALUATORS, sums, strict=True)
        return {name: v for each, s in pairs for name, v in each.finish(config, s).items()}

    def kinds(config):
        return {n: k for e in EVALUATORS for n, k in e.score_kinds(config).items()}

    module.finish, module.score_kinds = finish, kinds
    monkeypatch.setitem(sys.modules, "shown.together", module)
    return "shown.together"


@pytest.fixture(scope="module")
def mixture(tmp_path_factory):
    """A config over the toy mixture, and parameters whose head is not even."""
    config = shapes.autoregressive(vocab=16, length=8, depth=1)
    config.data = data.default("tests.toys.two_sources")
    config.data.folder = str(tmp_path_factory.mktemp("data"))
    names = ("validation", "by_position", "by_source", "calibration")
    config.evaluation.update(batch_size=8, examples=12, evaluators=names)
    study.check(config)
    params = jax.jit(lambda key: autoregressive.init(config, key))(jax.random.key(0))
    params["head"] = jax.random.normal(jax.random.key(1), params["head"].shape)
    return config, params


def test_octaves_and_sources_make_up_the_score(mixture, monkeypatch):
    config, params = mixture
    found = evaluation.evaluate(config, params, all_at_once(monkeypatch))
    values = {name: each["value"] for name, each in found.items()}
    assert [name for name in found if name.startswith("position")] == [
        "position_1", "position_2", "position_4", "position_8",
    ]  # fmt: skip
    # One of 8 positions, two, four and the last one.
    shares = {"position_1": 1, "position_2": 2, "position_4": 4, "position_8": 1}
    whole = sum(values[name] * share for name, share in shares.items()) / 8
    assert whole == pytest.approx(values["likelihood"], rel=1e-6)
    halves = values["source_up"], values["source_down"]
    assert np.mean(halves) == pytest.approx(values["likelihood"], rel=1e-6)
    assert abs(halves[0] - halves[1]) > 0.01
    batch = next(data.eval_batches(data.load(config.data, "validation"), 12))
    logits = np.asarray(jax.jit(lambda *given: likelihood.logits(config, *given))(params, batch))
    chosen_BxL = np.take_along_axis(logits, batch["tokens"][:, 1:, None], -1)[..., 0]
    bits_BxL = (np.logaddexp.reduce(logits, -1) - chosen_BxL) / np.log(2)
    assert halves[0] == pytest.approx(bits_BxL[::2].mean(), rel=1e-5)
    assert values["position_2"] == pytest.approx(bits_BxL[:, 1:3].mean(), rel=1e-5)
    assert found["position_1"]["examples"] == 12 and found["position_1"]["unit"] == "bits/token"
    assert values["accuracy"] == np.mean(logits.argmax(-1) == batch["tokens"][:, 1:])
    sure_BxL = np.exp(logits.max(-1) - np.logaddexp.reduce(logits, -1))
    assert values["confidence"] == pytest.approx(sure_BxL.mean(), 1e-5)


def batch_of(tokens, mask=None, **beside):
    return {
        "tokens": jnp.array(tokens),
        "mask": jnp.ones(len(tokens)) if mask is None else mask,
    } | {name: jnp.array(each) for name, each in beside.items()}


def test_an_even_guess_costs_the_same_everywhere(mixture, monkeypatch):
    config, _ = mixture
    monkeypatch.setattr(likelihood, "nats", lambda *_: jnp.full((2, 8), jnp.log(16.0)))
    batch = batch_of(np.zeros((2, 9), np.int32), source=[0, 0])
    sums = jax.tree.map(np.asarray, by_position.update(config, None, batch, None))
    assert list(by_position.finish(config, sums).values()) == pytest.approx([4.0] * 4)
    assert sums["count"].tolist() == [2, 4, 8, 2]
    sums = jax.tree.map(np.asarray, by_source.update(config, None, batch, None))
    up, down = by_source.finish(config, sums).values()
    assert up == pytest.approx(4) and np.isnan(down)


def test_positions_are_those_of_packed_documents(mixture, monkeypatch):
    config, _ = mixture
    nats = np.arange(1, 9, dtype=np.float32)[None].repeat(2, 0)
    monkeypatch.setattr(likelihood, "nats", lambda *_: jnp.array(nats))
    positions = [[0, 1, 2, 0, 1, 2, 3, 0], [20, 21, 22, 23, 24, 25, 26, 27]]
    batch = batch_of(np.zeros((2, 9), np.int32), jnp.array([1.0, 1.0]), positions=positions)
    sums = by_position.update(config, None, batch, None)
    np.testing.assert_allclose(sums["count"], [3, 4, 1, 8])  # what is beyond is in the last one
    np.testing.assert_allclose(sums["total"] * jnp.log(2.0), [13, 16, 7, 36], rtol=1e-6)


def test_calibration_of_predictors_made_by_hand(mixture, monkeypatch):
    """Two tokens at 0.9, one of them right, and two at 0.6 that are: (2 x 0.4 + 2 x 0.4) / 4.

    One that is sure to 0.75 and right three times of four is calibrated.
    """
    config, _ = mixture
    sure = jnp.array([[0.9, 0.9, 0.6, 0.6], [0.75, 0.75, 0.75, 0.75]])
    logits = jnp.log(jnp.stack([sure, 1 - sure], -1))
    monkeypatch.setattr(likelihood, "logits", lambda *_: logits)
    tokens, found = [[1, 0, 1, 0, 0], [0, 0, 1, 0, 0]], []
    for mask in ([1.0, 0.0], [0.0, 1.0]):
        sums = calibration.update(config, None, batch_of(tokens, jnp.array(mask)), None)
        found.append(calibration.finish(config, jax.tree.map(np.asarray, sums)))
    wrong = {"calibration_error": 0.4, "accuracy": 0.75, "confidence": 0.75}
    assert found[0] == pytest.approx(wrong, rel=1e-6)
    right = {"calibration_error": 0.0, "accuracy": 0.75, "confidence": 0.75}
    assert found[1] == pytest.approx(right, abs=1e-6)


REFUSED = [
    ("by_source", "'by_source' needs a mixture"),
    ("choice", "'choice' asks in text"),
    ("completion", "'completion' asks in text.*markov' spell none"),
    ("docstrings", "'docstrings' asks in text"),
    ("overlap", "length=8 is too short for evaluator 'overlap'.*nearest valid: 32"),
    ("by_postion", "did you mean 'by_position'"),
]


@pytest.mark.parametrize("name, said", REFUSED)
def test_evaluators_that_cannot_judge_are_refused(name, said):
    config = shapes.autoregressive(vocab=16, length=8)
    config.evaluation.evaluators = (name,)
    with pytest.raises(UserError, match=said):
        evaluation.check(config, data.outline(config.data))


def test_another_task_than_the_next_token_is_refused():
    config = shapes.autoregressive(vocab=16, length=8)
    config.model.objective = "masked"
    config.evaluation.evaluators = ("calibration",)
    with pytest.raises(UserError, match="'calibration' judges each token by those before it"):
        evaluation.check(config, data.outline(config.data))


def test_images_have_no_positions():
    config = shapes.diffusion()
    for name in ("by_position", "calibration", "overlap"):
        config.evaluation.evaluators = (name,)
        with pytest.raises(UserError, match=f"'{name}' reads text; .*gaussian_mixture' gives imag"):
            evaluation.check(config, data.outline(config.data))
