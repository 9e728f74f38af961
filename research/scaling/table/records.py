"""Tables in JSON: a record a line (our metrics.jsonl), an array of them, or columns of values."""

import json
from typing import Any

import pandas as pd

from research.errors import UserError
from research.run.record import named_once

DEEPEST = 5  # levels of a record that become a.b.c


def is_json(text: str) -> bool:
    """Whether `text` begins as JSON does and a table does not."""
    start = text.lstrip()[:200]
    return start[:1] == "{" or (start[:1] == "[" and start[1:].lstrip()[:1] in ("{", "]", "["))


def read_json_table(text: str, source: str) -> tuple[pd.DataFrame, list[str]]:
    """The table in `text`, nested keys joined by dots, and what was left out of it.

    Raises:
        UserError: what is no table, naming the line.
    """
    notes: list[str] = []
    try:
        content = _parsed(text)
    except ValueError as error:
        lines = [(k, line) for k, line in enumerate(text.split("\n"), 1) if line.strip()]
        if len(lines) < 2 or not _is_record(lines[0][1]):
            raise UserError(f"{source}: not JSON: {_reason(error)}") from error
        content, notes = _lines(lines, source)
    records = _records(content, source)
    for number, record in enumerate(records, 1):
        if not isinstance(record, dict):
            what = str(record)[:40]
            raise UserError(f"{source}: record {number} is {what!r}; expected an object")
    frame = pd.json_normalize(records, max_level=DEEPEST)
    texts = {
        name: frame[name].map(lambda v: str(v)[:200] if isinstance(v, list | dict) else v)
        for name in frame
        if frame[name].dtype.kind == "O"
    }
    return frame.assign(**texts), notes


def _is_record(line: str) -> bool:
    try:
        return isinstance(_parsed(line), dict)
    except ValueError:
        return False


def _lines(lines: list[tuple[int, str]], source: str) -> tuple[list, list[str]]:
    """The records of JSON lines; a last line that was cut short is left out."""
    records: list = []
    for number, line in lines:
        try:
            records.append(_parsed(line))
        except ValueError as error:
            if number != lines[-1][0]:
                raise UserError(f"{source}: line {number} is not JSON: {_reason(error)}") from error
            return records, [f"line {number} is cut short: left out"]
    return records, []


def _parsed(text: str) -> Any:
    """JSON, for which a key twice and too deep a nest are errors of value; counts may be huge."""
    try:
        return json.loads(
            text,
            object_pairs_hook=named_once,
            parse_int=lambda digits: int(digits) if len(digits) < 19 else float(digits),
        )
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error


def _reason(error: Exception) -> str:
    return str(error).splitlines()[0][:120]


def _records(content: Any, source: str) -> list:
    """The records of an array, of {"data": [...]}, of {name: record}, or of columns of values."""
    if isinstance(content, dict) and content:
        values = list(content.values())
        arrays = [value for value in values if isinstance(value, list)]
        if len(arrays) == 1 and arrays[0] and isinstance(arrays[0][0], dict):
            return arrays[0]
        if all(isinstance(value, dict) for value in values):
            by_row = all(key.isdigit() for value in values for key in value)
            return pd.DataFrame(content).to_dict("records") if by_row else values
        if len(arrays) == len(values) and len(set(map(len, arrays))) == 1:
            return pd.DataFrame(content).to_dict("records")
    if isinstance(content, list):
        rows = len(content) > 1 and all(isinstance(row, list) for row in content)
        if not rows:
            return content
        if len(set(map(len, content))) == 1:
            return pd.DataFrame(content[1:], columns=[*map(str, content[0])]).to_dict("records")
    raise UserError(f"{source}: JSON that is no table; expected an array of objects, or one a line")
