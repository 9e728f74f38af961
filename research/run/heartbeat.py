"""What a run says of itself while it goes: the file progress.json in its folder.

`run.watch` reads it wherever the folder can be read; it is gone when result.json is there.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from research.run.goodput import State

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
