"""Every key of every source, with its default, and the check that a config gives them all."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

from ml_collections import ConfigDict

from research.errors import UserError, nearest

SPLITS = ("train", "validation", "test")
RESOLUTIONS = (16, 28, 32)
LABELS = ("category", "style")


class Config(Protocol):
    """The data section of a run's config: a ConfigDict or any mapping with the same keys."""

    def __getitem__(self, key: str, /) -> Any: ...

    def items(self) -> Iterable[tuple[Any, Any]]: ...


DEFAULTS: dict[str, dict[str, Any]] = {
    # files: shell patterns of paths relative to the library, such as "json/*".
    "python_stdlib": {"length": 128, "include_tests": False, "files": ("*",)},
    # fonts: shell patterns of font file names; label: what the class of an image is.
    "glyphs": {
        "resolution": 16,
        "fonts": ("DejaVu*", "STIXGeneral*"),
        "label": "category",
    },
    # archive: where the four upstream .gz files are looked for before they are downloaded.
    "fashion_mnist": {"resolution": 28, "archive": "/usr/share/datasets/fashion-mnist"},
    # concentration: of the symmetric Dirichlet that draws each row of transition probabilities.
    "markov": {
        "length": 128,
        "vocab_size": 16,
        "order": 2,
        "concentration": 0.3,
        "seed": 0,
        "tokens": 4_000_000,
        "validation_tokens": 400_000,
    },
    # rank: of the covariance of a component, beside its diagonal of noise**2.
    "gaussian_mixture": {
        "resolution": 8,
        "components": 4,
        "rank": 4,
        "noise": 0.3,
        "seed": 0,
        "images": 20_000,
        "validation_images": 4_000,
    },
}
# Any other name is looked up in TFDS. feature: "" takes the first image, else the first text;
# resolution: 0 keeps the images as they are.
TFDS_DEFAULTS = {"length": 128, "resolution": 0, "feature": ""}

_POSITIVE = ("length", "order", "tokens", "validation_tokens", "components", "images")
_POSITIVE += ("validation_images",)


def names() -> tuple[str, ...]:
    """Return the names of the sources this project builds; any TFDS name is valid beside them."""
    return tuple(DEFAULTS)


def default(name: str) -> ConfigDict:
    """Return every key of the source `name` with its default value.

    Raises:
        UserError: when neither this project nor TFDS knows `name`.
    """
    if name not in DEFAULTS:
        _known_to_tfds(name)
    return ConfigDict({"name": name, "folder": "data", **DEFAULTS.get(name, TFDS_DEFAULTS)})


def data_folder(data: Config) -> Path:
    """Return the data folder; ISOFLOP_DATA, when set, replaces the default one, "data"."""
    chosen = data["folder"]
    return Path(os.environ.get("ISOFLOP_DATA") or chosen if chosen == "data" else chosen)


def check(data: Config) -> dict[str, Any]:
    """Return `data` as a plain dict after checking each key and value.

    Raises:
        UserError: naming the key that is unknown, missing, of the wrong type or out of range.
    """
    given: dict[str, Any] = {key: value for key, value in data.items()}
    if not isinstance(given.get("name"), str):
        raise UserError(f"data.name is missing; it is one of {', '.join(names())} or a TFDS name")
    expected = default(given["name"])
    for key in given:
        if key not in expected:
            raise UserError(f"data.{key} is not a key of {given['name']}{nearest(key, expected)}")
    for key, value in expected.items():
        if key not in given:
            raise UserError(f"data.{key} is missing; research.data.default gives every key")
        given[key] = _typed(key, given[key], value)
    for rule in (_check_sizes, _check_names, _check_chain, _check_mixture):
        rule(given)
    return given


def _typed(key: str, value: Any, example: Any) -> Any:
    """Return `value` as the type of `example`, or refuse it."""
    kind = type(example)
    if kind is tuple and isinstance(value, (list, tuple)):
        if value and all(isinstance(each, str) for each in value):
            return tuple(value)
        raise UserError(f"data.{key} is {value!r}; expected a tuple of patterns such as {example}")
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not kind:
        raise UserError(f"data.{key} is {value!r}; expected {kind.__name__}, such as {example!r}")
    return value


def _check_sizes(data: dict[str, Any]) -> None:
    for key in _POSITIVE:
        if key in data and data[key] < 1:
            raise UserError(f"data.{key} is {data[key]}; it must be at least 1")
    if data["name"] in ("glyphs", "fashion_mnist") and data["resolution"] not in RESOLUTIONS:
        closest = min(RESOLUTIONS, key=lambda each: abs(each - data["resolution"]))
        raise UserError(
            f"data.resolution is {data['resolution']}; {data['name']} has 16, 28 and 32"
            f" (nearest: {closest})"
        )
    if not 0 <= data.get("seed", 0) < 2**32:
        raise UserError(f"data.seed is {data['seed']}; it must be from 0 to 4294967295")


def _check_names(data: dict[str, Any]) -> None:
    if data["name"] == "glyphs" and data["label"] not in LABELS:
        hint = nearest(data["label"], LABELS)
        raise UserError(f"data.label is {data['label']!r}; it is category or style{hint}")


def _check_chain(data: dict[str, Any]) -> None:
    if data["name"] != "markov":
        return
    vocab_size, order = data["vocab_size"], data["order"]
    if not 2 <= vocab_size <= 256:
        raise UserError(f"data.vocab_size is {vocab_size}; a Markov chain has 2 to 256 symbols")
    if vocab_size ** (order + 1) > 2**22:
        raise UserError(
            f"data.order is {order} with data.vocab_size {vocab_size}: the chain would have"
            f" {vocab_size}^{order + 1} probabilities; at most 4194304 are allowed"
        )
    if not 1e-3 <= data["concentration"] <= 1e6:
        raise UserError(f"data.concentration is {data['concentration']}; it must be in 0.001..1e6")
    for key in ("tokens", "validation_tokens"):
        if data[key] < data["length"]:
            raise UserError(f"data.length is {data['length']}, longer than data.{key} {data[key]}")


def _check_mixture(data: dict[str, Any]) -> None:
    if data["name"] != "gaussian_mixture":
        return
    if not 2 <= data["resolution"] <= 64:
        raise UserError(f"data.resolution is {data['resolution']}; a Gaussian mixture has 2 to 64")
    if not 0 <= data["rank"] <= data["resolution"] ** 2:
        raise UserError(
            f"data.rank is {data['rank']}; it must be from 0 to {data['resolution'] ** 2} pixels"
        )
    if not 0 < data["noise"] < 1:
        raise UserError(f"data.noise is {data['noise']}; it must be above 0 and below 1")


def _known_to_tfds(name: str) -> None:
    """Refuse a name that TFDS does not have; the import is dear, so only foreign names pay it."""
    from research.data import foreign

    foreign.check_name(name, names())
