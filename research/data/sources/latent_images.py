"""Latents of images, by a frozen autoencoder: one sample of each image's, encoded once.

They are images of floats with the labels of those that the autoencoder learned, so that any family
of such images learns them and need not know. `run` is the autoencoder's folder and `sha256` what it
left there (`research.latents`), which a recipe writes into the config. What is drawn is decoded.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict
from numpy.typing import NDArray

from research import cost, data, latents
from research.data import source
from research.data.pack import Writer
from research.data.settings import SPLITS, Config
from research.errors import UserError
from research.run import record, storage

DEFAULTS = {"run": "", "sha256": ""}
ON_REQUEST = True  # it needs a run
ROWS = 256  # that are encoded at once


def check(given: Config) -> None:
    """Raise UserError for a folder without an autoencoder, or with another one than was meant."""
    if given["run"]:
        autoencoder(given)


def autoencoder(given: Config) -> ConfigDict:
    """The config of the run that makes the latents.

    Raises:
        UserError: where none is named, or another is there than was meant.
    """
    if not given["run"]:
        raise UserError(
            f"data.run names no folder: {given['name']} needs that of a finished run of family "
            "'autoencoder'"
        )
    return latents.settings(given["run"], given["sha256"])


def pins(given: Config) -> dict[str, Any]:
    """The hash of the autoencoder."""
    return {"sha256": latents.fingerprint(given["run"])} if given["run"] else {}


def outline(given: Config) -> source.Spec:
    """Float images of the latent's shape, and the labels of the images."""
    config = autoencoder(given)
    names = data.outline(config.data)["class_names"]
    return source.images(latents.shape(config), names, discrete=False)


def identity(given: Config) -> dict[str, Any]:
    """The autoencoder, which says which data it reads."""
    autoencoder(given)
    return {"sha256": latents.fingerprint(given["run"])}


def fill(writer: Writer, given: Config) -> None:
    """Write the latents of each split."""
    for split, batch, label in encoded(writer, given, "encode", sampled=True):
        writer.append(split, "image", batch)
        writer.append(split, "label", label)


def encoded(
    writer: Writer, given: Config, name: str, sampled: bool = False
) -> Iterator[tuple[str, NDArray[Any], NDArray[np.int32]]]:
    """(split, what the autoencoder's function `name` gives, labels) of every batch in turn.

    `writer` is told the FLOPs that this takes, and that training the autoencoder took.

    Args:
        sampled: whether the function is given a key, too.
    """
    frozen, examples = latents.load(given["run"], given["sha256"]), 0
    own = frozen.config.data
    own.folder = given["folder"]
    for number, split in enumerate(SPLITS):
        found = data.load(own, split)
        for start in range(0, len(found), ROWS):
            batch = found.gather(np.arange(start, start + ROWS) % len(found))
            key = jax.random.fold_in(jax.random.key(number), start)
            arrays = (batch["image"], key)[: 1 + sampled]
            each = latents.run(name, given["run"], given["sha256"], *arrays)
            kept = min(ROWS, len(found) - start)
            yield split, np.asarray(each)[:kept], batch["label"][:kept]
        examples += len(found)
    shape, dtype = data.batch_shapes(data.outline(own), 1)["image"]
    of = latents.function(name, frozen.config)
    flops = sum(cost.count(of, frozen.params, jax.ShapeDtypeStruct(shape, dtype)).values())
    result = record.read_json(storage.path(given["run"]) / "result.json", dict[str, Any])
    spent = int(result["flops_spent"])
    writer.facts["spent"] = {"autoencoder": spent, "encoding": examples * flops}


def view(
    split: str, arrays: dict[str, NDArray[Any]], spec: source.Spec, given: Config, meta: dict
) -> source.Source:
    """One split, which says what making it took."""
    del given
    found = source.open_split(split, arrays, spec, meta["fingerprint"])
    return dataclasses.replace(found, spent=meta["spent"])


def of_latents(given: Config, latent: NDArray[Any], label: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """The batch of latents [B, h, w, C] of images with these labels."""
    del given
    return {"image": latent, "label": label}


def shown(given: Config, samples: NDArray[Any]) -> NDArray[Any]:
    """Images of latents [num, h, w, C] that a model of them drew."""
    return np.asarray(latents.run("decode", given["run"], given["sha256"], samples))
