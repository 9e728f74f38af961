"""Where a run begins: its own checkpoint, a trunk's, another run's parameters, or chance."""

import shutil
import sys
import types

import jax
import numpy as np
import pytest

from research import cost, study, trained
from research.errors import UserError
from research.train import train
from tests import tiny

REFERENCE = """
import jax
import jax.numpy as jnp
from tests.tiny import *
from tests.tiny import _nats
from tests.tiny import loss as plain

def reference(config, params):
    return params

def loss(config, params, batch, key, step, reference):
    value, metrics = plain(config, params, batch, key, step)
    anchor = _nats(reference, batch["tokens"]).mean()
    away = jax.tree.map(lambda a, b: jnp.sum((a - b) ** 2), params, reference)
    return value + config.model.pull * sum(jax.tree.leaves(away)), {"anchor": anchor}

def default_model():
    from tests.tiny import default_model
    model = default_model()
    model.pull = 0.0
    return model
"""


@pytest.fixture
def anchored(monkeypatch):
    module = types.ModuleType("anchored")
    exec(REFERENCE, module.__dict__)
    monkeypatch.setitem(sys.modules, "shown.anchored", module)


def config(folder, *flags, family="tests.tiny"):
    folder.mkdir(exist_ok=True)
    spec = tiny.write(folder, [{"train.steps": 12}], family=family)
    return study.load_config(spec, ["--config.train.steps=12", *flags])


def test_another_runs_parameters(tmp_path, caplog):
    """Whole, or in part: the rest is what chance would have given."""
    train(config(tmp_path, "--config.seed=5"), tmp_path / "first")
    _, params = trained.load(tmp_path / "first")
    still = ("--config.train.steps=1", "--config.train.learning_rate=1e-30")
    still += ("--config.train.warmup_steps=0",)
    run = f"--config.init_from.run={tmp_path / 'first'}"
    train(config(tmp_path, *still, run), tmp_path / "whole")
    whole = trained.load(tmp_path / "whole")[1]
    for kept, first in zip(jax.tree.leaves(whole), jax.tree.leaves(params), strict=True):
        np.testing.assert_allclose(kept, first, rtol=1e-6)  # an average of two that are the same
    assert not caplog.records
    train(config(tmp_path, *still), tmp_path / "chance")
    train(config(tmp_path, *still, run, "--config.init_from.parts=('after/*',)"), tmp_path / "part")
    found, chance = (trained.load(tmp_path / name)[1] for name in ("part", "chance"))
    np.testing.assert_allclose(found["after"]["kernel"], params["after"]["kernel"], rtol=1e-6)
    np.testing.assert_array_equal(found["before"]["kernel"], chance["before"]["kernel"])
    # Taken up again, it goes on from its own checkpoint.
    assert train(config(tmp_path, *still, run), tmp_path / "whole")["steps"] == 1


@pytest.mark.parametrize(
    "flag, said",
    [
        ("init_from.run=/nowhere", "not a run folder"),
        ("init_from.reference={first}", "keeps no reference"),
        ("init_from.parts=('afte/*',)", "'afte/.' matches no parameter"),
        ("size=8", "its after/kernel is .8, 16., this network's .8, 8."),
    ],
)
def test_what_cannot_be_begun_from(tmp_path, flag, said):
    train(config(tmp_path), tmp_path / "first")
    run = f"--config.init_from.run={tmp_path / 'first'}"
    with pytest.raises(UserError, match=said):
        chosen = config(tmp_path, run, "--config." + flag.format(first=tmp_path / "first"))
        train(chosen, tmp_path / "second")


def test_a_frozen_reference_is_kept_once(tmp_path, anchored):
    """It is what training began with, through stops and restarts; pulled hard, nothing moves."""
    chosen = config(tmp_path, family="shown.anchored")
    train(chosen, tmp_path / "run")
    rows = tiny.rows(tmp_path / "run")
    assert len({row["loss"] for row in rows}) > 1
    assert not [name for name in tiny.state(tmp_path / "run") if "reference" in name]
    assert tiny.steps(tmp_path / "run") and (tmp_path / "run" / "reference" / "0").exists()
    # Begun from the last state of another, the anchor is that state's loss, not the first one's.
    run, still = f"--config.init_from.run={tmp_path / 'run'}", "--config.model.pull=1e6"
    pulled = config(tmp_path, run, still, "--config.seed=0", family="shown.anchored")
    train(pulled, tmp_path / "pulled")
    before, after = (trained.load(tmp_path / name)[1] for name in ("run", "pulled"))
    for old, new in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True):
        np.testing.assert_allclose(old, new, atol=0.1)
    plain = cost.ledger(config(tmp_path))
    both = cost.ledger(chosen)
    assert both.flops == 2 * plain.flops and both.step_flops == plain.step_flops * 4 // 3


def test_a_stopped_run_finds_its_reference(tmp_path, anchored):
    whole = config(tmp_path, family="shown.anchored")
    train(whole, tmp_path / "whole")
    train(whole, tmp_path / "again")
    for path in (tmp_path / "again" / "checkpoints").iterdir():
        if path.name.isdigit() and int(path.name) > 8:
            shutil.rmtree(path)
    (tmp_path / "again" / "result.json").unlink()
    train(whole, tmp_path / "again")
    assert tiny.rows(tmp_path / "again") == tiny.rows(tmp_path / "whole")
    assert tiny.state(tmp_path / "again") == tiny.state(tmp_path / "whole")
