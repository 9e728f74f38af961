"""What is read does not depend on where it was trained."""

import jax
import numpy as np
import pytest

from research import config as configs
from research import defaults, recipes, sample, study, trained
from research.errors import UserError
from research.run import record
from research.train import train

EIGHT = dict(mesh=dict(data=1, fsdp=2, stage=2, tensor=2), microbatches=2, accumulation=2)


def small(folder, **hardware):
    config = defaults.config("autoregressive", "markov")
    config.recipe = "fixed"
    config.data.update(folder=str(folder / "data"), length=16, vocab_size=8, order=1)
    config.data.update(tokens=4_000, validation_tokens=400)
    config.model.update(vocab_size=8, width=16, depth=2, num_heads=2)
    config.train.update(batch_size=16, steps=3, warmup_steps=0, learning_rate=0.01)
    config.evaluation.update(batch_size=16, examples=16)
    config.hardware.mesh.update(hardware.pop("mesh", {}))
    config.hardware.update(hardware)
    return study.check(recipes.apply(config))


@pytest.mark.slow
def test_a_run_of_eight_devices_is_sampled_on_fewer(tmp_path, monkeypatch):
    train(small(tmp_path, **EIGHT), tmp_path / "run")
    found, devices = [], jax.devices()
    for count in (8, 1):
        monkeypatch.setattr(jax, "devices", lambda *_, count=count: devices[:count])
        found.append(sample.sample_run(tmp_path / "run", 2))
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize(
    "changes",
    [
        dict(mesh=dict(data=1, fsdp=16)),
        dict(mesh=dict(data=1, stage=2), microbatches=2),
        dict(attention="splash"),
        dict(offload_optimizer=True, shard_optimizer=True, remat="full"),
        dict(accumulation=16, compute_dtype="bfloat16"),
    ],
)
def test_of_the_hardware_only_the_precision_is_the_run(tmp_path, changes):
    config = small(tmp_path)
    config.hardware.mesh.update(changes.pop("mesh", {}))
    config.hardware.update(changes)
    config.train.batch_size, config.evaluation.batch_size = 5, 7  # no batches are read
    here = study.here(configs.from_plain(configs.to_plain(config))).hardware
    wanted = defaults.hardware()
    wanted.compute_dtype = changes.get("compute_dtype", "float32")
    assert here.to_dict() == wanted.to_dict()


def test_the_data_need_not_be_here(tmp_path):
    config = small(tmp_path)
    config.data.folder = "/nowhere/at/all"
    study.here(config)


def test_old_and_foreign_hardware(tmp_path):
    old = configs.to_plain(small(tmp_path))
    del old["hardware"]["loss_chunks"], old["hardware"]["shard_optimizer"]
    study.here(configs.from_plain(old))
    old["hardware"]["compute_dtype"] = "float8"
    with pytest.raises(UserError, match="compute_dtype='float8' is not one of"):
        study.here(configs.from_plain(old))
    record.write_json(tmp_path / "config.json", {"hardware": 3})
    with pytest.raises(UserError, match="is not the config of a run"):
        trained.load(tmp_path)
