"""Named parts: a key of `config.model` names a module, by a table or by a dotted path.

A part is a module. Every part may have

    default_model() -> its keys of config.model with their defaults
    PARTS = {key: table}: the parts it is made of in turn; its default_model names each of them
    PREFERRED = {key: value}: defaults that it wants of its parts' keys
    check(config) raises UserError for what cannot be built
    check_hardware(config, machine) raises UserError for what this machine cannot run

and what its place asks for, which the module with the table says. The outermost part is the
family. A table is {name: path of a module}.
"""

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from research.errors import UserError, nearest


class Machine(NamedTuple):
    """Where a config is to run.

    Attributes:
        sizes: of the mesh, by axis.
        platform: "cpu", "gpu" or "tpu"; None where it is elsewhere.
        positions: gives how many the network processes for one example.
    """

    sizes: Mapping[str, int]
    platform: str | None
    positions: Callable[[], int]


def load(key: str, name: str, table: Mapping[str, str], needs: Sequence[str] = ()) -> ModuleType:
    """Return the module that `name`, the value of the config's `key`, stands for.

    Raises:
        UserError: for a name that is neither in the table (nearest named) nor a module's path, or
            a module that lacks one of the names that its place `needs`.
    """
    if name not in table and "." not in str(name):
        raise UserError(
            f"config.{key}={name!r} is not one of {', '.join(table)}{nearest(str(name), table)}"
        )
    try:
        module = importlib.import_module(table.get(name, str(name)))
    except ModuleNotFoundError as error:
        raise UserError(f"config.{key}={name!r}: {error}") from error
    if missing := [each for each in needs if not hasattr(module, each)]:
        raise UserError(f"config.{key}={name!r} lacks {', '.join(missing)}")
    return module


def part(owner: ModuleType, key: str, model: Any) -> ModuleType:
    """The part of `owner` that `model` names by `key`."""
    return load(f"model.{key}", model[key], owner.PARTS[key])


def named(owner: ModuleType, model: Any) -> Iterator[tuple[str, ModuleType]]:
    """(key, part) of every part that `model` names in `owner`, from the outermost inwards."""
    for key in getattr(owner, "PARTS", {}):
        found = part(owner, key, model)
        yield key, found
        yield from named(found, model)


def default_model(owner: ModuleType, chosen: Mapping[str, Any] | None = None) -> ConfigDict:
    """Every key of `owner` and of the parts it names: as `chosen` names them, else by default."""
    return ConfigDict(_keys(owner, chosen or {}))


def _keys(owner: ModuleType, chosen: Mapping[str, Any]) -> dict[str, Any]:
    """The same as a dict; None with a type stays what it is."""
    own: Any = owner.default_model() if hasattr(owner, "default_model") else {}
    if isinstance(own, ConfigDict):
        own = dict(own.items(preserve_field_references=True))
    keys, inner = dict(own), {}
    for key in getattr(owner, "PARTS", {}):
        keys[key] = chosen.get(key, keys[key])
        inner |= _keys(part(owner, key, keys), chosen)
    preferred = getattr(owner, "PREFERRED", {})
    return inner | {key: value for key, value in preferred.items() if key in inner} | keys


def choose(owner: ModuleType, model: ConfigDict, key: str, name: str) -> None:
    """Let `model` name the part `name` by `key`: the keys of that part take the former's place."""
    former = default_model(owner, model)
    now = default_model(owner, {**model, key: name})
    with model.unlocked():
        for gone in [each for each in former if each not in now and each in model]:
            del model[gone]
        for each, value in now.items(preserve_field_references=True):
            if each not in model:
                model[each] = value
        model[key] = name


def complete(owner: ModuleType, model: ConfigDict) -> None:
    """Give `model` the keys that it lacks of the parts it names, at their defaults."""
    with model.unlocked():
        for key, value in default_model(owner, model).items(preserve_field_references=True):
            if key not in model:
                model[key] = value


def check(owner: ModuleType, config: ConfigDict) -> None:
    """Raise UserError for a part of `owner` that is unknown or cannot be built."""
    for _, found in named(owner, config.model):
        if hasattr(found, "check"):
            found.check(config)


def check_hardware(owner: ModuleType, config: ConfigDict, machine: Machine) -> None:
    """Raise UserError for a part of `owner` that `machine` cannot run as `config.hardware` asks."""
    for _, found in named(owner, config.model):
        if hasattr(found, "check_hardware"):
            found.check_hardware(config, machine)


def check_choice(key: str, value: Any, choices: Any) -> None:
    """Raise UserError when the `value` of the config's `key` is not one of `choices`."""
    if value not in choices:
        raise UserError(
            f"config.{key}={value!r} is not one of {', '.join(choices)}{nearest(value, choices)}"
        )
