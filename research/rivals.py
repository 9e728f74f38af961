"""Trials that differ only in what is tuned are rivals: one that is far behind may stop early.

Rivals see the same batches in the same order and cool down at the same time, so the gap between two
of their learning curves at equal steps is several times less noisy than either curve. What it says
of the end depends on the rates. Of two runs that differ in nothing else, the one of the lower rate
leads in the middle and is overtaken in the cooldown: where it is behind once the start is over, it
stays behind. The other one may come back from far: on images the best rate of eight was 13%
behind half of it after two fifths of the run. So a run stops when it is behind a rival beyond the
gap's noise (`ERRORS`) and a margin, a small one where its rate is the lower, and else one that only
runs that have blown up are beyond.

Replayed two at a time, in any order, on sweeps of eight rates over 300 to 560 steps: text and
images by Muon, text by AdamW with a cooldown of a fifth. Numbers were set on 24 runs of one seed.
Of 45 others (another seed; and a third at other sizes and rates) 16 were stopped in some order or
other: all ended 3.8% or more behind their best, and 7 to 23% of a sweep's steps were saved. A rate
of a quarter of the best is mostly found; eight times the ladder's is on images, where it blows up,
and not on text, where it costs 4 to 6%.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from research import config as configs
from research.errors import UserError
from research.run import files
from research.run.rows import FILE, Row, read_rows
from research.trunks import Trial

# Keys of config.train that rivals share, as they decide how a curve falls or what is judged; the
# others, rates and decay and moments, are what is tuned.
SHARED = (
    "steps", "batch_size", "optimizer", "parametrization", "schedule", "warmup_steps",
    "decay_steps", "decay_fraction", "decay_shape", "ema_decay", "noise_scale", "frozen",
)  # fmt: skip
BEGIN = 0.4  # of the steps, before which no run stops: high rates lead at first
WINDOW = 0.2  # of the steps, over whose rows a gap is averaged
LOOKS = 20  # at rivals, evenly over a run
FEWEST = 8  # rows of a window
LOWER, OTHER = 0.03, 0.3  # margins of log loss: of a lower rate, and of whatever else differs
ERRORS = 3.0  # standard errors


class Rival(NamedTuple):
    """A run by its folder, and the margin by which one may be behind it and go on."""

    folder: Path
    margin: float


class Behind(NamedTuple):
    """Why a run stopped: after `step` steps its log loss was `gap` above that of `rival`."""

    step: int
    rival: str
    gap: float


def cell(config: ConfigDict) -> str:
    """What a run shares with its rivals, as text: all but its label and what is tuned."""
    plain = configs.to_plain(config)
    shared = {key: plain["train"][key] for key in SHARED}
    return json.dumps({**plain, "arm": "", "train": shared}, sort_keys=True)


def margin(config: ConfigDict, rival: ConfigDict) -> float:
    """How far the run of `config` may be behind its `rival`, of the same cell, and go on."""
    train, other = (configs.to_plain(each.train) for each in (config, rival))
    lower = train.pop("learning_rate") < other.pop("learning_rate")
    return LOWER if lower and train == other else OTHER


def of(trials: Sequence[Trial], folder: Path) -> dict[str, tuple[Rival, ...]]:
    """The rivals of each trial of a study in `folder`, by its id.

    Those that have none, or too few rows to be judged by, are left out. A trunk has none: it is
    constant in rate, and its branches are judged in their own cooldown.
    """
    cells: dict[str, list[Trial]] = {}
    for trial in trials:
        if not trial.branches and trial.config.train.steps * WINDOW >= (
            FEWEST * trial.config.log_steps
        ):
            cells.setdefault(cell(trial.config), []).append(trial)
    return {
        trial.id: tuple(
            Rival(folder / other.id, margin(trial.config, other.config))
            for other in trials
            if other is not trial
        )
        for trials in cells.values()
        if len(trials) > 1
        for trial in trials
    }


def look_due(step: int, every: int, steps: int) -> bool:
    """Whether the row of `step`, of rows `every` so many steps, is one at which rivals are read."""
    return step >= BEGIN * steps and step * LOOKS // steps > (step - every) * LOOKS // steps


def behind(rows: Sequence[Row], rivals: Sequence[Rival], steps: int) -> Behind | None:
    """Why the run of `rows`, which takes `steps` in all, should stop; None when it should go on.

    Rivals that diverged or stopped themselves do not count, so that the best always ends.
    """
    own = losses(rows)
    for folder, allowed in rivals:
        try:
            over = (folder / files.RESULT).exists()
            if over and files.read_result(folder).get("status") != "finished":
                continue
            rival = losses(read_rows(folder / FILE))
        except UserError:  # whose it is will say so
            continue
        gap, error = gap_to(own, rival, steps)
        if gap - ERRORS * error > allowed:
            return Behind(rows[-1]["step"], folder.name, gap)
    return None


def losses(rows: Sequence[Mapping[str, Any]]) -> dict[int, float]:
    """Training loss by step."""
    return {row["step"]: row["loss"] for row in rows}


def gap_to(own: dict[int, float], rival: dict[int, float], steps: int) -> tuple[float, float]:
    """Mean and standard error of the gap in log loss over the newest steps that both have taken.

    NaN where they are too few, too early, or of losses that have no logarithm.
    """
    common = sorted(own.keys() & rival.keys())
    window = [step for step in common if step > common[-1] - WINDOW * steps]
    if len(window) < FEWEST or window[-1] < BEGIN * steps:
        return np.nan, np.nan
    pairs = np.array([(own[step], rival[step]) for step in window])
    if not (pairs > 0).all():
        return np.nan, np.nan
    gaps = np.log(pairs[:, 0] / pairs[:, 1])
    return float(gaps.mean()), float(gaps.std(ddof=1) / np.sqrt(len(gaps)))
