"""Named parts: a key of the config names a module, by a table or by a dotted path.

A part is a module, and its keys are in the section of the config that names it, such as "model" or
"train". Every part may have

    default_<section>() -> its keys there with their defaults
    PARTS = {key: table}: the parts it is made of in turn; its own keys name each of them
    PREFERRED = {key: value}: defaults that it wants of its parts' keys
    check(config) raises UserError for what cannot be built
    check_hardware(config, machine) raises UserError for what this machine cannot run

and what its place asks for, which the module with the table says. The outermost part of
`config.model` is the family. A table is {name: path of a module}.
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


def part(owner: ModuleType, key: str, section: Any, name: str = "model") -> ModuleType:
    """The part of `owner` that `section` of the config, called `name`, names by `key`."""
    return load(f"{name}.{key}", section[key], owner.PARTS[key])


def named(owner: ModuleType, section: Any, name: str = "model") -> Iterator[tuple[str, ModuleType]]:
    """(key, part) of every part that `section` names in `owner`, from the outermost inwards."""
    for key in getattr(owner, "PARTS", {}):
        found = part(owner, key, section, name)
        yield key, found
        yield from named(found, section, name)


def keys(owner: ModuleType, chosen: Mapping[str, Any], name: str = "model") -> dict[str, Any]:
    """Every key of `owner` and of the parts it names: as `chosen` names them, else by default.

    One that is None, which a recipe fills, is a reference that has a type.
    """
    default: Any = getattr(owner, f"default_{name}", dict)()
    if isinstance(default, ConfigDict):
        default = dict(default.items(preserve_field_references=True))
    own, inner = dict(default), {}
    for key in getattr(owner, "PARTS", {}):
        own[key] = chosen.get(key, own[key])
        inner |= keys(part(owner, key, own, name), chosen, name)
    preferred = getattr(owner, "PREFERRED", {})
    return inner | {key: value for key, value in preferred.items() if key in inner} | own


def choose(owner: ModuleType, section: ConfigDict, key: str, value: str, name: str) -> None:
    """Let `section` name the part `value` by `key`: its keys take the place of the former's.

    A key that both have keeps what it was set to, if that was not the former's default.
    """
    former = keys(owner, section, name)
    now = keys(owner, {**section, key: value}, name)
    with section.unlocked():
        for each in former:
            if each in section and (each not in now or section[each] == former[each]):
                del section[each]
        section.update({each: now[each] for each in now if each not in section})
        section[key] = value


def unknown(owner: ModuleType, key: str, name: str) -> str:
    """Where `key`, which no part in use has, would be: words for an error, or none."""
    for place, table in getattr(owner, "PARTS", {}).items():
        for each in table:
            found = load(f"{name}.{place}", each, table)
            if key in getattr(found, f"default_{name}", dict)():
                return f"; it belongs to {name}.{place}={each!r}"
            if words := unknown(found, key, name):
                return words
    return ""


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
