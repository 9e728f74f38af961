"""The protocol holds for what is not one gradient of one loss: two players, an inner chain."""

import jax
import numpy as np
import pytest

from research import data, defaults, programs, recipes
from research.errors import UserError
from research.families import load
from research.run import checkpoint
from research.train import train


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


def test_an_inner_chain_learns_the_data(tmp_path):
    result, params, source = run(
        "tests.langevin_energy",
        tmp_path,
        train=dict(steps=400, learning_rate=0.05, schedule="wsd", decay_steps=300),
    )
    pixel = source.arrays["image"][:, 0, 0, 0]
    assert float(params["mean"]) == pytest.approx(pixel.mean(), abs=0.15)
    assert float(np.exp(params["log_variance"])) == pytest.approx(pixel.var(), rel=0.3)
    assert result["flops"] == 400 * 64 * 3 * 4 * 52


def test_an_incomplete_family_is_refused():
    with pytest.raises(UserError, match="'tests.counting' lacks default_model"):
        load("tests.counting")
    with pytest.raises(UserError, match="did you mean 'diffusion'"):
        load("difusion")


def test_train_names_no_family():
    import inspect

    from research import families
    from research import train as module

    source = inspect.getsource(module) + inspect.getsource(programs)
    assert not [name for name in families.names() if name in source]
    assert jax.devices()  # the suite runs on 8 of them
