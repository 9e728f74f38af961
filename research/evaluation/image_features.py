"""What images are compared by: functions from 8-bit images to features, known by their content.

`config.evaluation.features` names them:

    pixels          the images themselves, each dimension in [0, 1]
    glyphs          the features of the classifier that lies beside this file, of 16x16 glyphs
    a run folder    the features of a classifier or a CLIP that was trained, by its average
    a dotted path   a module with features(images) -> [n, D], SHAPE of an image, and IDENTITY, text
                    that changes when its features do; probabilities(images) -> [n, classes] beside
                    them, where it has classes. So anybody's Inception is brought along.

Two distances compare if the digest of their features is the same: it is of every weight and of the
keys of the network.
"""

import functools
import hashlib
import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict, FrozenConfigDict
from numpy.typing import NDArray

from research import config as configs
from research import defaults, families, parts, trained
from research.errors import UserError, nearest
from research.run import storage

Images = NDArray[np.uint8]
PINNED = Path(__file__).with_name("glyph_features.npz")  # of experiments/glyph_features.py
PINNED_DIGEST = "166e3a2e793aaee329521a7ad716f2d5c040806fd91d37d9fd53a67c38e3e308"
NAMES = ("pixels", "glyphs")
BATCH = 256  # images that the network sees at once


class Features(NamedTuple):
    """Features of images.

    Attributes:
        of: 8-bit images [n, H, W, C] -> float64 [n, D].
        shape: (H, W, C) of the images that they are of; None for any.
        digest: sha256 of what decides them.
        probabilities: of classes, images -> float64 [n, classes]; None where there are none.
        directions: of texts [n, S], float64 [n, D] in the space of `of`; None where there are none.
        text: {"length", "vocab_size"} of these texts.
    """

    of: Callable[[Images], NDArray[np.float64]]
    shape: tuple[int, ...] | None
    digest: str
    probabilities: Callable[[Images], NDArray[np.float64]] | None = None
    directions: Callable[[NDArray], NDArray[np.float64]] | None = None
    text: dict[str, int] | None = None


def load(name: str) -> Features:
    """The features that `config.evaluation.features` calls `name`.

    Raises:
        UserError: when there are no such features, or the run that is named gives none.
    """
    if name == "pixels":
        return Features(_pixels, None, hashlib.sha256(b"pixels").hexdigest())
    if name == "glyphs":
        return _of_file(PINNED)
    if (storage.path(name) / "config.json").exists():
        return _of_run(name, frozenset(storage.names(storage.path(name) / "checkpoints")))
    if "." in name and "/" not in name:
        return _of_module(name)
    raise UserError(
        f"config.evaluation.features={name!r} is not {', '.join(NAMES)}, the folder of a run or "
        f"the dotted path of a module{nearest(name, NAMES)}"
    )


@functools.lru_cache(maxsize=1)
def _of_file(path: Path) -> Features:
    found = of_network(*read(path))
    if found.digest != PINNED_DIGEST:
        raise UserError(f"{path} holds other weights than were pinned: {found.digest[:12]}")
    return found


@functools.lru_cache(maxsize=2)
def _of_run(folder: str, checkpoints: frozenset[str]) -> Features:
    """Read once, as several evaluators of many trials ask, until the run has gone on."""
    del checkpoints
    return of_network(*trained.load(folder))


def finite(features: NDArray[np.floating], what: str) -> NDArray[np.float64]:
    """`features` [n, D] in float64.

    Raises:
        UserError: when they are no table, or some are NaN or infinite.
    """
    features = np.asarray(features, np.float64)
    if features.ndim != 2:
        raise UserError(f"features of {what} are {list(features.shape)}; expected [images, D]")
    if bad := int((~np.isfinite(features)).any(1).sum()):
        raise UserError(
            f"config.evaluation.features: those of {bad} of {len(features)} {what} are not finite"
        )
    return features


def of_network(config: ConfigDict, params: Any) -> Features:
    """The features of a trained classifier or CLIP.

    Raises:
        UserError: when its family gives none.
    """
    family = families.load(config.family)
    if not hasattr(family, "features"):
        raise UserError(
            f"config.evaluation.features: a run of family {config.family!r} gives no features; "
            "those of families 'classifier' and 'clip' do"
        )
    known = {**parts.keys(family, config.model), **config.model}  # with keys that came later
    hardware = config.get("hardware", defaults.hardware())
    used = FrozenConfigDict({"family": config.family, "model": known, "hardware": hardware})

    def function(name: str) -> Callable | None:
        if not hasattr(family, name):
            return None
        return lambda inputs: _in_batches(functools.partial(_run, name, used, params), inputs)

    text = None
    if hasattr(family, "text_features"):
        text = {key: config.model[f"text_{key}"] for key in ("length", "vocab_size")}
    return Features(
        functools.partial(_in_batches, functools.partial(_run, "features", used, params)),
        tuple(config.model.image_shape),
        digest(config, params),
        function("probabilities"),
        function("text_features"),
        text,
    )


@functools.partial(jax.jit, static_argnames=("name", "config"))
def _run(name: str, config: Any, params: Any, inputs: jax.Array) -> jax.Array:
    return getattr(families.load(config.family), name)(config, params, inputs)


def _in_batches(function: Callable, inputs: NDArray) -> NDArray[np.float64]:
    """`function` of all inputs, the last batch filled up with its first row: one program."""
    found = []
    for start in range(0, len(inputs), BATCH):
        each = inputs[start : start + BATCH]
        filled = np.concatenate([each, each[:1].repeat(BATCH - len(each), 0)])
        found.append(np.asarray(function(filled), np.float64)[: len(each)])
    return np.concatenate(found)


def _pixels(images: Images) -> NDArray[np.float64]:
    return images.reshape(len(images), -1) / 255


def _of_module(name: str) -> Features:
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise UserError(f"config.evaluation.features={name!r}: {error}") from error
    if missing := [each for each in ("features", "SHAPE", "IDENTITY") if not hasattr(module, each)]:
        raise UserError(f"config.evaluation.features={name!r} lacks {', '.join(missing)}")
    identity = hashlib.sha256(f"{name} {module.IDENTITY}".encode()).hexdigest()
    probabilities = getattr(module, "probabilities", None)
    return Features(module.features, tuple(module.SHAPE), identity, probabilities)


def digest(config: ConfigDict, params: Any) -> str:
    """sha256 of the network's keys and of every weight, by name, in float32."""
    model = configs.to_plain(config.model)
    total = hashlib.sha256(json.dumps([config.family, model], sort_keys=True).encode())
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        array = np.asarray(leaf, np.float32)
        total.update(f"{jax.tree_util.keystr(path)} {array.shape}".encode() + array.tobytes())
    return total.hexdigest()


def write(path: str | Path, config: ConfigDict, params: Any) -> None:
    """Write a network whose features are to be pinned: its keys, and its weights in half."""
    flat = jax.tree_util.tree_leaves_with_path(params)
    names = [jax.tree_util.keystr(place, simple=True, separator="/") for place, _ in flat]
    arrays = {
        name: np.asarray(leaf, np.float16) for name, (_, leaf) in zip(names, flat, strict=True)
    }
    about = json.dumps({"family": config.family, "model": configs.to_plain(config.model)})
    content: dict[str, Any] = {"config": np.array(about), **arrays}
    np.savez_compressed(path, **content)


def read(path: str | Path) -> tuple[ConfigDict, Any]:
    """The config and the parameters that `write` wrote."""
    with np.load(path) as file:
        config = configs.from_plain(json.loads(str(file["config"])))
        params: dict[str, Any] = {}
        for name in file.files:
            *folders, last = name.split("/")
            place = params
            for folder in folders:
                place = place.setdefault(folder, {})
            place[last] = file[name].astype(np.float32) if name != "config" else None
    del params["config"]
    return config, params
