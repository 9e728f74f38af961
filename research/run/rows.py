"""metrics.jsonl: a row every few steps, each written once however often the run is resumed."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from research.run import buckets, record

Row = dict[str, Any]


def read_rows(path: Path) -> list[Row]:
    """The rows of a metrics.jsonl, up to a line cut short by a kill."""
    rows = []
    for line in path.read_text().splitlines() if record.exists(path) else []:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows


class Rows:
    """The rows of a run that goes on from step `start`; those after it are dropped.

    Only a process that `writes` touches the file. In a bucket, where nothing is appended, rows wait
    for the next `flush`, before a checkpoint: a run that goes on makes those after it again anyway.
    """

    def __init__(self, path: Path, start: int, writes: bool = True):
        self.rows = [row for row in read_rows(path) if row["step"] <= start]
        self.path, self.start, self.writes = path, start, writes
        if writes:
            record.write_text(path, "".join(map(_line, self.rows)))

    def add(self, row: Row) -> None:
        """Append a row.

        Raises:
            UserError: when it cannot be written; the file then ends with the row before.
        """
        self.rows.append(row)
        if self.writes and not buckets.remote(self.path):
            record.append(self.path, _line(row))

    def flush(self) -> None:
        """Return once every row is where it belongs.

        Raises:
            UserError: when they cannot be written.
        """
        if self.writes and buckets.remote(self.path):
            record.write_text(self.path, "".join(map(_line, self.rows)))

    @property
    def last_step(self) -> int:
        return self.rows[-1]["step"] if self.rows else self.start

    def recent_loss(self, before: Sequence[Row], count: int = 5) -> float | None:
        """Mean training loss of the last few rows, among them those `before` on the trunk."""
        losses = {row["step"]: row["loss"] for row in [*before, *self.rows]}
        return float(np.mean([losses[step] for step in sorted(losses)[-count:]]))


def _line(row: Row) -> str:
    return json.dumps(row) + "\n"
