"""What the column y of a table of curves is: a loss or error that falls, or a score that rises."""

import re
from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy

from research.errors import UserError
from research.scaling.table.columns import finite_numbers, positive_numbers

WORD = r"(?<![a-z])({})(?![a-z])"
SCORES = WORD.format("acc|accuracy|percent|pct|f1|em|exact_match|auc|bleu|pass|score") + "|%"
LOSSES = WORD.format("loss|losses|err|errors?|nll|ppl|perplexity|bpb|mse|bits|nats|cross_?entropy")
RISING = 0.7  # rank correlation with x, of the median curve
FEWEST = 3


@dataclass(frozen=True)
class Score:
    """How y is fitted: as it is, or, where it rises towards `best`, as what it lacks of it."""

    best: float = 0.0
    notes: tuple[str, ...] = ()

    def bounds(self, low: np.ndarray, middle: np.ndarray, high: np.ndarray) -> list[np.ndarray]:
        """The same of y, in rising order, from those of what is fitted; no score is below 0."""
        if not self.best:
            return [low, middle, high]
        return [np.maximum(self.best - part, 0.0) for part in (high, middle, low)]


def read_score(
    frame: pd.DataFrame,
    name: str,
    curve: np.ndarray,
    x: np.ndarray,
    best: float | None,
    source: str,
) -> tuple[Score, np.ndarray]:
    """How column `name` is read, and its losses [rows], positive, in the rows of `frame`.

    `curve` [rows] numbers the curve of each, `x` [rows] its position. `best` is the value that y
    rises to (1 or 100 for an accuracy), 0 where it falls, None to tell by its values: curves that
    rise inside [0, 1], or inside [0, 100] under the name of a score, are scores, but for those
    under the name of a loss.

    Raises:
        UserError: a value that is no number, or not on this side of `best`.
    """
    notes: tuple[str, ...] = ()
    if best is not None and not (np.isfinite(best) and best >= 0):
        raise UserError(f"--best {best:g}: expected 1 or 100 for an accuracy, 0 for a loss")
    if best is None:
        values = finite_numbers(frame, "--y", name, source)
        best, notes = _notice(values, name, curve, x)
    if best == 0:
        return Score(0.0, notes), positive_numbers(frame, "--y", name, source)
    losses = best - finite_numbers(frame, "--y", name, source)
    bad = losses <= 0
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise UserError(
            f"{source}: column {name!r} is {best - losses[row]:g} in row {frame.index[row] + 1};"
            f" read as a score below {best:g}: name the best value that it can have with --best,"
            " or leave the row out with --where"
        )
    return Score(best, notes), losses


def _notice(
    values: np.ndarray, name: str, curve: np.ndarray, x: np.ndarray
) -> tuple[float, tuple[str, ...]]:
    """The best value of a score, 0 of a loss, and what to say of it."""
    if values.min() < 0 or values.max() > 100:
        return 0.0, ()
    ranks = []
    for number in np.unique(curve):
        mine = curve == number
        if mine.sum() >= FEWEST and np.ptp(values[mine]) > 0 and np.ptp(x[mine]) > 0:
            ranks.append(scipy.stats.spearmanr(x[mine], values[mine])[0])
    if not ranks or np.median(ranks) < RISING:
        return 0.0, ()
    best = 1.0 if values.max() <= 1 else 100.0
    a_score = re.search(SCORES, name, re.IGNORECASE)
    if not a_score and (best > 1 or re.search(LOSSES, name, re.IGNORECASE)):
        return 0.0, (
            f"{name} rises along most curves, but the laws are those of a loss that falls: if it is"
            f" a score, --best {best:g} says so",
        )
    return best, (
        f"{name} rises: read as a score of at most {best:g}, of which {best:g} - {name} is"
        " extrapolated (--best 0: a loss as it is)",
    )
