"""What a run says of itself while it goes: the file progress.json in its folder.

`run.watch` reads it wherever the folder can be read; it is gone when result.json is there.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

from research.errors import UserError
from research.run import record
from research.run.goodput import PHASES, State
from research.run.record import Count, Number

FILE = "progress.json"


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
    step: Count | None = None
    steps: Count | None = None
    loss: float | None = None
    per_second: Number | None = None
    unit: str | None = None
    share: Number | None = None
    left: Number | None = None
    clock: State | None = None


def last_beat(folder: Path) -> Beat | None:
    """Return the heartbeat in `folder`, or None where there is none.

    Raises:
        UserError: when it cannot be read or is none.
    """
    path = folder / FILE
    try:
        return record.read_json(path, Beat) if path.exists() else None
    except UserError:
        if path.exists():
            raise
        return None  # it went just now: the run has ended


def seen(folder: Path) -> State | None:
    """Return the clock of the last heartbeat in `folder`; one that cannot be read is said."""
    try:
        beat = last_beat(folder)
    except UserError as error:
        print(f"warning: {error}; where the time went before is not known", file=sys.stderr)
        return None
    if beat is None or beat.clock is None:
        return None
    spent = {phase: beat.clock["spent"].get(phase, 0.0) for phase in PHASES}
    return {**beat.clock, "spent": spent}
