"""A profile on demand: a trace of some steps of a run, for XProf, TensorBoard or Perfetto."""

import logging
import os
from pathlib import Path
from typing import Any

import jax

from research.errors import UserError

VARIABLE = "ISOFLOP_PROFILE_STEPS"  # an environment reaches workers that any launcher starts
HELP = "trace steps FIRST:END, counted from 0, into the run's folder: 10:15"
log = logging.getLogger("research")


def parse_steps(text: str) -> range:
    """Read `10:15`: steps 10 to 14, as Python counts, from 0 and the end left out.

    Raises:
        UserError: when it is not two whole numbers, the first the smaller.
    """
    first, _, end = text.partition(":")
    if not (first.isdecimal() and end.isdecimal() and int(first) < int(end)):
        raise UserError(
            f"--profile_steps {text!r}: expected FIRST:END, FIRST below END, as in 10:15"
        )
    return range(int(first), int(end))


def ask(text: str | None, last: int) -> None:
    """Ask this process and those it starts to trace the steps of `text`, where it is not None.

    Raises:
        UserError: when `text` is no range, or ends after step `last`, the longest run's.
    """
    if text is None:
        return
    if parse_steps(text).stop > last:
        raise UserError(f"--profile_steps {text!r}: END is at most {last}, the steps of the run")
    os.environ[VARIABLE] = text


class Trace:
    """Traces the steps that were asked for, of a run that takes `own`, into `folder`."""

    def __init__(self, folder: Path, own: range):
        asked = parse_steps(os.environ[VARIABLE]) if VARIABLE in os.environ else range(0)
        among = own.start <= asked.start and asked.stop <= own.stop
        self.folder, self.steps, self.running = folder, asked if among else range(0), False

    def __enter__(self) -> "Trace":
        return self

    def go_on(self, start: int) -> None:
        """Say so when a run that goes on from `start` has taken the first of the steps."""
        if self.steps and start > self.steps.start:
            asked = f"{self.steps.start}:{self.steps.stop}"
            log.warning("%s: no profile of steps %s, at %d already", self.folder, asked, start)
            self.steps = range(0)

    def before(self, step: int, newest: Any) -> None:
        """Start or stop before `step`; waits until the `newest` result of the device is there."""
        if not self.steps or step not in (self.steps.start, self.steps.stop):
            return
        jax.block_until_ready(newest)
        if step == self.steps.start:
            jax.profiler.start_trace(self.folder)
            self.running = True
        else:
            self.__exit__()

    def __exit__(self, *_: Any) -> None:
        if self.running:
            self.running = False
            jax.profiler.stop_trace()
