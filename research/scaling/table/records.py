"""Tables in JSON: a record a line (our metrics.jsonl), an array of them, or columns of values."""

import json
from typing import Any

import pandas as pd

from research.errors import UserError

DEEPEST = 5  # levels of a record that become a.b.c


def is_json(text: str) -> bool:
    """Whether `text` begins as JSON does and a table does not."""
    start = text.lstrip()[:200]
    return start[:1] == "{" or (start[:1] == "[" and start[1:].lstrip()[:1] in ("{", "]", "["))


def read_json_table(text: str, source: str) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The table in `text`, nested keys joined by dots, and what was left out of it.

    Raises:
        UserError: what is no table, naming the line.
    """
    lines = [(k, line) for k, line in enumerate(text.split("\n"), 1) if line.strip()]
    if len(lines) > 1 and _is_record(lines[0][1]):
        records, notes = _lines(lines, source)
    else:
        try:
            records, notes = _rows(_parsed(text), source), ()
        except ValueError as error:
            raise UserError(f"{source}: not JSON: {_reason(error)}") from error
    for number, record in enumerate(records, 1):
        if not isinstance(record, dict):
            raise UserError(
                f"{source}: record {number} is {str(record)[:40]!r}; expected an object"
            )
    frame = pd.DataFrame([_flat(record) for record in records])
    return frame, notes


def _is_record(line: str) -> bool:
    try:
        return isinstance(_parsed(line), dict)
    except ValueError:
        return False


def _lines(lines: list[tuple[int, str]], source: str) -> tuple[list, tuple[str, ...]]:
    """The records of JSON lines; a last line that was cut short is left out."""
    records, notes = [], ()
    for number, line in lines:
        try:
            records.append(_parsed(line))
        except ValueError as error:
            if number != lines[-1][0]:
                raise UserError(f"{source}: line {number} is not JSON: {_reason(error)}") from error
            notes = (f"line {number} is cut short: left out",)
    return records, notes


def _parsed(text: str) -> Any:
    """json.loads, for which a key twice and too deep a nest are errors of value too."""

    def once(pairs: list[tuple[str, Any]]) -> dict:
        found = dict(pairs)
        if len(found) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise ValueError(f"the key {twice!r} is there twice")
        return found

    try:
        return json.loads(text, object_pairs_hook=once)
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error


def _reason(error: Exception) -> str:
    return str(error).splitlines()[0][:120]


def _rows(content: Any, source: str) -> list:
    """The records of an array, of {"data": [...]}, or of columns of values."""
    if isinstance(content, dict):
        arrays = [value for value in content.values() if isinstance(value, list)]
        if len(arrays) == 1 and arrays[0] and isinstance(arrays[0][0], dict):
            return arrays[0]
        values = list(content.values())
        if values and all(isinstance(value, dict) for value in values):
            keys = [tuple(value) for value in values]
            if len(set(keys)) == 1 and not any(isinstance(v, dict) for v in values[0].values()):
                columns = [list(value.values()) for value in values]
                if all(key.isdigit() for key in keys[0]):  # pandas writes {column: {row: value}}
                    return _turned(list(content), columns)
                return values
        if values and len(arrays) == len(values) and len({len(value) for value in arrays}) == 1:
            return _turned(list(content), arrays)
    if isinstance(content, list):
        if len(content) > 1 and all(isinstance(row, list) for row in content):
            if all(len(row) == len(content[0]) for row in content):
                names = [str(name) for name in content[0]]
                return [dict(zip(names, row, strict=True)) for row in content[1:]]
        else:
            return content
    raise UserError(f"{source}: JSON that is no table; expected an array of objects, or one a line")


def _turned(names: list[str], columns: list[list]) -> list[dict]:
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def _flat(record: dict, depth: int = 0) -> dict[str, Any]:
    """A record whose nested keys are joined by dots; lists stay text."""
    found = {}
    for key, value in record.items():
        if isinstance(value, dict) and depth < DEEPEST:
            found |= {f"{key}.{name}": each for name, each in _flat(value, depth + 1).items()}
        elif isinstance(value, dict | list):
            found[key] = str(value)[:200]
        elif isinstance(value, int) and abs(value) >= 1 << 63:
            found[key] = float(value) if abs(value) < 1e300 else float("inf")
        else:
            found[key] = value
    return found
