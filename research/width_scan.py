"""Which length of average suits a run: every width that its snapshots give, by the score.

All widths are scored on the same batches with the same noise, and the batches are drawn again
(Efron 1979), so that the interval is of the differences between widths, which are far smaller than
what the examples make of any one score. The best of the scan is chosen on the split it is scored
on; that its score is a little too good for that is in no interval.
"""

import csv
import functools
import io
import math
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict
from numpy.typing import NDArray

from research import evaluation, processes, trained
from research.errors import UserError
from research.optim import power_average
from research.optim.power_average import Profile
from research.run import storage

FILE = "ema.csv"
WIDTHS = 12  # of a scan, evenly in their logarithms
HELD = 4  # averages at once
RESAMPLES = 1000
LAST = 0.0  # stands for the last weights, which nothing averages


class Point(NamedTuple):
    """One width of a scan.

    Attributes:
        width: of the average; LAST for the weights themselves.
        exponent: of its profile.
        error: how far what was made of the snapshots is off that profile, as a share of its norm.
        score: on the evaluator's examples.
        low, high: the 95% interval of its difference from the best width's score.
    """

    width: float
    exponent: float
    error: float
    score: float
    low: float
    high: float


class Scan(NamedTuple):
    """What a scan found.

    Attributes:
        points: the last weights first, then by width.
        name, unit: of the score.
        best: the width between those of the points where a parabola through the best three ends.
        interval: of the best width, at 95%, by the batches.
    """

    points: list[Point]
    name: str
    unit: str
    best: float
    interval: tuple[float, float]


def scan(folder: str | Path, config: ConfigDict) -> Scan:
    """Score the run in `folder` at every width, and write the table beside its result.

    Args:
        config: of the run, whose first evaluator judges.

    Raises:
        UserError: when the run has no averages, or its evaluator gives no sums over batches.
    """
    module = evaluation.load(config.evaluation.evaluators[0])
    if not hasattr(module, "update"):
        raise UserError(
            f"--ema best: evaluator {config.evaluation.evaluators[0]!r} scores no batches, of "
            "which the interval is made; 'validation' does"
        )
    name, kind = next(iter(module.score_kinds(config).items()))
    found = trained.newest(folder)
    stored = trained.profiles(found)
    low, high = power_average.reach(stored, found.step)
    widths = np.geomspace(low, high, WIDTHS).clip(low, high).tolist()
    score = functools.partial(_resampled, config, module, name)
    rows = [score(processes.whole(found.state["params"]))]
    for first in range(0, len(widths), HELD):
        rows += map(score, trained.averages(found, widths[first : first + HELD]))
    scores_WxR = np.array(rows)
    sign = 1 if kind["better"] == "lower" else -1
    best_R = np.array([vertex(widths, sign * row) for row in scores_WxR[1:].T])
    errors = [power_average.coefficients(stored, Profile(found.step, w))[1] for w in widths]
    points = _points([LAST, *widths], [0.0, *errors], scores_WxR, sign)
    interval = tuple(np.quantile(best_R[1:], (0.025, 0.975)).tolist())
    result = Scan(points, name, kind["unit"], best_R[0], interval)
    if processes.first():
        storage.write(found.folder / FILE, _csv(result).encode())
    return result


def _resampled(
    config: ConfigDict, module: ModuleType, name: str, params: Any
) -> NDArray[np.float64]:
    """Score `name` of `params`, on all batches and then on each resample of them, [1 + R]."""
    batches = [found for found, _ in evaluation.statistics(config, params, module)]
    drawn = np.random.default_rng(0).multinomial(
        len(batches), np.full(len(batches), 1 / len(batches)), RESAMPLES
    )
    times_RxB = np.vstack([np.ones(len(batches)), drawn])
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *batches)
    sums = jax.tree.map(lambda leaf: np.tensordot(times_RxB, leaf, 1), stacked)
    rows = (jax.tree.map(lambda leaf, row=row: leaf[row], sums) for row in range(len(times_RxB)))
    values = [module.finish(config, row)[name] for row in rows]
    return np.array([float(getattr(value, "value", value)) for value in values])


def _points(
    widths: Sequence[float], errors: Sequence[float], scores_WxR: NDArray, sign: int
) -> list[Point]:
    best = 1 + int(np.argmin(sign * scores_WxR[1:, 0]))
    above_WxR = scores_WxR - scores_WxR[best]
    low_W, high_W = np.quantile(above_WxR[:, 1:], (0.025, 0.975), axis=1)
    exponents = [math.inf, *map(power_average.exponent, widths[1:])]
    rows = zip(widths, exponents, errors, scores_WxR[:, 0], low_W, high_W, strict=True)
    return [Point(*map(float, row)) for row in rows]


def vertex(widths: Sequence[float], values: NDArray) -> float:
    """The width of the least value, by a parabola in its logarithm through the three about it."""
    middle = int(np.argmin(values))
    if not 0 < middle < len(values) - 1:
        return widths[middle]
    near = slice(middle - 1, middle + 2)
    bend, slope, _ = np.polyfit(np.log(widths[near]) - math.log(widths[middle]), values[near], 2)
    return widths[middle] * math.exp(-slope / (2 * bend)) if bend > 0 else widths[middle]


def said(found: Scan) -> str:
    """The table, and what it says, for people."""
    lines = [f"width   gamma   off   {found.name:12s} above the best, 95%"]
    for each in found.points:
        lines.append(
            f"{'last' if each.width == LAST else format(each.width, '.4f'):6s}  "
            f"{each.exponent:5.1f}  {each.error:4.1%}  {each.score:<12.6g} "
            f"{each.low:+.2g} to {each.high:+.2g}"
        )
    low, high = found.interval
    lines.append(
        f"best width {found.best:.3g}, 95% interval {low:.3g} to {high:.3g} ({found.unit})"
    )
    return "\n".join(lines)


def _csv(found: Scan) -> str:
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(("width", "exponent", "profile_error", found.name, "low", "high"))
    rows.writerows([[f"{value:.8g}" for value in point] for point in found.points])
    return text.getvalue()
