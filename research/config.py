"""Experiment files and their overrides: from a path and flags to one complete config a trial."""

import ast
import contextlib
import importlib.util
import json
import math
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from ml_collections import ConfigDict, FieldReference, FrozenConfigDict

from research.errors import UserError, nearest
from research.run import files, record


def load_experiment(spec: str) -> tuple[ModuleType, str | None]:
    """Import `file.py` or `file.py:part` and return the module and the part asked for.

    Raises:
        UserError: when the file is missing, does not import, or lacks `get_config`.
    """
    path, _, part = spec.partition(":")
    module = load_file(path)
    known = getattr(module, "PARTS", None)
    if not (hasattr(module, "get_config") and isinstance(known, dict) and known):
        raise UserError(f"--config {path}: an experiment defines PARTS and get_config(part)")
    for name in known:  # they begin the names of folders and figures
        files.check_name(str(name), f"--config {path}: PARTS:")
    if part and part not in module.PARTS:
        raise UserError(
            f"--config {spec}: part {part!r} is not one of {', '.join(module.PARTS)}"
            f"{nearest(part, module.PARTS)}"
        )
    return module, part or None


def load_file(path: str, option: str = "--config") -> ModuleType:
    """Import the Python file at `path`, which the user gave as `option`.

    Raises:
        UserError: when the file is missing or does not import.
    """
    file = Path(path)
    if not file.is_file():
        here = Path(__file__).resolve().parent.parent
        if (here / path).is_file():  # the command was given in another folder
            raise UserError(f"{option} {path}: no such file here; there is {here / path}")
        siblings = [str(p) for p in Path("experiments").glob("*.py")]
        raise UserError(f"{option} {path}: no such file{nearest(path, siblings)}")
    module_spec = importlib.util.spec_from_file_location(file.stem, file)
    if module_spec is None or module_spec.loader is None:
        raise UserError(f"{option} {path}: not a Python file")
    module = importlib.util.module_from_spec(module_spec)
    with naming(path, option):
        module_spec.loader.exec_module(module)
    return module


@contextlib.contextmanager
def naming(spec: str, option: str = "--config") -> Iterator[None]:
    """Turn what an experiment file raises into one line with the file's line number."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # anything may be wrong in a user's file
        path = spec.partition(":")[0]
        frames = traceback.extract_tb(error.__traceback__)
        lines = [f.lineno for f in frames if Path(f.filename).resolve() == Path(path).resolve()]
        where = f"{path}:{lines[-1]}" if lines else path
        raise UserError(f"{option} {where}: {type(error).__name__}: {error}") from error


def check_ranges(section: ConfigDict, name: str, ranges: dict[str, tuple[float, float]]) -> None:
    """Raise UserError for a key of `section` whose value is not in [low, high) of `ranges`."""
    for key, (low, high) in ranges.items():
        if not low <= section[key] < high:
            above = f" and below {high}" if high < math.inf else ""
            raise UserError(f"{name}.{key}={section[key]} must be at least {low}{above}")


def assign(config: ConfigDict, key: str, value: Any) -> None:
    """Set the dotted `key` of `config` to the `value` that an axis of a study gives it.

    Raises:
        UserError: for an unknown key (nearest named) or a value of another type.
    """
    section, name = place(config, f"--config.{key}")
    kind = section.get_type(name)
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, str):
        section[name] = _parse(f"--config.{key}", value, kind)
    else:
        section[name] = _typed(f"--config.{key}", value, repr(value), kind)


def lookup(config: ConfigDict, key: str) -> Any:
    """The value of the dotted `key`, which `config` has."""
    section, name = place(config, f"--config.{key}")
    return section[name]


def place(config: ConfigDict, key: str) -> tuple[ConfigDict, str]:
    """Return the section of `config` and the name in it of `key`, as in --config.model.depth.

    Raises:
        UserError: when there is no such key (nearest named), or it is a section.
    """
    section, names = config, key.removeprefix("--config.").split(".")
    for depth, name in enumerate(names):
        if not isinstance(section, ConfigDict) or name not in section:
            where = ".".join(["config", *names[:depth]])
            known = list(section) if isinstance(section, ConfigDict) else []
            raise UserError(f"{key}: {where} has no key {name!r}{nearest(name, known)}")
        if depth < len(names) - 1:
            section = section[name]
    if isinstance(section[names[-1]], ConfigDict):
        known = ", ".join(section[names[-1]])
        raise UserError(f"{key} is a section; set one of its keys: {known}")
    return section, names[-1]


def preset_flags(path: str | None) -> list[str]:
    """Return a hardware preset, a JSON file of `config.hardware` or part of it, as flags.

    Raises:
        UserError: when the file cannot be read or holds no object.
    """
    if path is None:
        return []
    return list(_flags("--config.hardware", record.read_json(path, dict[str, Any])))


def _flags(prefix: str, tree: dict) -> Iterator[str]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _flags(f"{prefix}.{key}", value)
        else:
            yield f"{prefix}.{key}={value}"


def _parse(key: str, text: str, kind: type) -> Any:
    """Read `text` as a value of type `kind`."""
    if kind is str:
        return text
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        value = {"true": True, "false": False}.get(text.lower(), text)
    return _typed(key, value, text, kind)


def _typed(key: str, value: Any, text: str, kind: type) -> Any:
    """`value`, which the user wrote as `text`, as a `kind`; only what loses nothing is turned."""
    if kind is float and type(value) is int:
        value = float(value)
    if kind is int and type(value) is float and value.is_integer():
        value = int(value)  # 1e6 reads well
    if kind is tuple and isinstance(value, list):
        value = tuple(value)
    if type(value) is not kind:
        raise UserError(f"{key}={text}: expected {kind.__name__}, got {text!r}")
    return value


def fill(section: ConfigDict, **derived: Any) -> None:
    """Set the keys of `section` that are still None; what a user set wins over a recipe."""
    for key, value in derived.items():
        if section[key] is None:
            section[key] = value


def complete(
    section: ConfigDict, name: str, keys: Mapping[str, Any], allowed: Mapping[str, Any] = {}
) -> None:
    """Give `section`, called `name`, those of `keys` that it lacks, with their defaults.

    A default of None takes any value, or one of its type where it is a reference.

    Raises:
        UserError: for a key that is neither among them nor `allowed` (nearest named), or for a
            value of another type than the default.
    """
    known = {**keys, **allowed}
    with section.unlocked(), section.ignore_type():
        for key, value in section.items():
            if key not in known:
                raise UserError(f"{name} has no key {key!r}{nearest(key, known)}")
            default = known[key]
            kind = default.get_type() if isinstance(default, FieldReference) else type(default)
            if value is not None and kind not in (type(value), type(None)):
                section[key] = _typed(f"{name}.{key}", value, repr(value), kind)
        section.update({key: keys[key] for key in keys if key not in section})


def unfilled(config: ConfigDict, prefix: str = "config") -> list[str]:
    """Return the dotted names of keys that are None."""
    found = []
    for key in config:
        value = config[key]
        if isinstance(value, ConfigDict):
            found += unfilled(value, f"{prefix}.{key}")
        elif value is None:
            found.append(f"{prefix}.{key}")
    return found


def frozen(config: Any, *sections: str) -> FrozenConfigDict:
    """Copies of `sections` of a config, to name a program by: what is changed later is no part.

    A FrozenConfigDict of sections that may change would change with them, and name another program
    by the former's name.
    """
    return FrozenConfigDict({name: config[name].to_dict() for name in sections})


def to_plain(config: ConfigDict) -> dict:
    """Return `config` as nested dicts of JSON values, as config.json holds it."""
    return json.loads(config.to_json())


def changes(first: dict, second: dict, prefix: str = "") -> dict[str, tuple]:
    """{dotted key: (value in the first, in the second)} of the keys on which two trees differ."""
    found = {}
    for key in sorted(first.keys() | second.keys()):
        a, b = first.get(key), second.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            found |= changes(a, b, f"{prefix}{key}.")
        elif a != b:
            found[f"{prefix}{key}"] = (a, b)
    return found


def read(folder: Path) -> dict[str, Any]:
    """Read config.json of the run in `folder` as `to_plain` gave it.

    Raises:
        UserError: when it cannot be read, was changed or is no object.
    """
    return record.read_json(folder / "config.json", dict[str, Any])


def difference(first: dict, second: dict) -> list[str]:
    """Return lines such as `train.steps: 100, now 200` for the keys on which two configs differ."""
    return [f"{key}: {a}, now {b}" for key, (a, b) in changes(first, second).items()]


def study_parts(module: ModuleType, part: str | None) -> Sequence[str]:
    """Return the parts of an experiment to run: all of them unless one is named."""
    return [part] if part else list(module.PARTS)


def from_plain(tree: dict) -> ConfigDict:
    """Return the config that `to_plain` gave, lists read back as tuples."""

    def revive(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: revive(each) for key, each in value.items()}
        return tuple(map(revive, value)) if isinstance(value, list) else value

    return ConfigDict(revive(tree))
