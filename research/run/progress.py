"""The progress of a run: heartbeats in its folder, a live line on a terminal, a last line.

A heartbeat is written at most once a second and in at most a hundredth of the time.
"""

import contextlib
import dataclasses
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from research import hardware, processes, terminal
from research.errors import UserError
from research.run import files, heartbeat, record, watch
from research.run.goodput import Clock
from research.run.heartbeat import Beat

SECONDS = 1.0  # between two heartbeats, at least
COST = 0.01  # of the time, at most


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
        speed = {}
        if self.first and step is not None and step > self.first[0] and state == "training":
            rate = (step - self.first[0]) / (began - self.first[1])
            share = rate * self.step_flops / self.peak if self.peak else None
            left = (self.steps - step) / rate
            speed = {"per_second": rate * self.amount, "share": share, "left": left}
        said = (state, step, self.steps, self.loss)
        beat = Beat(*said, unit=self.unit, clock=self.clock.state(), **speed)
        with contextlib.suppress(UserError):  # a run does not end for want of being watched
            record.write_json(self.folder / heartbeat.FILE, dataclasses.asdict(beat), durable=False)
        if self.live:
            width = shutil.get_terminal_size().columns - 1  # a line that wraps cannot be redrawn
            line = watch.line(watch.Row(self.folder.name, beat))[:width]
            print(f"\r\x1b[2K{line}", end="", file=terminal.Patient(sys.stderr), flush=True)
        ended = time.monotonic()
        self.due = ended + max(SECONDS, (ended - began) / COST)

    def close(self) -> None:
        """Remove the heartbeat; call it before the result is written."""
        if self.speaks:
            self.check()
            (self.folder / heartbeat.FILE).unlink(missing_ok=True)

    def done(self, result: dict[str, Any]) -> None:
        """Print the run's one line."""
        if self.live:
            print("\r\x1b[2K", end="", file=terminal.Patient(sys.stderr))
        score = result.get("score", {"value": None})
        known = score["value"] is not None
        value = f"{score['value']:.4f} {score['unit']}" if known else result["status"]
        if result["status"] == files.FAILED:
            value += f", failed: {', '.join(result['failures'])}"
        if stopped := result.get("stopped"):
            value += f" at step {stopped['step']:,}, {stopped['gap']:.1%} behind {stopped['rival']}"
        rate = result["flops_spent"] / max(result["seconds"], 1e-9) / 1e9
        print(
            f"{self.folder.name:44s} {result['params']['total']:>10,} params "
            f"{result['flops']:9.2e} FLOPs "
            f"{result['seconds']:6.1f} s {rate:6.1f} GFLOP/s  {value}",
            file=terminal.Patient(sys.stdout),  # whose reader may have gone; what is next has not
            flush=True,
        )
