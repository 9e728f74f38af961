"""What a run says of itself while it goes: a heartbeat, a live line on a terminal, a last line.

The heartbeat is the file progress.json in the run's folder, which `research.watch` reads wherever
the folder can be read. It is written at most once a second and in at most a hundredth of the time,
and it is gone when result.json is there.
"""

import contextlib
import dataclasses
import json
import logging
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from research import hardware, processes, record
from research.errors import UserError
from research.goodput import Clock, State

FILE = "progress.json"
SECONDS = 1.0  # between two heartbeats, at least
COST = 0.01  # of the time, at most


def set_up_logging() -> None:
    """Show our warnings, a line each; what Orbax and TFDS log as errors they raise as well."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    for name in ("absl", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    sys.unraisablehook = _unraisable


def _unraisable(found: Any) -> None:
    # TensorStore answers after a failed restore or save was given up; nobody waits for it then.
    if str(found.exc_value) != "Event loop is closed":
        sys.__unraisablehook__(found)


@dataclass(frozen=True)
class Beat:
    """What a run says of itself at one moment; None is what it cannot say yet.

    Attributes:
        state: starting, compiling, training, scoring or stopped.
        step: steps done, of `steps`.
        loss: training loss of the newest row of metrics.
        per_second: `unit` ("tokens" or "images") a second since the first step of this process.
        share: FLOP/s by the ledger over the peak of all devices (`hardware.peak_flops`).
        left: seconds to the last step at this rate.
        clock: where the time went (`goodput.Clock.state`), with when this was said.
    """

    state: str
    step: int | None = None
    steps: int | None = None
    loss: float | None = None
    per_second: float | None = None
    unit: str | None = None
    share: float | None = None
    left: float | None = None
    clock: State | None = None


def last_beat(folder: Path) -> Beat | None:
    """Return the heartbeat in `folder`, or None where there is none that can be read."""
    try:
        return Beat(**json.loads((folder / FILE).read_text()))
    except (OSError, ValueError, TypeError):
        return None


def seen(folder: Path) -> State | None:
    """Return the clock of the last heartbeat in `folder`."""
    beat = last_beat(folder)
    return beat and beat.clock


class Progress:
    """The progress of one run of `steps` steps in `folder`, each `amount` tokens or images.

    `check` raises when the folder is no longer this process's (`lease.holding`).
    """

    def __init__(
        self,
        folder: Path,
        check: Callable[[], None],
        clock: Clock,
        steps: int,
        amount: int,
        unit: str,
        step_flops: float,
    ):
        self.folder, self.check, self.clock = folder, check, clock
        self.steps, self.amount, self.unit, self.step_flops = steps, amount, unit, step_flops
        self.loss: float | None = None
        self.first: tuple[int, float] | None = None  # the first step of this process, and when
        self.due = 0.0
        self.speaks = processes.first()
        self.live = self.speaks and sys.stderr.isatty()
        self.peak = hardware.peak_flops()
        self.say("starting", None)

    def step(self, done: int) -> None:
        """Say that `done` steps are done; cheap, however often it is called."""
        now = time.monotonic()
        if self.first is None:
            self.first = done, now
        if now >= self.due:
            self.say("training", done)

    def say(self, state: str, step: int | None) -> None:
        """Write a heartbeat, and redraw the live line where there is one."""
        if not self.speaks:
            return
        self.check()
        began = time.monotonic()
        beat = Beat(state, step, self.steps, self.loss, unit=self.unit)
        if self.first and step is not None and step > self.first[0] and state == "training":
            rate = (step - self.first[0]) / (began - self.first[1])
            beat = dataclasses.replace(
                beat,
                per_second=rate * self.amount,
                share=rate * self.step_flops / self.peak if self.peak else None,
                left=(self.steps - step) / rate,
            )
        beat = dataclasses.replace(beat, clock=self.clock.state())
        with contextlib.suppress(UserError):  # a run does not end for want of being watched
            record.write_json(self.folder / FILE, dataclasses.asdict(beat), durable=False)
        if self.live:
            from research import watch

            width = shutil.get_terminal_size().columns - 1  # a line that wraps cannot be redrawn
            line = watch.line(watch.Row(self.folder.name, beat))[:width]
            print(f"\r\x1b[2K{line}", end="", file=sys.stderr, flush=True)
        ended = time.monotonic()
        self.due = ended + max(SECONDS, (ended - began) / COST)

    def close(self) -> None:
        """Remove the heartbeat; call it before the result is written."""
        if self.speaks:
            (self.folder / FILE).unlink(missing_ok=True)

    def done(self, result: dict[str, Any]) -> None:
        """Print the run's one line."""
        if self.live:
            print("\r\x1b[2K", end="", file=sys.stderr)
        score = result.get("score", {"value": None})
        known = score["value"] is not None
        value = f"{score['value']:.4f} {score['unit']}" if known else result["status"]
        rate = result["flops_spent"] / max(result["seconds"], 1e-9) / 1e9
        print(
            f"{self.folder.name:44s} {result['params']['total']:>10,} params "
            f"{result['flops']:9.2e} FLOPs "
            f"{result['seconds']:6.1f} s {rate:6.1f} GFLOP/s  {value}",
            flush=True,
        )
