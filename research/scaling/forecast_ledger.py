"""forecasts.jsonl: a forecast of a run to come a line, each chained to the one before it."""

import hashlib
import json
from typing import Any

from research.errors import UserError

FILE = "forecasts.jsonl"
FIRST = "0" * 64  # what stands for the hash before the first record


def chained(record: dict[str, Any], previous: str) -> str:
    """The sha256 of `record` (without its own `hash`) after the one whose hash is `previous`."""
    held = {key: value for key, value in record.items() if key != "hash"}
    words = json.dumps(held, sort_keys=True, allow_nan=False, separators=(",", ":"))
    return hashlib.sha256(f"{previous}\n{words}".encode()).hexdigest()


def line(record: dict[str, Any], previous: str) -> str:
    """The line of `record` with its hash."""
    whole = {**record, "hash": chained(record, previous)}
    return json.dumps(whole, sort_keys=True, allow_nan=False) + "\n"


def parse(text: str, source: str) -> list[dict[str, Any]]:
    """The records of `text`, oldest first.

    Raises:
        UserError: a line is no record, or was edited, or one before it was edited or deleted.
    """
    records, previous = [], FIRST
    for number, words in enumerate(text.split("\n")[:-1], 1):
        try:
            record = json.loads(words, parse_constant=float.fromhex)
            found = chained(record, previous)
            said = record["hash"]
        except (ValueError, KeyError, AttributeError, RecursionError):
            raise UserError(f"{source}: line {number} is no forecast: {words[:40]!r}") from None
        if said != found:
            raise UserError(
                f"{source}: line {number} breaks the chain: it or one before it was changed"
            )
        records.append(record)
        previous = said
    if text and not text.endswith("\n"):
        raise UserError(f"{source}: line {len(records) + 1} is cut off")
    return records
