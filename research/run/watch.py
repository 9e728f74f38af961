"""A study while it runs: one line a trial, read from its folder, wherever that can be read.

`read` is the one reader of a study's state; `table` and `line` are how it looks. They serve the
live table of `sweep`, the verb `watch`, and `sweep status` on every backend. They only read:
closing them leaves the runs alone.
"""

import argparse
import contextlib
import functools
import math
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from research.errors import UserError
from research.numbers import count, duration
from research.run import files, storage
from research.run.heartbeat import Beat, last_beat
from research.terminal import Patient, one_line

SILENT_SECONDS = 20  # without a heartbeat, before it is worth a word
RATES = "kMGT"  # letters of thousands, as of bytes and FLOPs a second
ENDED = ("finished", "diverged", files.FAILED, files.STOPPED)
COLUMNS = {  # and widths that hold still while numbers change
    "run": 12, "step": 15, "loss": 7, "speed": 15, "of peak": 7, "left": 11, "state": 9,
}  # fmt: skip
BROKEN = "unreadable"
OVER = (*ENDED, BROKEN)
ORDER = ("training", "compiling", "scoring", "starting", "stopped", BROKEN, *ENDED, "waiting")


@dataclass(frozen=True)
class Row:
    """One run: its id, its last heartbeat or what its result says, its score with the unit.

    In place of a score it says why a run is unreadable. `beat.state` is mostly one of ORDER;
    `silent` is seconds since the heartbeat of a run that goes on; `where` is its job's machine.
    """

    id: str
    beat: Beat
    score: str = ""
    silent: float = 0.0
    where: str = ""


def read(folder: Path) -> list[Row]:
    """Return every run of the study in `folder` (or the one run that it is), trunks among them.

    Raises:
        UserError: when the folder holds neither a study nor a run.
    """
    there = set(storage.names(folder))
    if "study.json" not in there:
        if not there & {"config.json", "progress.json"}:
            raise UserError(f"{folder}: neither a study nor a run is in it")
        return [read_run(folder)]
    planned = files.read_description(folder).get("trials", [])
    others = {path.parent.name for path in folder.glob("*/config.json")} - set(planned)
    return [read_run(folder / name) for name in (*sorted(others), *planned)]


def read_run(folder: Path) -> Row:
    """Return what can be known of the run in `folder`."""
    try:
        if (folder / files.RESULT).exists():
            return _ended(folder)
        beat = last_beat(folder)
    except UserError as error:
        return Row(folder.name, Beat(BROKEN), str(error))
    if beat is None or beat.clock is None:
        return Row(folder.name, Beat("waiting"))
    silent = 0.0 if beat.state == "stopped" else max(0.0, time.time() - beat.clock["at"])
    return Row(folder.name, beat, silent=silent)


@functools.cache  # a result never changes
def _ended(folder: Path) -> Row:
    result = files.read_result(folder)
    score, steps = result.get("score"), result.get("steps")
    loss = files.loss(result)
    value = f"{loss:.4f} {score['unit']}" if score and math.isfinite(loss) else ""
    stopped = result.get("stopped")
    step = stopped["step"] if stopped else steps
    beat = Beat(result.get("status", "finished"), step, steps, result.get("train_loss"))
    return Row(folder.name, beat, value)


def cells(row: Row) -> dict[str, str]:
    """Return a row as text, by COLUMNS and "where"; what is not known is empty."""
    beat, silent = row.beat, row.silent > SILENT_SECONDS
    state = f"{beat.state}, silent {duration(row.silent)}" if silent else beat.state
    said = {
        "run": row.id,
        "step": beat.steps is not None and f"{beat.step or 0:,}/{beat.steps:,}",
        "loss": beat.loss is not None and f"{beat.loss:.4f}",
        "speed": beat.per_second is not None
        and f"{count(beat.per_second, RATES)} {beat.unit or ''}/s",
        "of peak": beat.share is not None and f"{beat.share:.0%}",
        "left": beat.left is not None and not silent and duration(beat.left),
        "state": f"{state} {row.score}",
        "where": row.where,
    }
    return {name: one_line(text or "") for name, text in said.items()}


def line(row: Row) -> str:
    """Return a row as one line of text."""
    words = {"step": "step {}", "loss": "loss {}", "of peak": "{} of peak", "left": "{} left"}
    said = cells(row).items()
    return "  ".join(words.get(name, "{}").format(text) for name, text in said if text)


def table(rows: Sequence[Row], columns: dict[str, int] = COLUMNS) -> Table:
    """Return the rows as an aligned table, the busiest first."""
    drawn = Table(box=None, pad_edge=False, header_style="dim")
    for name, width in columns.items():
        side: Any = "left" if name in ("run", "state", "where") else "right"
        drawn.add_column(name, justify=side, min_width=width, no_wrap=True, overflow="ellipsis")
    for row in sorted(rows, key=lambda row: _place(row.beat.state)):
        said = cells(row)
        words = [Text(said[name]) for name in columns]  # no markup in what files say
        drawn.add_row(*words, style="dim" if row.beat.state in (*ENDED, "waiting") else "")
    return drawn


def _place(state: str) -> int:
    return ORDER.index(state) if state in ORDER else len(ORDER)


def summary(rows: Sequence[Row]) -> str:
    """Return how many runs are in each state, in one line."""
    counts = Counter(row.beat.state for row in rows)
    said = [f"{counts[state]} {one_line(state)}" for state in sorted(counts, key=_place)]
    return f"{len(rows)} runs: {', '.join(said)}"


def show(rows: Sequence[Row], columns: dict[str, int] = COLUMNS) -> None:
    """Print every row and the summary once: as wide as they are, unless on a terminal."""
    console = Console(width=None if sys.stdout.isatty() else 1000)
    with console.capture() as captured:
        console.print(table(rows, columns))
    for each in captured.get().splitlines():
        print(each.rstrip())
    print(summary(rows))


class _Screen:
    """The rows that move, redrawn in place at the bottom of a terminal; other lines go above."""

    def __init__(self, folder: Path):
        self.folder = folder
        console = Console(file=cast(IO[str], Patient(sys.stdout)))
        self.live = Live(console=console, auto_refresh=False, transient=True)

    def draw(self) -> list[Row]:
        rows = read(self.folder)
        moving = [row for row in rows if row.beat.state not in (*OVER, "waiting")]
        room = max(1, self.live.console.height - 3)  # the header, the summary and the cursor
        parts = [table(moving[:room])] if moving else []
        self.live.update(Group(*parts, Text(summary(rows))), refresh=True)
        return rows

    def say(self, text: str) -> None:
        self.live.console.print(Text(text), soft_wrap=True)


def _pause(began: float) -> float:
    """Seconds to the next look, which may take a twentieth of the time: folders can be far away."""
    return max(1.0, 20 * (time.monotonic() - began))


@contextlib.contextmanager
def screen(folder: Path) -> Iterator[int | None]:
    """Draw the live table of the sweep in `folder` while inside.

    Yields the file descriptor to which its workers write, so that their lines go above the table;
    None where the output is no terminal, and nothing is drawn.
    """
    if not (sys.stdout.isatty() and sys.stderr.isatty()):
        yield None
        return
    ours, theirs = os.pipe()
    drawn, stop = _Screen(folder), threading.Event()

    def copy() -> None:
        with os.fdopen(ours, errors="replace") as lines:
            for text in lines:
                drawn.say(text.rstrip("\n"))

    def redraw() -> None:
        pause = 0.0
        while not stop.wait(pause):
            began = time.monotonic()
            with contextlib.suppress(UserError):  # the sweep itself says what is wrong
                drawn.draw()
            pause = _pause(began)

    threads = [threading.Thread(target=each, daemon=True) for each in (copy, redraw)]
    with drawn.live:
        for thread in threads:
            thread.start()
        try:
            yield theirs
        finally:
            os.close(theirs)
            stop.set()
            for thread in threads:
                thread.join(5)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", help="a study's folder, such as runs/quickstart")


def run(args: argparse.Namespace) -> int:
    """Watch a folder until every run in it has ended, or once when the output is no terminal."""
    folder = storage.path(args.folder)
    rows = read(folder)
    if not sys.stdout.isatty():
        show(rows)
        return 0
    drawn, over = _Screen(folder), {row.id for row in rows if row.beat.state in OVER}
    with drawn.live, contextlib.suppress(KeyboardInterrupt):
        while len(over) < len(rows):
            began = time.monotonic()
            rows = drawn.draw()
            ended = [row for row in rows if row.beat.state in OVER]
            for row in ended:
                if row.id not in over:
                    drawn.say(line(row))
            over |= {row.id for row in ended}
            if len(over) < len(rows):
                time.sleep(_pause(began))
    show(rows)
    return 0
