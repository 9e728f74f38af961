"""forecasts.jsonl: a forecast of a run to come a line, each chained to the one before it.

A chain shows what was changed or taken out of its middle. What was cut off its end it cannot show:
that takes its head, the last hash, to be known elsewhere, as in a commit of the file.
"""

import hashlib
import json
from typing import Any, TypedDict

from research.errors import UserError
from research.run.record import Number, named_once

FILE = "forecasts.jsonl"
FIRST = "0" * 64  # what stands for the hash before the first record


class Forecast(TypedDict):
    """What is said of a run, and of what it rests on."""

    trial: str
    part: str
    params: Number
    data: Number
    flops: Number
    times: Number  # the most FLOPs of the runs that the law was fitted to
    law: str
    prediction: Number
    low: Number
    high: Number
    level: Number
    reach: bool  # whether the lab vouches for the law so far out (check 13)
    unit: str
    kind: str
    runs: int
    source: str
    table: str  # sha256 of the rows
    code: dict[str, Any]
    at: str
    previous: str
    hash: str


def chained(record: dict[str, Any]) -> str:
    """The sha256 of `record` without its own `hash`; the one before it is its `previous`."""
    held = {key: value for key, value in record.items() if key != "hash"}
    words = json.dumps(held, sort_keys=True, allow_nan=False, separators=(",", ":"))
    return hashlib.sha256(words.encode()).hexdigest()


def line(record: dict[str, Any], previous: str) -> str:
    """The line of `record` after the one whose hash is `previous`."""
    whole = {**record, "previous": previous}
    return json.dumps({**whole, "hash": chained(whole)}, sort_keys=True, allow_nan=False) + "\n"


def parse(text: str, source: str) -> list[dict[str, Any]]:
    """The records of `text`, oldest first.

    Raises:
        UserError: a line is no record, or was edited, or one before it was edited or deleted.
    """
    records: list[dict[str, Any]] = []
    previous = FIRST
    for number, words in enumerate(text.split("\n")[:-1], 1):
        where = f"{source}: line {number}"
        try:
            record = json.loads(words, parse_constant=float.fromhex, object_pairs_hook=named_once)
            intact = record["hash"] == chained(record) and record["previous"] == previous
        except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
            raise UserError(f"{where} is no forecast: {words[:40]!r}") from None
        if not intact:
            raise UserError(f"{where} breaks the chain: it or one before it was changed")
        records.append(record)
        previous = record["hash"]
    if text and not text.endswith("\n"):
        raise UserError(f"{source}: line {len(records) + 1} is cut off")
    return records
