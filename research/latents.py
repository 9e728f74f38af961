"""A frozen autoencoder between images and the latents that another family learns.

It is a run that has finished, of any family that has the functions of NEEDS, and is known by a hash
of what it left: whoever reads it writes the hash into the own config, and is refused when later the
folder holds another run. Latents are learned in one of two ways:

    as data: the sources `latent_images` and `latent_codes` encode every image once. A family sees
        images of floats, or tokens, and need not know; samples are decoded by `sample`.
    in the step: a family encodes each batch itself, by frozen parameters that its `loss` is given
        as `reference`, so that the ledger counts the encoder in every step. Programs of one shape
        are shared, so the parameters come as an argument: `reference` gives their shapes, and
        config.init_from.reference fills them.
"""

import functools
import hashlib
import json
from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

import jax
from jax import numpy as jnp
from ml_collections import ConfigDict

from research import families, levels, programs, trained
from research.errors import UserError
from research.run import record, storage

NEEDS = (
    "encode", "decode", "codes", "decode_codes", "latent_shape", "symbols", "latent_nats",
)  # fmt: skip


class Frozen(NamedTuple):
    """A trained autoencoder: its config, and its parameters on this machine."""

    config: ConfigDict
    params: Any


def fingerprint(folder: str) -> str:
    """The sha256 of what the finished run in `folder` says of itself: its config and its result.

    Raises:
        UserError: when the folder holds no run, or one that has not finished.
    """
    home = storage.path(folder)
    if not (home / "config.json").exists():
        raise UserError(f"{folder} is not a run folder: it has no config.json")
    if not (home / "result.json").exists():
        raise UserError(f"{folder} has no result.json: train the autoencoder to its end first")
    said = [
        record.read_json(home / name, dict[str, Any]) for name in ("config.json", "result.json")
    ]
    if said[1].get("status") != "finished":
        raise UserError(f"{folder} is {said[1].get('status')}, and no autoencoder to build on")
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def settings(folder: str, sha256: str = "") -> ConfigDict:
    """The config of the frozen run in `folder`.

    Args:
        sha256: the `fingerprint` that it must have; "" takes any.

    Raises:
        UserError: when it has another, or is a run of a family that encodes nothing.
    """
    return _settings(folder, _held(folder, sha256)).copy_and_resolve_references()


def load(folder: str, sha256: str = "") -> Frozen:
    """The frozen run in `folder`, read once a process; see `settings`."""
    return Frozen(settings(folder, sha256), _params(folder, fingerprint(folder)))


def _held(folder: str, sha256: str) -> str:
    found = fingerprint(folder)
    if sha256 and sha256 != found:
        raise UserError(
            f"{folder} holds another autoencoder ({found[:10]}) than the one that was built on "
            f"({sha256[:10]}): restore that, or train anew on this"
        )
    return found


@functools.lru_cache(maxsize=16)
def _settings(folder: str, sha256: str) -> ConfigDict:
    del sha256
    config = trained.settings(folder)
    if missing := [name for name in NEEDS if not hasattr(families.load(config.family), name)]:
        raise UserError(
            f"{folder} is a run of family {config.family!r}, which has no {missing[0]!r}; expected "
            "one of 'autoencoder'"
        )
    if config.model.get("num_classes"):
        raise UserError(
            f"{folder} is told classes, config.model.num_classes={config.model.num_classes}: it "
            "must be 0 of an autoencoder whose latents are learned"
        )
    return config


@functools.lru_cache(maxsize=2)
def _params(folder: str, sha256: str) -> Any:
    del sha256
    return trained.load(folder)[1]


def _of(config: ConfigDict) -> ModuleType:
    return families.load(config.family)


def shape(config: ConfigDict) -> tuple[int, int, int]:
    """Height, width and channels of the latent of an image, of a frozen run's config."""
    return _of(config).latent_shape(config)


def symbols(config: ConfigDict) -> int:
    """How many codes a place of the latent may have; 0 where it has numbers alone."""
    return _of(config).symbols(config)


def encode(config: ConfigDict, params: Any, image: Any, key: Any = None) -> Any:
    """Latents [B, h, w, C] of images, of mean 0 a channel and deviation 1; samples where a key is.

    No gradient passes to the frozen parameters.
    """
    return _of(config).encode(config, jax.lax.stop_gradient(params), image, key)


def decode(config: ConfigDict, params: Any, latent: Any) -> Any:
    """Images of latents as `encode` gives them, uint8, or float32 where the data are floats."""
    return _of(config).decode(config, params, latent)


def nats(config: ConfigDict, params: Any, image: Any, key: Any) -> tuple[Any, Any]:
    """A latent (or codes) of each image, and what bounds -log p(image) with its -log p, [B]."""
    return _of(config).latent_nats(config, params, image, key)


def run(name: str, folder: str, sha256: str, *arrays: Any) -> Any:
    """What the function `name` of the frozen run's family makes of `arrays`; compiled."""
    frozen = load(folder, sha256)
    return _program(name, folder, fingerprint(folder))(frozen.params, *arrays)


@functools.lru_cache(maxsize=16)
def _program(name: str, folder: str, sha256: str) -> Callable:
    return jax.jit(function(name, _settings(folder, sha256)))


def function(name: str, config: ConfigDict) -> Callable:
    """The function `name` of the family of a frozen run's config, of its parameters and arrays."""
    return functools.partial(getattr(_of(config), name), config)


def reference(folder: str, sha256: str = "") -> Any:
    """Zeros of the shapes of the frozen run's parameters, for a family's `reference` to give.

    config.init_from.reference puts the run's own in their place.
    """
    shapes = programs.parameter_shapes(settings(folder, sha256))
    return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)


def check(config: ConfigDict, spec: dict[str, Any]) -> None:
    """Refuse a model with `autoencoder` and `autoencoder_sha256` that does not fit its frozen run.

    Raises:
        UserError: for another run than the one it was built on, one of other images than the data's
            `spec`, or frozen parameters that are taken from elsewhere or nowhere.
    """
    folder = config.model.autoencoder
    found = settings(folder, config.model.autoencoder_sha256)
    if config.init_from.reference != folder:
        raise UserError(
            f"config.init_from.reference={config.init_from.reference!r} must be {folder!r}, whose "
            "latents config.model.autoencoder says are learned"
        )
    if wrong := levels.differing(found.model, spec):
        key, of_data = wrong
        raise UserError(
            f"config.model.autoencoder={folder!r} reads images of {key}={found.model[key]}, and "
            f"config.data.name={config.data.name!r} has {of_data}"
        )


def pins(model: Any) -> dict[str, Any]:
    """What a family with these keys has to say of its frozen run (`research.recipes`)."""
    return {"autoencoder_sha256": fingerprint(model.autoencoder)} if model.autoencoder else {}
