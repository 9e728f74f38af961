"""Bounds of a likelihood: each with its kind and interval, and an error where they cross."""

import importlib
import sys

import jax
import numpy as np
import pytest

from research import evaluation, programs, study
from research.errors import UserError
from tests import shapes, tiny

BOUNDED = """
import jax
from jax import numpy as jnp
from tests.tiny import *

ABOVE, BELOW = {above}, {below}

def bound_kinds(config):
    return {{"true": "estimate", "above": "upper bound", "below": "lower bound"}}

def before_bounds(config, params, key):
    return jnp.float32(0.25)

def bounds(config, params, batch, key, shared):
    nats_B = tiny_nats(config, params, batch)
    noise_B = jax.random.normal(key, nats_B.shape) * shared
    return {{"true": nats_B, "above": nats_B + ABOVE + noise_B, "below": nats_B - BELOW}}

def tiny_nats(config, params, batch):
    one = lambda row: score(config, params, {{"tokens": row[None], "mask": jnp.ones(1)}}, None)
    total = jax.vmap(one)(batch["tokens"])["likelihood"]["total"]
    return total * jnp.log(2.0)
"""


@pytest.fixture
def bounded(tmp_path, monkeypatch):
    def found(above, below):
        (tmp_path / "bounded.py").write_text(BOUNDED.format(above=above, below=below))
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, "bounded", raising=False)
        monkeypatch.setitem(sys.modules, "bounded.family", importlib.import_module("bounded"))
        spec = tiny.write(tmp_path, [{"train.steps": 12}], family="bounded.family")
        flags = ["--config.train.steps=12", "--config.evaluation.evaluators=('likelihood_bounds',)"]
        config = study.load_config(spec, flags)
        params = programs.build(config).init(jax.random.key(0))["params"]
        return config, params

    return found


def test_truth_lies_between_and_the_gap_is_what_is_between(bounded):
    config, params = bounded(above=0.8, below=0.4)
    scores = evaluation.scores(config, params)
    exact = evaluation.evaluate(config, params, "validation")["likelihood"]["value"]
    assert scores["true"]["value"] == pytest.approx(exact, rel=1e-5)
    assert scores["below"]["value"] < exact < scores["above"]["value"]
    assert scores["above"]["kind"] == "upper bound" and scores["below"]["kind"] == "lower bound"
    nat = 1 / (np.log(2) * config.data.length)
    low, high = scores["bounds_gap"]["interval"]
    assert 0 < abs(scores["bounds_gap"]["value"] - 1.2 * nat) < high - low  # by chance, not by much
    assert scores["below"]["value"] == pytest.approx(exact - 0.4 * nat, rel=1e-5)


def test_bounds_that_cross_are_an_error_of_ours(bounded):
    config, params = bounded(above=-0.8, below=-0.4)
    with pytest.raises(UserError, match=r"the bounds cross: above is .* and below is .*an error"):
        evaluation.scores(config, params)


def test_a_family_without_bounds_has_its_scores(tmp_path):
    config = shapes.autoregressive()
    config.data.folder = str(tmp_path)
    config.evaluation.evaluators = ("validation", "likelihood_bounds")
    evaluation.check(config, {})
    params = programs.build(config).init(jax.random.key(0))["params"]
    found = evaluation.scores(config, params)
    assert found["bounds_likelihood"]["kind"] == "exact" and "bounds_gap" not in found
    assert found["bounds_likelihood"]["value"] == pytest.approx(found["likelihood"]["value"])
    low, high = found["bounds_likelihood"]["interval"]
    assert low <= found["likelihood"]["value"] <= high  # as a fresh network finds all alike


def test_a_family_that_bounds_nothing_is_refused():
    config = shapes.autoregressive()
    config.evaluation.evaluators, config.family = ("likelihood_bounds",), "tests.dirac_gan"
    with pytest.raises(UserError, match="'tests.dirac_gan' has neither them nor a score that is"):
        evaluation.check(config, {})
