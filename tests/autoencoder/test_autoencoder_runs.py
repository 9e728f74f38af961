"""Autoencoders in the loop: levels of two, classes, bounds as scores, and runs that go on."""

import json
import shutil
from typing import Any

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from research import data, defaults, latents, recipes, trained
from research.errors import UserError
from research.families import autoencoder
from research.sample import sample_run
from research.sampling import album
from research.train import train
from tests import frozen, shapes


def lattice(folder, **model):
    """Perceptrons on spins of a lattice of 4x4."""
    chosen = dict(network="mlp_coder", likelihood="bernoulli") | model
    config = defaults.config("autoencoder", "ising", optimizer="adamw", **chosen)
    config.recipe = "fixed"
    config.model.update(dict(width=32, depth=1, image_shape=(4, 4, 1), levels=2))
    config.data.update(folder=str(folder), height=4, width=4, images=2000, validation_images=256)
    config.train.update(steps=150, batch_size=64, learning_rate=1e-2, warmup_steps=5)
    config.evaluation.update(batch_size=64, examples=256, importance_samples=32)
    config.sampling.pixels = "drawn"
    return recipes.apply(config)


@pytest.fixture(scope="module")
def spins(tmp_path_factory):
    home = tmp_path_factory.mktemp("spins")
    config = lattice(home / "data")
    config.evaluation.evaluators = ("validation", "likelihood_bounds", "reverse_cross_entropy")
    return home / "run", config, train(config, home / "run")


def test_spins_are_learned_between_their_entropy_and_a_coin(spins):
    """Every bound lies above the exact entropy, the tighter one below the looser."""
    _, _, result = spins
    scores, floor = result["scores"], result["floor"]["value"]
    assert result["status"] == "finished"
    assert floor < scores["iwae"]["value"] < scores["elbo"]["value"] < 1.0
    assert scores["elbo"]["kind"] == scores["iwae"]["kind"] == "upper bound"
    assert scores["elbo"]["value"] == pytest.approx(scores["bound"]["value"], abs=0.02)
    # Samples cost more than the lattice's own: single spins are drawn that no neighbour holds.
    assert floor < next(v for k, v in scores.items() if "cross" in k)["value"] < 1.0


def test_samples_are_spins_drawn_or_likeliest(spins):
    home, config, _ = spins
    drawn = sample_run(home, 64)
    assert drawn.shape == (64, 4, 4, 1) and set(np.unique(drawn)) == {0, 255}
    params = jax.eval_shape(lambda: autoencoder.init(config, jax.random.key(0)))
    still = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), params)
    coins = autoencoder.sample(config, still, jax.random.key(0), 64)
    assert coins.mean() == pytest.approx(0.5, abs=0.06)  # log odds of zero
    config = config.copy_and_resolve_references()
    config.sampling.pixels = "likeliest"
    alike = autoencoder.sample(config, still, jax.random.key(0), 64)
    assert len(np.unique(alike)) == 1


def test_an_album_has_paths_and_traversals(spins):
    """Of a latent of four numbers a row each; the most various one changes the image."""
    home, config, _ = spins
    folder = album.write(home)
    assert {each.stem for each in folder.iterdir()} == {"between", "traversals"}
    _, params = trained.load(home)
    found = dict(album.pictures_of(config, params))["traversals"]
    assert found.images.shape == (4 * album.COLUMNS, 4, 4, 1) and found.columns == album.COLUMNS
    first = found.images.reshape(4, album.COLUMNS, -1)[0]
    assert len(np.unique(first, axis=0)) > 1


def test_classes_are_told_to_both_networks(data_folder):
    """Another class is another reconstruction and another latent; a latent's reader has none."""
    config = shapes.autoencoder(network="mlp_coder", num_classes=4, likelihood="gaussian")
    params = jax.jit(lambda key: autoencoder.init(config, key))(jax.random.key(0))
    for name in ("encoder", "decoder"):
        params[name]["label"] *= 50
    image, labels = jnp.ones((2, 8, 8, 1)), jnp.array([0, 3])
    latent = autoencoder.encode(config, params, image, None, labels)
    assert not np.allclose(latent[0], latent[1])
    shown = np.asarray(autoencoder.decode(config, params, 0 * latent, labels))
    assert not np.allclose(shown[0], shown[1])
    batch = {"image": image, "label": labels}
    at: Any = jax.random.key(1), 0
    value = autoencoder.loss(config, params, batch, *at)[0]
    other = autoencoder.loss(config, params, batch | {"label": labels[::-1]}, *at)
    assert float(value) != float(other[0])


def test_latents_of_a_run_that_is_told_classes_are_refused(tmp_path):
    frozen.write(tmp_path, "kl", num_classes=4)
    with pytest.raises(UserError, match="is told classes, config.model.num_classes=4"):
        latents.settings(str(tmp_path / "kl"))


def test_a_run_that_was_stopped_goes_on_bit_for_bit(tmp_path, data_folder):
    """With classes, a ladder and a learned deviation, all of which a checkpoint holds."""
    config = shapes.autoencoder(bottleneck="ladder", likelihood="gaussian", network="mlp_coder")
    config.data.folder = str(data_folder)
    classes = data.outline(config.data)["class_names"]
    config.model.num_classes = len(classes)
    config.checkpoint.update(every_steps=5, keep=4)
    whole = train(config, tmp_path / "whole")
    shutil.copytree(tmp_path / "whole", tmp_path / "again")
    (tmp_path / "again" / "result.json").unlink()
    for each in (tmp_path / "again" / "checkpoints").iterdir():
        if each.name.isdigit() and int(each.name) > 5:
            shutil.rmtree(each)
    again = train(config, tmp_path / "again")
    assert again["score"] == whole["score"]
    rows = [
        [json.loads(line)["loss"] for line in (tmp_path / name / "metrics.jsonl").open()]
        for name in ("whole", "again")
    ]
    assert rows[0] == rows[1] and len(rows[0]) == 10
    asked = sample_run(tmp_path / "again", 4, class_name=classes[1])
    assert asked.shape == (4, 8, 8, 1) and asked.dtype == np.float32
