"""A frozen autoencoder under another family: in its step, or as data that were encoded once."""

import json
import shutil
from typing import Any

import jax
import numpy as np
import pytest

from research import cost, data, defaults, latents, recipes, sample, study, trained
from research.errors import UserError
from research.families import autoencoder
from research.run import checkpoint
from research.train import train
from tests import shapes

STEPS = 12


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with a finished run of each kind: kl, vq, and one of another family."""
    home = tmp_path_factory.mktemp("latents")
    for kind in ("kl", "vq"):
        keys = dict(codes=16) if kind == "vq" else {}
        config = shapes.autoencoder(bottleneck=kind, **keys)
        config.data.folder, config.train.steps = str(home / "data"), STEPS
        train(config, home / kind)
    return home


def of_latents(runs, family, source, kind, **keys) -> Any:
    """The config of a small run of `family` on latents of the run `kind`."""
    config = defaults.config(family, source, optimizer="adamw")
    config.recipe = "fixed"
    config.data.update(folder=str(runs / "data"), run=str(runs / kind))
    shape = dict(depth=1, width=8, num_heads=2) | keys
    config.model.update({key: shape[key] for key in shape if key in config.model})
    config.train.update(steps=2, batch_size=8, learning_rate=1e-2, warmup_steps=0)
    config.evaluation.update(batch_size=8, examples=32)
    config.log_steps = 1
    return recipes.apply(config)


def test_codes_are_tokens_that_an_autoregressive_family_learns(runs, tmp_path):
    config = of_latents(runs, "autoregressive", "latent_codes", "vq")
    assert config.data.length == 16 and config.data.sha256 == latents.fingerprint(str(runs / "vq"))
    assert config.model.vocab_size == 256  # of 16 codes and 4 classes, padded
    frozen, own = latents.load(str(runs / "vq")), shapes.autoencoder().data
    own.folder = config.data.folder
    images, tokens = (data.load(each, "validation") for each in (own, config.data))
    found, row = images.gather(np.arange(64)), tokens.gather(np.arange(64))["tokens"]
    encode = jax.jit(lambda params, image: autoencoder.codes(frozen.config, params, image))
    np.testing.assert_array_equal(row[:, 1:], encode(frozen.params, found["image"]).reshape(64, 16))
    np.testing.assert_array_equal(row[:, 0], 16 + found["label"])
    result = train(config, tmp_path / "run")
    forward = cost.ledger(shapes.autoencoder(bottleneck="vq", codes=16)).forward_flops
    encoder = cost.groups(forward)["encoder"] + cost.groups(forward)["bottleneck"]
    spent = json.loads((runs / "vq" / "result.json").read_text())["flops_spent"]
    encoding = (200 + 2 * 64) * encoder
    assert result["data"]["flops_spent"] == {"autoencoder": spent, "encoding": encoding}
    assert result["score"]["unit"] == "bits/token" and result["score"]["kind"] == "exact"
    drawn = sample.sample_run(tmp_path / "run", 3, text="component 2")
    assert drawn.shape == (3, 8, 8, 1) and drawn.dtype == np.float32
    assert sample.write(tmp_path / "run", 2).suffix == ".png"
    with pytest.raises(UserError, match="'component 9' is not a class of the images"):
        sample.sample_run(tmp_path / "run", 3, text="component 9")


def test_tokens_that_are_no_code_are_shown_as_the_last(runs):
    config = of_latents(runs, "autoregressive", "latent_codes", "vq")
    rows = np.full((2, 17), 15, np.int32)
    rows[1, 1:] = 200
    shown = data.shown(config.data, rows)
    np.testing.assert_array_equal(shown[0], shown[1])
    unlabelled = config.data.copy_and_resolve_references()
    unlabelled.classes = False
    assert data.beginnings(unlabelled) is None and data.outline(unlabelled)["vocab_size"] == 17
    assert data.beginnings(config.data)[:, 0].tolist() == [16, 17, 18, 19]


def test_latents_are_images_of_floats_that_a_family_learns(runs, tmp_path):
    keys: dict[str, Any] = dict(image_shape=(4, 4, 4), discrete=False, patch_size=2)
    config = of_latents(runs, "diffusion", "latent_images", "kl", **keys)
    source = data.load(config.data, "train")
    z = source.arrays["image"]
    assert z.shape == (200, 4, 4, 4) and z.dtype == np.float32
    assert np.abs(z.mean((0, 1, 2))).max() < 0.5 and 0.5 < z.std() < 2  # of a few steps
    train(config, tmp_path / "run")
    drawn = sample.sample_run(tmp_path / "run", 3)
    assert drawn.shape == (3, 8, 8, 1) and drawn.dtype == np.float32


def in_step(runs, kind="kl", **changes):
    config = defaults.config("tests.toys.latent_gaussian", "gaussian_mixture", optimizer="adamw")
    config.recipe = "fixed"
    config.data.update(shapes.autoencoder().data, folder=str(runs / "data"))
    config.model.autoencoder = config.init_from.reference = str(runs / kind)
    config.train.update(steps=3, batch_size=8, learning_rate=0.1, warmup_steps=0)
    config.evaluation.update(batch_size=8, examples=32)
    for key, value in changes.items():
        section, _, name = key.partition("__")
        config[section][name] = value
    return study.check(recipes.apply(config))


def test_a_family_encodes_in_its_step_by_the_frozen_parameters(runs, tmp_path):
    config = in_step(runs)
    assert config.model.autoencoder_sha256 == latents.fingerprint(str(runs / "kl"))
    result = train(config, tmp_path / "run")
    kept, theirs = (
        sum(float(np.abs(leaf).sum()) for leaf in jax.tree.leaves(tree))
        for tree in (
            _reference(tmp_path / "run"),
            trained.load(runs / "kl")[1],
        )
    )
    assert kept == pytest.approx(theirs, rel=1e-6)
    encoder = cost.groups(cost.ledger(shapes.autoencoder()).forward_flops)["encoder"]
    ledger = cost.ledger(config)
    assert cost.groups(ledger.forward_flops) == {"encoder": encoder}
    assert ledger.step_flops == 8 * encoder  # forward alone: nothing is learned through it
    assert result["scores"]["bound"]["kind"] == "upper bound"
    assert sample.sample_run(tmp_path / "run", 2).shape == (2, 8, 8, 1)


def _reference(folder):
    shapes_ = jax.eval_shape(lambda: latents.reference(str(folder.parent / "kl")))
    found = checkpoint.restore_newest(checkpoint.reader(folder / "reference"), shapes_)
    return found[1]


def test_another_autoencoder_in_its_place_is_refused(runs, tmp_path):
    """By whoever built on the one before: a source, a family, and a run that is sampled."""
    shutil.copytree(runs / "vq", tmp_path / "vq")
    shutil.copytree(runs / "data", tmp_path / "data")
    config = of_latents(tmp_path, "autoregressive", "latent_codes", "vq")
    train(config, tmp_path / "run")
    toy = in_step(tmp_path, "vq")
    shutil.rmtree(tmp_path / "vq")
    shutil.copytree(runs / "kl", tmp_path / "vq")
    for refused in (
        lambda: data.load(config.data, "train"),
        lambda: sample.sample_run(tmp_path / "run", 2),
        lambda: study.check(toy),
    ):
        with pytest.raises(UserError, match="holds another autoencoder .* restore that, or train"):
            refused()


@pytest.mark.parametrize(
    "change, words",
    [
        (dict(init_from__reference=""), "init_from.reference='' must be '.*kl'"),
        (dict(model__autoencoder="/nowhere"), "/nowhere is not a run folder"),
        (dict(data__resolution=4), r"reads images of image_shape=\(8, 8, 1\), and .* \(4, 4, 1\)"),
    ],
    ids=["no reference", "no run", "other images"],
)
def test_a_model_that_does_not_fit_its_autoencoder_is_refused(runs, change, words):
    with pytest.raises(UserError, match=words):
        in_step(runs, **change)


def test_data_that_cannot_be_encoded_are_refused(runs, tmp_path):
    def refused(name, words, **keys):
        config = data.default(name)
        config.update(keys, folder=str(runs / "data"))
        with pytest.raises(UserError, match=words):
            data.load(config, "train")

    refused("latent_images", "data.run names no folder: latent_images needs")
    refused("latent_codes", "bottleneck='kl', whose latents are no codes", run=str(runs / "kl"))
    refused("latent_codes", "data.length is 7; the codes .* are 16", run=str(runs / "vq"), length=7)
    refused("latent_images", "holds another autoencoder", run=str(runs / "vq"), sha256="0" * 64)
    shutil.copytree(runs / "vq", tmp_path / "vq")
    (tmp_path / "vq" / "result.json").unlink()
    refused("latent_images", "has no result.json: train the auto", run=str(tmp_path / "vq"))
    for name, text in (("result", '{"status": "diverged"}'), ("config", "{}")):
        (tmp_path / "vq" / f"{name}.json").write_text(text)
    refused("latent_images", "is diverged, and no autoencoder", run=str(tmp_path / "vq"))


def test_a_run_of_another_family_encodes_nothing(tmp_path):
    config = shapes.autoregressive()
    config.data.folder, config.train.steps = str(tmp_path / "data"), 1
    train(config, tmp_path / "text")
    with pytest.raises(UserError, match="of family 'autoregressive', which has no 'encode'"):
        latents.settings(str(tmp_path / "text"))
