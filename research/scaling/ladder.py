"""Ladders: runs in which size and data grow together, so that no law can tell one from the other.

The commonest table there is holds eight runs of twenty tokens a parameter. It supports a law of one
variable, its interval, and a prediction of the next rung; what N and D do each by itself takes a
run off the ladder. A table that knows only N, or only D, is a ladder too.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from research.scaling.table import Table

# Ratios of D to N this close to their middle are one ratio.
SAME_RATIO = 1.1
# Values of one column further apart than this are two rungs.
SAME_RUNG = 1.02
FEWEST = 3  # rungs; a line that is not a ratio takes one more to be seen
# The run that parts N from D: a quarter of the size on four times the data, for equal FLOPs.
ASIDE = 4.0


@dataclass(frozen=True)
class Ladder:
    """Runs on one line. `last` and `next` are the N, D and C (those known) of two rungs.

    Where N and D both grow D = ratio * at * (N / at)^power: `ratio` is D / N where it is one ratio
    (then `power` is 1), or else at `at` parameters, the middle of the runs. All three are None
    where only one of N and D is known, or grows.
    """

    num_rungs: int
    last: Mapping[str, float]
    next: Mapping[str, float]
    ratio: float | None = None
    power: float | None = None
    at: float | None = None

    @property
    def line(self) -> str:
        """How D goes with N, in words."""
        if self.power == 1:
            return f"D = {self.ratio:.3g} N"
        return f"D grows as N^{self.power:.3g}"

    @property
    def aside(self) -> dict[str, float]:
        """N and D of a run that would part them, for the FLOPs of the last rung."""
        return {"N": self.last["N"] / ASIDE, "D": self.last["D"] * ASIDE}

    @property
    def advice(self) -> str:
        """Why no law of N and D can be told from these runs, and what run would mend it."""
        aside = self.aside
        return (
            f"N and D move together ({self.line} in every row), so that no law tells one from the"
            f" other: runs off that line do, such as N = {aside['N']:.3g}, D = {aside['D']:.3g}"
        )

    def to_json(self) -> dict[str, Any] | None:
        """For laws.json: D / N, or None where N and D do not both grow."""
        if self.ratio is None:
            return None
        return {
            "D_over_N": self.ratio,
            "power": self.power,
            "at_N": self.at,
            "off_ratio": self.aside,
        }


def ladder(table: Table) -> Ladder | None:
    """The ladder that `table` is, or None: N and D vary apart, or it has fewer than 3 rungs."""
    known = table.known("NDC")
    logs = {name: np.log(np.asarray(table[name], float)) for name in known}
    grow = [name for name in known if len(table) and np.ptp(logs[name]) > np.log(SAME_RUNG)]
    # Of compute alone nothing says that its runs went one way: those have an envelope.
    if not grow or known == ["C"]:
        return None
    lead = grow[0]
    rungs = np.sort(logs[lead])
    rungs = rungs[np.concatenate([[True], np.diff(rungs) > np.log(SAME_RUNG)])]
    if len(rungs) < FEWEST:
        return None
    ratio = power = at = None
    if {"N", "D"} <= set(grow):
        line = _line(logs["N"], logs["D"], len(rungs))
        if line is None:
            return None
        (offset, power), at = line, float(np.exp(logs["N"].mean()))
        ratio = float(np.exp(offset) * at ** (power - 1))
    ahead = rungs[-1] + float(np.median(np.diff(rungs)))
    last, after = ({name: _at(logs, lead, name, x) for name in known} for x in (rungs[-1], ahead))
    if ratio is not None:
        for rung in (last, after):
            rung["D"] = ratio * at * (rung["N"] / at) ** power
    return Ladder(len(rungs), last, after, ratio, power, at)


def _line(size: np.ndarray, data: np.ndarray, num_rungs: int) -> tuple[float, float] | None:
    """(offset, slope) of log D on log N where every row is within SAME_RATIO of it, else None."""
    ratios = data - size
    middle = float(ratios.max() + ratios.min()) / 2
    if np.abs(ratios - middle).max() <= np.log(SAME_RATIO):
        return float(ratios.mean()), 1.0
    slope, offset = np.polyfit(size, data, 1)
    off = np.abs(data - offset - slope * size).max()
    if slope <= 0 or off > np.log(SAME_RATIO) or num_rungs <= FEWEST:
        return None
    return float(offset), float(slope)


def _at(logs: Mapping[str, np.ndarray], lead: str, name: str, x: float) -> float:
    """Column `name` where the log of `lead` is `x`, along the runs' line."""
    if name == lead:
        return float(np.exp(x))
    slope, offset = np.polyfit(logs[lead], logs[name], 1)
    return float(np.exp(offset + slope * x))
