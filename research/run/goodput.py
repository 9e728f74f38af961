"""Where the time of a run goes: every second since it began is in exactly one phase.

Goodput is the share of those seconds in which training steps were taken that count in the finished
run; the rest, "badput", is told by its cause (Google, github.com/AI-Hypercomputer/
ml-goodput-measurement: "productive" over total time of a job, restarts included). The phases:

    useful      training steps that were kept
    startup     from the start of a process's work on the run to its first step, restoring included
    compile     the first call of the step
    data        waiting for the next batch
    checkpoint  saving: what the loop has to wait for
    evaluate    the score at the end
    lost        work after the checkpoint that a run went on from: it had to be done again
    away        nobody worked on the run: it was preempted, killed or stopped, and not yet taken up

A process that is killed cannot write down when, so the state of the clock goes into every
checkpoint and every heartbeat; the heartbeat's is the last that was seen of a process.
"""

import contextlib
import time
from collections.abc import Iterator
from typing import Any, TypedDict

from research.run.record import Number

PHASES: tuple[str, ...] = (
    "useful", "startup", "compile", "data", "checkpoint", "evaluate", "lost", "away",
)  # fmt: skip
IN_LOOP = ("useful", "compile", "data", "checkpoint")


class State(TypedDict):
    """A clock at one moment: seconds since 1970 when it began and now; seconds by phase."""

    began: Number
    at: Number
    spent: dict[str, Number]


def before(saved: State | None, seen: State | None, now: float) -> dict[str, float]:
    """Return the seconds by phase of the processes before one that takes up a run at `now`.

    They sum to the seconds since the run began, as far as the clocks of the machines agree; no
    phase gets less than nothing.

    Args:
        saved: the clock in the checkpoint that the run goes on from; None when from the start.
        seen: the last of the clock that was seen at all; None when there was no process before.
    """
    spent = dict(saved["spent"]) if saved else dict.fromkeys(PHASES, 0.0)
    last = max([state for state in (saved, seen) if state], key=lambda s: s["at"], default=None)
    if last is not None:
        total = sum(last["spent"].values()) + max(0.0, now - last["at"])
        spent["lost"] += max(0.0, _worked(last["spent"]) - _worked(spent))
        spent["away"] = max(0.0, total - _worked(spent))
    return spent


def _worked(spent: dict[str, float]) -> float:
    return sum(spent.values()) - spent["away"]


class Clock:
    """Seconds of one run by phase, over all its restarts; it begins in "startup".

    Attributes:
        began: when the first process took up the run, in seconds since 1970.
        phase: where the seconds go now.
    """

    def __init__(self, seen: State | None) -> None:
        self.phase, self._entered = "startup", time.monotonic()
        self._seen, self._opened = seen, time.time()
        self.began = seen["began"] if seen else self._opened
        self._before = before(seen, seen, self._opened)
        self._own = dict.fromkeys(PHASES, 0.0)

    def go_on(self, saved: State | None) -> None:
        """Go on from the state that was saved with a checkpoint, or from the start of the run."""
        self._before = before(saved, self._seen, self._opened)
        self.began = saved["began"] if saved else self.began

    def enter(self, phase: str) -> None:
        """Count from now on as `phase`."""
        now = time.monotonic()
        self._own[self.phase] += now - self._entered
        self.phase, self._entered = phase, now

    @contextlib.contextmanager
    def within(self, phase: str) -> Iterator[None]:
        """Count what is inside as `phase`."""
        outer = self.phase
        self.enter(phase)
        try:
            yield
        finally:
            self.enter(outer)

    @property
    def spent(self) -> dict[str, float]:
        """Seconds by phase, up to now."""
        self.enter(self.phase)
        return {phase: self._before[phase] + self._own[phase] for phase in PHASES}

    @property
    def seconds(self) -> float:
        """Seconds in the loop of the steps that count: the time axis of the learning curve."""
        spent = self.spent
        return sum(spent[phase] for phase in IN_LOOP)

    def state(self) -> State:
        """Return all that is needed to go on from here, as JSON."""
        return {"began": self.began, "at": time.time(), "spent": self.spent}

    def goodput(self) -> dict[str, Any]:
        """Return {"share", "seconds": {"total", and each phase}}; the phases sum to the total."""
        spent = self.spent
        total = sum(spent.values())
        return {"share": spent["useful"] / total, "seconds": {"total": total, **spent}}
