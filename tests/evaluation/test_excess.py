"""Bits above the truth are those of the model less those of the truth, on the same examples."""

import jax
import numpy as np
import pytest

from research import data, evaluation, programs
from research.data.sources import markov
from research.errors import UserError
from research.evaluation import batch_bits
from tests import shapes


@pytest.fixture(scope="module")
def uniform(tmp_path_factory):
    """A decoder of sixteen symbols before its first step: all are as likely."""
    config = shapes.autoregressive(zero_outputs=True)
    config.data.folder = str(tmp_path_factory.mktemp("chain"))
    config.evaluation.update(evaluators=("excess",), examples=200, batch_size=32)
    params = programs.build(config).init(jax.random.key(0))["params"]
    return config, params


def test_it_is_the_models_bits_less_the_truths_on_the_same_examples(uniform):
    config, params = uniform
    found = evaluation.scores(config, params)["excess"]
    own = evaluation.evaluate(config, params)["likelihood"]["value"]
    held = data.load(config.data, "validation")
    rows = np.concatenate(
        [b["tokens"][b["mask"] > 0] for b in data.eval_batches(held, 32, 200)]  # the last is short
    )
    truth = -markov.log_probability(config.data, rows).mean() / np.log(2) / config.data.length
    assert found["value"] == pytest.approx(own - truth, rel=1e-5)
    assert found["kind"] == "estimate" and found["examples"] == 200
    low, high = found["interval"]
    assert low < found["value"] < high and 0 < high - low < 0.5


def test_a_model_that_is_the_truth_has_none():
    """Batches of any size whose totals are the truth's own."""
    counts = np.array([8.0, 8.0, 3.0])
    found = batch_bits.ratio(np.zeros(3), counts, 19)
    assert found.value == 0 and found.interval == (0, 0)
    assert batch_bits.ratio(0.25 * counts, counts, 19).interval == pytest.approx((0.25, 0.25))
    assert batch_bits.ratio(np.ones(1), np.ones(1), 1).interval == (-np.inf, np.inf)


def test_what_has_no_truth_or_no_bits_is_refused(uniform):
    config, _ = uniform
    config = config.copy_and_resolve_references()
    config.data = data.default("python_stdlib")
    with pytest.raises(UserError, match="'python_stdlib' does not know; nearest valid: markov, "):
        evaluation.check(config, data.outline(config.data))
    config = shapes.autoregressive()
    config.evaluation.evaluators, config.family = ("excess",), "tests.dirac_gan"
    with pytest.raises(UserError, match="needs bits that are exact or an upper bound; .*distance"):
        evaluation.check(config, {})
