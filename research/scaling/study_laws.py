"""laws.json of a run folder: every law of a study, fitted once and read by whoever asks for one.

A part is the law in size and data as `fit --json` writes it, so that `predict` and `plan` read the
file, with the error of its held-out budget and the exponent of the best size, and beside it all
else that a PartSummary holds: the law of compute, isoFLOP, the held-out predictions with what was
measured, every warning; floats in full precision. The first part's law stands at the top too.
"""

import hashlib
import math
import sys
import typing
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

import research
from research.errors import UserError
from research.run import files, record, storage
from research.scaling.fit import LawFit
from research.scaling.laws import CHINCHILLA, Law, named
from research.scaling.summary import PartSummary, summarise
from research.scaling.table import Table, read_runs

FILE = "laws.json"
DRAWS, LEVEL = 1000, 0.95
CODE = ("scaling/**/*.py",)
# What a part holds beside the keys of its law in size and data.
BESIDE = typing.get_type_hints(PartSummary)
del BESIDE["table"], BESIDE["chinchilla"]
ISOFLOP = ("params_exponent", "params_interval", "refused")  # shown without looking beside


def study_laws(folder: str | Path, bootstrap: int = DRAWS) -> dict[str, PartSummary | str]:
    """The laws of each part of the run folder, or why a part's could not be tried.

    They are those of laws.json; where it is missing, was changed (which is said), or rests on other
    runs or other code than are there now, they are fitted and written there.

    Raises:
        UserError: no trial of the folder can be read, or laws.json cannot be written.
    """
    folder = storage.path(folder)
    # Messages name the folder by its own name: the file is the same wherever the folder lies.
    home = folder.name or str(folder)
    tables = {name: replace(table, source=home) for name, table in read_runs(folder).items()}
    inputs = _inputs(tables, bootstrap)
    parts = _read(folder / FILE, inputs)
    if parts is None:
        parts = {name: _part(table, bootstrap) for name, table in tables.items()}
        parts = {name: _plain(part) for name, part in parts.items()}
        stamp = {"inputs": inputs, "parts": record.digest(parts)}
        first = {key: value for key, value in next(iter(parts.values())).items() if key != "beside"}
        record.write_json(folder / FILE, {**first, "parts": parts, "stamp": stamp})
    return {name: _summary(table, parts[name]) for name, table in tables.items()}


def fitted(tables: Mapping[str, Table]) -> dict[str, PartSummary | str]:
    """The laws of each table, or why they could not be tried."""
    return {name: _tried(table, DRAWS) for name, table in tables.items()}


def _tried(table: Table, bootstrap: int) -> PartSummary | str:
    try:
        return summarise(table, bootstrap=bootstrap, level=LEVEL)
    except UserError as error:
        return str(error)


def after_sweep(folder: Path) -> None:
    """Write the laws of a sweep that is over; that there can be none is said, and no failure."""
    try:
        study_laws(folder)
    except UserError as error:
        print(f"note: no {FILE}: {error}", file=sys.stderr)


def no_law(table: Table, name: str, level: float, reason: str) -> dict[str, Any]:
    """What laws.json says of a part that cannot carry the law `name` at all."""
    return {
        "law": name,
        "parameters": None,
        "intervals": None,
        "level": level,
        "objective": None,
        "num_runs": len(table),
        "convention": table.convention,
        "warnings": [],
        "refused": reason,
        "part": table.part,
    }


def _inputs(tables: dict[str, Table], bootstrap: int) -> str:
    """Digest of what the laws rest on: every row of every part, how they are drawn, the code."""
    digest = hashlib.sha256(f"{bootstrap} {LEVEL}".encode())
    files.digest_into(digest, Path(research.__file__).parent, CODE)
    for name, table in tables.items():
        digest.update(f"{name} {table.source} {table.floor} {table.mixed}\n".encode())
        digest.update(table.frame.to_csv(index=False).encode())
    return digest.hexdigest()


def _read(path: Path, inputs: str) -> dict[str, Any] | None:
    """The parts of a laws.json that rests on `inputs` and is as it was written, or None."""
    if not path.exists():
        return None
    try:
        content = record.read_json(path, dict[str, Any])
        stamp = record.held_to(dict[str, str], content.get("stamp"), f"{path}: stamp")
        parts = record.held_to(dict[str, Any], content.get("parts"), f"{path}: parts")
    except UserError as error:
        print(f"note: {error}; the laws are fitted again", file=sys.stderr)
        return None
    if stamp.get("inputs") != inputs:
        return None
    if stamp.get("parts") != record.digest(parts):
        print(f"note: {path}: its parts were changed; the laws are fitted again", file=sys.stderr)
        return None
    return parts


def _part(table: Table, bootstrap: int) -> dict[str, Any]:
    """The content of one part."""
    found = _tried(table, bootstrap)
    if isinstance(found, str):
        return {**no_law(table, CHINCHILLA.name, LEVEL, found), "beside": None}
    fit = found.chinchilla
    if fit is None:
        law = no_law(table, CHINCHILLA.name, LEVEL, found.refused["chinchilla"])
    else:
        law = {**fit.to_json(), **_fields(fit)}
    ahead, valleys = found.held_out, found.isoflop.to_json()
    inside = {"inside": ahead.num_inside, "runs": len(ahead.predictions)}
    return {
        **law,
        "held_out": {"mean_error": ahead.mean_error, **inside, "refused": ahead.refused},
        "isoflop": {name: valleys[name] for name in ISOFLOP},
        "beside": {name: getattr(found, name) for name in BESIDE},
    }


def _summary(table: Table, part: dict[str, Any]) -> PartSummary | str:
    beside = part["beside"]
    if beside is None:
        return part["refused"]
    chinchilla = _made(LawFit, part) if "criterion" in part else None
    found = {name: _made(kind, beside[name]) for name, kind in BESIDE.items()}
    return PartSummary(table=table, chinchilla=chinchilla, **found)


def _plain(value: Any) -> Any:
    """`value` as JSON has it: a law is its name, a number that is none of JSON's a word."""
    match value:
        case Law():
            return value.name
        case np.ndarray() | np.generic():
            return _plain(value.tolist())
        case float() if not math.isfinite(value):
            return str(value)
        case dict():
            return {str(key): _plain(each) for key, each in value.items()}
        case list() | tuple():
            return [_plain(each) for each in value]
    return _plain(_fields(value)) if is_dataclass(value) else value


def _fields(value: Any) -> dict[str, Any]:
    return {each.name: getattr(value, each.name) for each in fields(value)}


def _made(kind: Any, value: Any) -> Any:
    """The `kind` of which `value` is what `_plain` gave."""
    if value is None:
        return None
    if kind is Law:
        return named(value)
    if kind == LawFit | None:
        return _made(LawFit, value)
    if isinstance(kind, type) and is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        return kind(**{name: _made(hint, value[name]) for name, hint in hints.items()})
    return msgspec.convert(value, kind, strict=False, dec_hook=lambda _, values: _array(values))


def _array(values: list) -> np.ndarray:
    found = np.array(values)
    return found.astype(float) if found.dtype.kind == "U" else found
