"""The protocol holds for what is not one gradient of one loss: two players, an inner chain."""

import importlib
import re
import sys

import jax
import numpy as np
import pytest
from jax import numpy as jnp
from jax.sharding import PartitionSpec

from research import cost, data, defaults, mesh, optim, programs, recipes, sample, study
from research.errors import UserError
from research.families import load
from research.run import checkpoint
from research.train import train
from tests import tiny


def run(family, folder, **changes):
    config = defaults.config(family, "gaussian_mixture")
    config.recipe = "fixed"
    config.data.update(folder=str(folder / "data"), resolution=4, images=400, validation_images=64)
    config.train.update(batch_size=64, warmup_steps=0, weight_decay=0.0, schedule="constant")
    config.train.update(changes.pop("train"))
    config.model.update(changes)
    config.evaluation.update(batch_size=32, examples=64)
    result = train(recipes.apply(config), folder / "run")
    saved = checkpoint.reader(folder / "run" / "checkpoints")
    found = checkpoint.restore_newest(saved, programs.build(config).state)
    assert found is not None
    return result, found[1]["params"], data.load(config.data, "train")


def test_two_players_converge_with_the_penalty_and_circle_without(tmp_path):
    settled, params, _ = run(
        "tests.dirac_gan", tmp_path / "r1", train=dict(steps=400, learning_rate=0.2)
    )
    assert settled["score"]["value"] < 1e-3
    assert abs(float(params["discriminator"]["psi"])) < 1e-3
    circling, params, _ = run(
        "tests.dirac_gan", tmp_path / "none", penalty=0.0, train=dict(steps=400, learning_rate=0.2)
    )
    radius = np.hypot(params["generator"]["theta"], params["discriminator"]["psi"])
    assert radius > 0.5


@pytest.mark.parametrize(
    "train", [{"optimizer": "muon"}, {"cautious_decay": True}, {"rates": {"input": 2.0}}], ids=str
)
def test_what_a_family_with_an_optimizer_of_its_own_would_not_read_is_refused(train):
    config = defaults.config("tests.dirac_gan", "gaussian_mixture")
    config.recipe = "fixed"
    config.train.update(steps=1, batch_size=1, warmup_steps=0, learning_rate=0.1)
    config.train.update(train)
    recipes.apply(config)
    (key,) = train
    with pytest.raises(UserError, match=f"config.train.{key} would change nothing"):
        optim.check(config)


def test_an_inner_chain_learns_the_data(tmp_path):
    result, params, source = run(
        "tests.langevin_energy",
        tmp_path,
        train=dict(steps=400, learning_rate=0.05, schedule="wsd", decay_steps=300),
    )
    pixel = source.arrays["image"][:, 0, 0, 0]
    assert float(params["mean"]) == pytest.approx(pixel.mean(), abs=0.15)
    assert float(np.exp(params["log_variance"])) == pytest.approx(pixel.var(), rel=0.3)
    assert result["flops"] == 0  # of products; the chain has none


READS = """
import jax
from jax import numpy as jnp
from jax.sharding import PartitionSpec
from tests.tiny import *
from tests.tiny import loss as tiny_loss

def loss(config, params, batch, key, step):
    value, metrics = tiny_loss(config, params, batch, key, step)
    return value * {what}, metrics
"""


@pytest.mark.parametrize(
    "what, named",
    [
        ("config.train.steps", "config.train.steps"),
        ("config.train['decay_steps']", "config.train.decay_steps"),
        ("config.train.get('learning_rate')", "config.train.learning_rate"),
        ("getattr(config, 'seed', 1)", "config.seed"),
        ("config.budget", "config.budget"),
        ("len(config.data.folder)", "config.data.folder"),
        ("config.evaluation.examples", "config.evaluation.examples"),
        ("copy.deepcopy(config).train.steps", "config.train.steps"),
    ],
)
def test_what_runs_of_one_shape_differ_in_cannot_be_read(tmp_path, monkeypatch, what, named):
    """Else the second run would have the first one's value."""
    (tmp_path / "reads.py").write_text("import copy\n" + READS.format(what=what))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "reads", raising=False)
    monkeypatch.setitem(sys.modules, "reads.family", importlib.import_module("reads"))
    programs._build.cache_clear()
    cost._ledger.cache_clear()
    loaded = study.load(tiny.write(tmp_path, [{"train.steps": 12}], family="reads.family"))
    with pytest.raises(UserError, match=rf"reads {named} inside a compiled program"):
        train(loaded.trials[0].config, tmp_path / "run")


def test_no_family_or_optimizer_of_ours_reads_it():
    """Every program of the quickstart's families can be traced without those keys."""
    for part in ("text", "images"):
        config = study.load_config(f"experiments/quickstart.py:{part}", prepared=False)
        program = programs.build(config)
        shapes = data.batch_shapes(data.outline(config.data), config.train.batch_size)
        batch = {name: jax.ShapeDtypeStruct(*each) for name, each in shapes.items()}
        key = jax.eval_shape(lambda: jax.random.key(0))
        program.step.eval_shape(program.state, batch, key, np.int32(0), np.float32(0))
        batch["mask"] = jax.ShapeDtypeStruct((config.train.batch_size,), np.float32)
        program.judge(load(config.family).score).eval_shape(program.state["params"], batch, key)


PYTREE = """
from tests import tiny
from tests.tiny import *

def split(params):
    return {{"before": params[0]["kernel"], "after": params[1][0]}}

def init(config, key):
    old = tiny.init(config, key)
    return [old["before"], (old["after"]["kernel"], [])]

def axes(config):
    return [{{"kernel": (None, "embed")}}, ((None, "embed"), [])]

def whole(params):
    return {{"before": params[0], "after": {{"kernel": params[1][0]}}}}

def loss(config, params, batch, key, step):
    return tiny.loss(config, whole(params), batch, key, step)

def score(config, params, batch, key):
    return tiny.score(config, whole(params), batch, key)

def sample(config, params, key, num):
    return tiny.sample(config, whole(params), key, num)
"""


def test_parameters_are_any_tree(tmp_path, monkeypatch):
    """Lists and tuples train, are split, saved, read back and sampled as dicts are."""
    (tmp_path / "lists.py").write_text(PYTREE.replace("{{", "{").replace("}}", "}"))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "lists", raising=False)
    monkeypatch.setitem(sys.modules, "lists.family", importlib.import_module("lists"))
    trials = [{"size": 16, "train.steps": 12}]
    flags = ["--config.hardware.mesh.fsdp=4", "--config.hardware.mesh.data=2"]
    results = []
    for family in ("tests.tiny", "lists.family"):
        loaded = study.load(tiny.write(tmp_path, trials, family=family), flags)
        config, folder = loaded.trials[0].config, tmp_path / family
        layout = programs.build(config).state["params"]
        if family == "lists.family":
            split = PartitionSpec(None, mesh.RULES["embed"])
            assert all(leaf.sharding.spec == split for leaf in jax.tree.leaves(layout))
        results.append(train(config, folder)["score"]["value"])
        assert sample.sample_run(folder, 2).shape == (2, 16)
    assert results[0] == pytest.approx(results[1], rel=1e-6)


def test_what_is_whole_though_parameters_are_split_is_said(monkeypatch, caplog):
    """A factored moment has no parameter's shape; a scalar or a little is not worth a word."""
    config = study.load_config("experiments/quickstart.py:text", prepared=False)
    config.model.width, config.hardware.mesh.data, config.hardware.mesh.fsdp = 512, 1, 8
    init = optim.init

    def strange(config, params):
        return {"adam": init(config, params), "rows": jnp.zeros((1024, 1024))}

    for whole, function in ((0, init), (1, strange)):
        monkeypatch.setattr(optim, "init", function)
        programs._build.cache_clear()
        with caplog.at_level("WARNING", logger="research"):
            programs.build(config)
        assert [r.message for r in caplog.records].count(
            "['opt_state']['rows'] of the state has no parameter's shape: each device holds it "
            "whole, 4.0 MiB, and 0 more such arrays"
        ) == whole
    programs._build.cache_clear()


def test_an_incomplete_family_is_refused():
    with pytest.raises(UserError, match="'tests.shapes' lacks default_model"):
        load("tests.shapes")
    with pytest.raises(UserError, match="did you mean 'diffusion'"):
        load("difusion")


def test_train_names_no_family():
    import inspect

    from research import families
    from research import train as module

    source = inspect.getsource(module) + inspect.getsource(programs)
    assert not [name for name in families.FAMILIES if re.search(rf"\b{name}\b", source)]
    assert jax.devices()  # the suite runs on 8 of them
