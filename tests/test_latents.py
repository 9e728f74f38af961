"""A frozen autoencoder under another family: in its step, or as data that were encoded once."""

import argparse
import functools
import json
import shutil
from typing import Any

import jax
import numpy as np
import pytest

from research import config as configs
from research import cost, data, defaults, latents, recipes, sample, study, trained
from research.errors import UserError
from research.families import autoencoder
from research.run import checkpoint
from research.sampling import image_options
from research.train import train
from tests import frozen, shapes
from tests.layouts import QUICK


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with a finished run of each kind."""
    home = tmp_path_factory.mktemp("latents")
    frozen.write(home, "kl")
    frozen.write(home, "vq", codes=16)
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


@pytest.fixture(scope="module")
def of_codes(runs):
    return of_latents(runs, "autoregressive", "latent_codes", "vq")


@pytest.fixture(scope="module")
def of_floats(runs):
    keys: dict[str, Any] = dict(image_shape=(4, 4, 4), discrete=False, patch_size=2)
    return of_latents(runs, "diffusion", "latent_images", "kl", **keys)


def encoder_flops(config) -> int:
    """Of one image, what is before the decoder."""
    found = cost.groups(cost.ledger(config).forward_flops)
    return found["encoder"] + found.get("bottleneck", 0)


def test_codes_are_tokens_after_their_class(runs, of_codes):
    config, folder = of_codes, str(runs / "vq")
    assert config.data.length == 16 and config.data.sha256 == latents.fingerprint(folder)
    assert config.model.vocab_size == 256  # of 16 codes and 4 classes, padded
    own, params = trained.load(folder)
    images, tokens = (data.load(each, "validation") for each in (own.data, config.data))
    found, row = images.gather(np.arange(64)), tokens.gather(np.arange(64))["tokens"]
    encode = jax.jit(functools.partial(autoencoder.codes, own), compiler_options=QUICK)
    np.testing.assert_array_equal(row[:, 1:], encode(params, found["image"]).reshape(64, 16))
    np.testing.assert_array_equal(row[:, 0], 16 + found["label"])
    encoding = (200 + 2 * 64) * encoder_flops(own)
    assert tokens.spent == {"autoencoder": frozen.FLOPS, "encoding": encoding}
    assert data.outline(config.data) == {key: tokens.spec[key] for key in data.outline(config.data)}
    study.check(config)


def test_classes_are_what_a_sample_begins_with(of_codes):
    assert data.beginnings(of_codes.data)[:, 0].tolist() == [16, 17, 18, 19]
    assert data.beginnings(of_codes.data, ["component 2"]).tolist() == [[18]]
    with pytest.raises(UserError, match="'component 9' is not a class of the images .did you mean"):
        data.beginnings(of_codes.data, ["component 9"])
    unlabelled = of_codes.data.copy_and_resolve_references()
    unlabelled.classes = False
    assert data.beginnings(unlabelled) is None and data.outline(unlabelled)["vocab_size"] == 17


def test_tokens_that_are_no_code_are_shown_as_the_last(of_codes):
    rows = np.full((2, 17), 15, np.int32)
    rows[1, 1:] = 200
    shown = data.shown(of_codes.data, rows)
    assert shown.shape == (2, 8, 8, 1) and shown.dtype == np.float32
    np.testing.assert_allclose(shown[0], shown[1], atol=1e-5)


def test_latents_are_images_of_floats(runs, of_floats):
    """A sample of each; shown, they are what the autoencoder makes of them."""
    source = data.load(of_floats.data, "train")
    z = source.arrays["image"]
    assert z.shape == (200, 4, 4, 4) and z.dtype == np.float32
    own, params = trained.load(runs / "kl")
    image = data.load(own.data, "train").gather(np.arange(200))["image"]
    mean = jax.jit(functools.partial(autoencoder.encode, own), compiler_options=QUICK)
    away = z - mean(params, image)
    assert np.abs(away.mean()) < 0.1 * away.std() and away.std() > 0.1
    shown = data.shown(of_floats.data, z[:3])
    decode = jax.jit(functools.partial(autoencoder.decode, own), compiler_options=QUICK)
    np.testing.assert_allclose(shown, decode(params, z[:3]), atol=1e-5)
    study.check(of_floats)


@pytest.mark.slow
def test_autoregression_learns_codes_and_draws_images(of_codes, tmp_path):
    result = train(of_codes, tmp_path / "run")
    assert result["data"]["flops_spent"]["autoencoder"] == frozen.FLOPS
    assert result["score"]["unit"] == "bits/token" and result["score"]["kind"] == "exact"
    drawn = sample.sample_run(tmp_path / "run", 3, text="component 2")
    assert drawn.shape == (3, 8, 8, 1) and drawn.dtype == np.float32
    assert sample.write(tmp_path / "run", 2).suffix == ".png"


@pytest.mark.slow
def test_diffusion_learns_latents_and_draws_images(of_floats, tmp_path):
    config = of_floats.copy_and_resolve_references()
    config.evaluation.evaluators = ("validation", "pixel_bound")
    scores = train(config, tmp_path / "run")["scores"]
    assert scores["pixel_bound"]["kind"] == "upper bound" and scores["pixel_bound"]["value"] > 0
    drawn = sample.sample_run(tmp_path / "run", 3)
    assert drawn.shape == (3, 8, 8, 1) and drawn.dtype == np.float32
    parser = argparse.ArgumentParser()
    image_options.add_arguments(parser)
    asked = parser.parse_args(["--film", "2"])
    film = sample.sample_run(tmp_path / "run", 3, images=asked)
    assert film.shape == (config.sampling.steps, *drawn.shape) and film.dtype == drawn.dtype


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


def test_the_ledger_counts_an_encoder_in_the_step(runs):
    """Forward alone, for nothing is learned through it."""
    config = in_step(runs)
    assert config.model.autoencoder_sha256 == latents.fingerprint(str(runs / "kl"))
    ledger, encoder = cost.ledger(config), encoder_flops(shapes.autoencoder())
    assert cost.groups(ledger.forward_flops) == {"encoder": encoder}
    assert ledger.step_flops == 8 * encoder


@pytest.mark.slow
def test_a_family_encodes_by_the_parameters_that_are_frozen(runs, tmp_path):
    result = train(in_step(runs), tmp_path / "run")
    shape = jax.eval_shape(lambda: latents.reference(str(runs / "kl")))
    kept = checkpoint.restore_newest(checkpoint.reader(tmp_path / "run" / "reference"), shape)
    jax.tree.map(np.testing.assert_array_equal, kept[1], trained.load(runs / "kl")[1])
    assert result["scores"]["bound"]["kind"] == "upper bound"
    assert sample.sample_run(tmp_path / "run", 2).shape == (2, 8, 8, 1)


def test_another_autoencoder_in_its_place_is_refused(runs, tmp_path):
    """By whoever built on the one before: a source, a family, and a run that is to be sampled."""
    shutil.copytree(runs / "vq", tmp_path / "vq")
    shutil.copytree(runs / "data", tmp_path / "data")
    config = of_latents(tmp_path, "autoregressive", "latent_codes", "vq")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text(json.dumps(configs.to_plain(config)))
    toy = in_step(tmp_path, "vq")
    assert trained.settings(tmp_path / "run").data.sha256 == toy.model.autoencoder_sha256
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
    for name, content in (
        ("config", configs.to_plain(shapes.autoregressive())),
        ("result", {"status": "finished"}),
    ):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="of family 'autoregressive', which has no 'encode'"):
        latents.settings(str(tmp_path))
