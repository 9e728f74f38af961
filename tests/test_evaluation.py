"""Scores along a run and at its end, by evaluators of ours and of others."""

import sys
import types

import jax
import numpy as np
import pytest

from research import evaluation, programs, study
from research.errors import UserError
from research.run.rows import read_rows
from research.train import train
from tests import tiny

FLAGS = ["--config.evaluation.every_steps=6", "--config.evaluation.steps=(2,)"]
BOTH = "--config.evaluation.evaluators=('validation','training')"


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    return tiny.write(tmp_path_factory.mktemp("study"), [{"train.steps": 12}])


def config(spec, *flags):
    return study.load_config(spec, ["--config.train.steps=12", *flags])


def test_scores_along_a_run_are_those_of_its_states(spec, tmp_path):
    scored = config(spec, *FLAGS, BOTH)
    result = train(scored, tmp_path / "scored")
    rows = {row["step"]: row for row in read_rows(tmp_path / "scored" / "metrics.jsonl")}
    assert {step for step, row in rows.items() if "score" in row} == {2, 6, 12}
    assert rows[12]["score"] == result["score"]["value"]
    assert (
        rows[12]["score_training_likelihood"] == (result["scores"]["training_likelihood"]["value"])
    )
    assert list(result["scores"]) == ["likelihood", "training_likelihood"]
    assert result["scores"]["likelihood"] == result["score"]
    assert result["scores"]["training_likelihood"]["split"] == "train"
    assert result["score"]["better"] == "lower"
    shorter = config(spec, "--config.train.decay_steps=0", "--config.train.steps=6")
    longer = config(spec, "--config.train.decay_steps=0", *FLAGS)
    train(longer, tmp_path / "long")
    along = {row["step"]: row for row in read_rows(tmp_path / "long" / "metrics.jsonl")}
    assert along[6]["score"] == train(shorter, tmp_path / "short")["score"]["value"]


def test_scoring_changes_nothing_else(spec, tmp_path):
    train(config(spec), tmp_path / "plain")
    train(config(spec, *FLAGS), tmp_path / "scored")
    assert tiny.state(tmp_path / "plain") == tiny.state(tmp_path / "scored")
    kept = [
        {name: value for name, value in row.items() if name != "score"}
        for row in tiny.rows(tmp_path / "scored")
    ]
    assert kept == tiny.rows(tmp_path / "plain")


SPREAD = """
import jax.numpy as jnp

def score_kinds(config):
    return {"spread": {"unit": "1", "kind": "estimate", "better": "higher"}}

def update(config, params, batch, key):
    x = batch["tokens"].astype(jnp.float32) * batch["mask"][:, None]
    return {"sum": x.sum(), "squares": (x * x).sum(), "count": batch["mask"].sum() * x.shape[1]}

def finish(config, sums):
    return {"spread": sums["squares"] / sums["count"] - (sums["sum"] / sums["count"]) ** 2}
"""


def test_an_evaluator_is_one_file(spec, tmp_path, monkeypatch):
    """Its statistics add up over batches: what it gives does not depend on how they are cut."""
    module = types.ModuleType("shown_spread")
    exec(SPREAD, module.__dict__)
    monkeypatch.setitem(sys.modules, "shown.spread", module)
    found = []
    for size in (8, 16):
        flags = f"--config.evaluation.batch_size={size}", "--config.evaluation.examples=24"
        named = "--config.evaluation.evaluators=('validation','shown.spread')"
        chosen = config(spec, *flags, named)
        params = programs.build(chosen).init(jax.random.key(0))["params"]
        found.append(evaluation.scores(chosen, params)["spread"])
    assert found[0] == found[1] and found[0]["better"] == "higher"
    assert 0 < found[0]["value"] < 8**2 and found[0]["examples"] == 24


@pytest.mark.parametrize(
    "flag, said",
    [
        ("evaluators=()", "names none"),
        ("evaluators=('validatoin',)", "did you mean 'validation'"),
        ("evaluators=('tests.shapes',)", "lacks score_kinds, update, finish"),
        ("evaluators=('validation','validation')", "two of them give 'likelihood'"),
        ("every_steps=3", "3 must be a multiple of config.log_steps=2"),
        ("steps=(4,5)", "5 must be a multiple of config.log_steps=2"),
    ],
)
def test_bad_evaluations(spec, flag, said):
    with pytest.raises(UserError, match=said.replace("(", r"\(")):
        config(spec, f"--config.evaluation.{flag}")


def test_a_diverged_run_has_its_scores_without_values(spec, tmp_path):
    wild = config(spec, BOTH, *FLAGS)
    wild.train.learning_rate = 1e38
    result = train(wild, tmp_path / "wild")
    assert result["status"] == "diverged"
    assert [each["value"] for each in result["scores"].values()] == [None, None]
    assert result["score"] == result["scores"]["likelihood"]
    assert not np.isfinite(read_rows(tmp_path / "wild" / "metrics.jsonl")[-1]["loss"])
