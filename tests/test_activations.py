"""How large activations are, as an evaluator says it, against what a fresh network makes."""

import jax
import numpy as np
import pytest

from research import data, evaluation, programs
from research.errors import UserError
from research.evaluation import activations
from tests import shapes, tiny


def scored(config, examples=12, size=8):
    """What the evaluator says of fresh parameters, and these."""
    config.evaluation.update(evaluators=("activations",), examples=examples, batch_size=size)
    params = programs.build(config).init(jax.random.key(0))["params"]
    found = evaluation.evaluate(config, params, "activations")
    return {name: each["value"] for name, each in found.items()}, params


def test_a_fresh_decoder_carries_its_embeddings():
    """Blocks that begin at zero add nothing to the stream, nor does a head give logits."""
    config = shapes.autoregressive(zero_outputs=True)
    found, params = scored(config)
    source = data.load(config.data, "validation")
    (batch,) = data.eval_batches(source, 12, 12)
    rows = np.asarray(params["embedding"], np.float64)[batch["tokens"][:, :-1]]
    assert found["activations_stream"] == pytest.approx(np.sqrt(np.square(rows).mean()), rel=1e-6)
    assert found["activations_output"] == 0
    again, _ = scored(config, size=16)  # padding does not count
    assert again == pytest.approx(found, rel=1e-6)


def test_a_fresh_dit_predicts_nothing_of_what_it_carries():
    found, _ = scored(shapes.diffusion())
    assert found["activations_output"] == 0 and found["activations_stream"] > 0.1


def test_a_family_without_activations_is_refused():
    config = shapes.autoregressive()
    config.family = tiny.__name__
    with pytest.raises(UserError, match=r"config.family='tests.tiny' gives no activations"):
        activations.check(config, {})
