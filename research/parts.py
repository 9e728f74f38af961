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

Layers of a stack may differ: each entry of `config.model.pattern`, such as
"attention=window,positions=none", is a layer that differs in these keys; the entries are gone
through in turn, again and again. So a section may name several parts by one key.
"""

import functools
import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any, NamedTuple

from ml_collections import ConfigDict, FrozenConfigDict

from research import config as configs
from research.errors import UserError, nearest

PATTERN = "pattern"


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
    for key, table in getattr(owner, "PARTS", {}).items():
        own[key] = chosen.get(key, own[key])
        inner |= keys(part(owner, key, own, name), chosen, name)
        for entry in _entries(chosen, name):
            if key in entry:
                inner = keys(load(f"{name}.{key}", entry[key], table), chosen, name) | inner
    preferred = getattr(owner, "PREFERRED", {})
    return inner | {key: value for key, value in preferred.items() if key in inner} | own


def _entries(section: Mapping[str, Any], name: str) -> list[dict[str, str]]:
    """The entries of a section's pattern, {key: value as it is written}."""
    found = []
    for entry in section.get(PATTERN, ()):
        pairs = [each.partition("=") for each in str(entry).split(",")]
        if not all(key.strip() and equals for key, equals, _ in pairs):
            raise UserError(
                f"config.{name}.{PATTERN}: {entry!r} is no layer; expected key=value, or several "
                "with commas between, such as 'attention=window,window=64'"
            )
        found.append({key.strip(): value.strip() for key, _, value in pairs})
    return found


def layers(section: Any, name: str = "model") -> tuple[FrozenConfigDict, ...]:
    """The section as each layer of its pattern has it; itself where there is no pattern.

    Raises:
        UserError: for an entry that names no key of the section, or a value of another type.
    """
    return _layers(FrozenConfigDict(section), name)


@functools.lru_cache(maxsize=64)
def _layers(section: FrozenConfigDict, name: str) -> tuple[FrozenConfigDict, ...]:
    found = []
    for entry in _entries(section, name):
        changed = ConfigDict(section.as_configdict().copy_and_resolve_references())
        for key, value in entry.items():
            if key not in section:
                raise UserError(
                    f"config.{name}.{PATTERN} sets {key!r}, which is no key of config.{name}"
                    f"{nearest(key, section)}"
                )
            configs.assign(changed, key, value)
        changed[PATTERN] = ()
        found.append(FrozenConfigDict(changed))
    return tuple(found) or (section,)


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


def unused(owner: ModuleType, key: str, name: str) -> tuple[str, str, Any] | None:
    """Where `key`, which no part in use has, would be: (the part's key, its name, the default)."""
    for place, table in getattr(owner, "PARTS", {}).items():
        for each in table:
            found = load(f"{name}.{place}", each, table)
            default = getattr(found, f"default_{name}", dict)()
            if key in default:
                return place, each, default[key]
            if inner := unused(found, key, name):
                return inner
    return None


def unknown(owner: ModuleType, key: str, name: str) -> str:
    """Where `key`, which no part in use has, would be: words for an error, or none."""
    found = unused(owner, key, name)
    return f"; it belongs to {name}.{found[0]}={found[1]!r}" if found else ""


def check(owner: ModuleType, config: ConfigDict) -> None:
    """Raise UserError for a part of `owner` that is unknown or cannot be built."""
    for each in _by_layer(config):
        for _, found in named(owner, each.model):
            if hasattr(found, "check"):
                found.check(each)


def check_hardware(owner: ModuleType, config: ConfigDict, machine: Machine) -> None:
    """Raise UserError for a part of `owner` that `machine` cannot run as `config.hardware` asks."""
    for each in _by_layer(config):
        for _, found in named(owner, each.model):
            if hasattr(found, "check_hardware"):
                found.check_hardware(each, machine)


def _by_layer(config: ConfigDict) -> Iterator[ConfigDict]:
    """`config`, and as each layer of its pattern has it."""
    yield config
    for model in layers(config.model) if config.model.get(PATTERN) else ():
        changed = config.copy_and_resolve_references()
        changed.model = model.as_configdict()
        yield changed


def check_choice(key: str, value: Any, choices: Any) -> None:
    """Raise UserError when the `value` of the config's `key` is not one of `choices`."""
    if value not in choices:
        raise UserError(
            f"config.{key}={value!r} is not one of {', '.join(choices)}{nearest(value, choices)}"
        )
