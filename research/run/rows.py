"""metrics.jsonl: a row every few steps, each written once however often the run is resumed.

A line is a row and two keys more: the number of the lease under which it was written, and a
checksum of all the rest. Rows of older runs have neither, and are read as they are.
"""

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from research.errors import UserError
from research.run import record
from research.run.storage import Appending

FILE, LEASE = "metrics.jsonl", "lease"
log = logging.getLogger("research")

Row = dict[str, Any]


def read_rows(path: Path, count: int | None = None) -> list[Row]:
    """The rows of a metrics.jsonl, up to a line cut short by a kill.

    Args:
        count: how many there are, where result.json or a checkpoint says so.

    Raises:
        UserError: when it cannot be read, a line was changed, or some are missing.
    """
    rows, damage = _scan(path)
    if damage or count is not None and len(rows) != count:
        raise UserError(_refusal(path, damage or f"has {len(rows)} of its {count} rows"))
    return rows


def tally(rows: Sequence[Row], every: int, step: int) -> list[int]:
    """[every, how many of `rows` up to `step` are at multiples of `every` steps].

    A run's last row is at its end, and goes where the run is made longer: it is not counted.
    """
    return [every, sum(row["step"] <= step and row["step"] % every == 0 for row in rows)]


class Rows:
    """The rows of a run that goes on from step `start`; those after it are dropped.

    Only a process that `writes` touches the file.

    Args:
        lease: the number of the lease under which this process writes.
        kept: what `tally` gave up to `start`, where the checkpoint says so.

    Raises:
        UserError: when the rows up to `start` are not those that were written.
    """

    def __init__(
        self,
        path: Path,
        start: int,
        writes: bool = True,
        lease: int = 0,
        kept: list[int] | None = None,
    ):
        rows, damage = _scan(path)
        self.rows = [row for row in rows if row["step"] <= start]
        if kept is None and damage:
            raise UserError(_refusal(path, damage))
        if kept is not None and (found := tally(self.rows, kept[0], start)) != kept:
            missing = f"has {found[1]} of the {kept[1]} rows up to step {start}"
            raise UserError(_refusal(path, damage or missing))
        if damage:
            log.warning("%s %s; the rows after step %d are made again", path, damage, start)
        self.start, self.lease, self.file = start, lease, None
        if writes:
            self.file = Appending(path, b"".join(map(self._line, self.rows)))

    def add(self, row: Row) -> None:
        """Append a row.

        Raises:
            UserError: when it cannot be written; the file then ends with the row before.
        """
        self.rows.append(row)
        if self.file:
            self.file.add(self._line(row))

    def flush(self) -> None:
        """Return once every row is where it belongs: before the checkpoint that counts on them.

        Raises:
            UserError: when they cannot be written.
        """
        if self.file:
            self.file.flush()

    @property
    def last_step(self) -> int:
        return self.rows[-1]["step"] if self.rows else self.start

    def recent_loss(self, before: Sequence[Row], count: int = 5) -> float | None:
        """Mean training loss of the last few rows, among them those `before` on the trunk."""
        losses = {row["step"]: row["loss"] for row in [*before, *self.rows]}
        return float(np.mean([losses[step] for step in sorted(losses)[-count:]]))

    def _line(self, row: Row) -> bytes:
        row = row | {LEASE: self.lease}
        return (json.dumps(row | {record.CHECKSUM: record.digest(row)}) + "\n").encode()


def _scan(path: Path) -> tuple[list[Row], str]:
    """The rows that count, up to the first damaged line, and what is wrong with that one.

    A row of a lower lease than one before it was written by a process that had lost the folder,
    and is dropped. A row takes the place of those before it from its step on.
    """
    rows: list[Row] = []
    newest = 0
    *lines, rest = _content(path).split(b"\n")
    for number, line in enumerate([*lines, rest] if rest else lines, start=1):
        row = _parse(line)
        if row is None:
            torn = number > len(lines)  # no end of a line behind it: the work of a kill
            return rows, "" if torn else f"line {number} was changed since it was written"
        lease = row.pop(LEASE, 0)
        if lease < newest:
            continue
        newest = lease
        while rows and rows[-1]["step"] >= row["step"]:
            rows.pop()
        rows.append(row)
    return rows, ""


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes() if path.exists() else b""
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error


def _parse(line: bytes) -> Row | None:
    """The row of a line, without its checksum; None when the line is not what was written."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(row, dict) or type(row.get("step")) is not int:
        return None
    if LEASE not in row and record.CHECKSUM not in row:
        return row
    return row if row.pop(record.CHECKSUM, "") == record.digest(row) else None


def _refusal(path: Path, reason: str) -> str:
    return f"{path} {reason}: restore the file, or delete {path.parent} to train the run again"
