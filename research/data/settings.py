"""The keys of a source, and the check that a config gives them all."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from ml_collections import ConfigDict

from research.data import sources
from research.errors import UserError, nearest

SPLITS = ("train", "validation", "test")


class Config(Protocol):
    """The data section of a run's config: a ConfigDict or any mapping with the same keys."""

    def __getitem__(self, key: str, /) -> Any: ...

    def __contains__(self, key: str, /) -> bool: ...

    def items(self) -> Iterable[tuple[Any, Any]]: ...


def names() -> tuple[str, ...]:
    """Return the names of the sources in the registry; TFDS names and modules are valid too."""
    return tuple(sources.SOURCES)


def default(name: str) -> ConfigDict:
    """Return every key of the source `name` with its default value.

    Raises:
        UserError: when neither this project nor TFDS knows `name`.
    """
    source = sources.load(name)
    if hasattr(source, "check_name"):
        source.check_name(name, names())
    return ConfigDict({"name": name, "folder": "data", **source.DEFAULTS})


def known(name: str) -> bool:
    """Whether the source `name` is here: a study's file may register a builder that it reads."""
    try:
        default(name)
    except UserError:
        return False
    return True


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
    source = sources.load(given["name"])
    if hasattr(source, "check"):
        source.check(given)
    return given


def check_least(data: Config, *keys: str) -> None:
    """Raise UserError for a key of `keys` that is below 1."""
    for key in keys:
        if data[key] < 1:
            raise UserError(f"data.{key} is {data[key]}; it must be at least 1")


def check_seed(data: Config) -> None:
    """Raise UserError for a data.seed that is negative or has more than 32 bits."""
    if not 0 <= data["seed"] < 2**32:
        raise UserError(f"data.seed is {data['seed']}; it must be from 0 to 4294967295")


def _items(example: Any) -> tuple[str, tuple[type, ...]]:
    return ("patterns", (str,)) if isinstance(example, str) else ("numbers", (int, float))


def _is_a(value: Any, kinds: tuple[type, ...]) -> bool:
    return isinstance(value, kinds) and not isinstance(value, bool)


def _typed(key: str, value: Any, example: Any) -> Any:
    """Return `value` as the type of `example`, or refuse it."""
    kind = type(example)
    if kind is tuple and isinstance(value, (list, tuple)):
        # Where the default is empty, what may be in it is for the source to say.
        of, kinds = _items(example[0]) if example else ("words or numbers", (str, int, float))
        if (value or not example) and all(_is_a(each, kinds) for each in value):
            return tuple(value)
        raise UserError(f"data.{key} is {value!r}; expected a tuple of {of} such as {example}")
    if kind is ConfigDict and isinstance(value, Mapping | ConfigDict):
        return ConfigDict(value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not kind:
        raise UserError(f"data.{key} is {value!r}; expected {kind.__name__}, such as {example!r}")
    return value
