"""What a law asks of a table: runs that bend to a floor (check 16), errors of a task (check 22).

A power without a floor, fitted to runs that bend towards one, has a scatter that is no noise. A
task is worth a law only where runs are past guessing (Schaeffer 2023; Gadre 2024 averages over
the 17 of 46 tasks that are) and where its error goes one way (McKenzie 2023: inverse scaling).
"""

import numpy as np
import scipy

from research.scaling.doubt.table_checks import Finding, found_by
from research.scaling.laws import WITH_FLOOR, WITHOUT_FLOOR, Law
from research.scaling.table import Table

FEWEST = 7  # rows that make a curve
MOST_ROWS = 20_000  # of a table whose curves are looked at
TURN = 5.0  # a curve turns by so many deviations of its noise
GUESS = 0.02  # an error this close to guessing is guessing
SHARES = 1 - np.logspace(0, -3, 61)  # of the smallest loss, that the floor may be
FEWEST_BENT = 5
# What one parameter more must explain, in residual variances: far past any table of F.
CLEARLY = 30.0
NOTHING = 1e-5  # scatter of log loss that is no matter


def guessing(table: Table) -> Finding | None:
    """22: runs at the error of a guess among `choices` answers, 1 - 1 / choices."""
    if table.choices is None:
        return None
    floor = 1 - 1 / table.choices
    lost = table["L"] > floor - GUESS
    if not lost.any():
        return None
    text = f"{{rows}} of {len(table)} rows are at the error of guessing, {{guess:.3g}}: they say"
    return Finding.of(
        22, "guessing", f"{text} nothing of the curve", rows=int(lost.sum()), guess=floor
    )


def turning(table: Table, law: Law) -> list[Finding]:
    """22: errors that rise again as the law's own variable goes on, all other variables alike."""
    found = []
    if len(table) > MOST_ROWS:
        return found
    for name in law.variables:
        others = [other for other in law.variables if other != name]
        curves = table.frame.groupby(others) if others else [("", table.frame)]
        means = (rows.groupby(name)["L"].mean().to_numpy(float) for _, rows in curves)
        turns = [_turns(curve) for curve in means if len(curve) >= FEWEST]
        turned, count = sum(turns), len(turns)
        if turned:
            text = "the loss turns as {variable} goes on in {turned} of {curves} curves: the law is"
            numbers = {"variable": name, "curves": count, "turned": turned}
            found.append(Finding.of(22, "not monotone", f"{text} monotone", **numbers))
    return found


def _turns(values: np.ndarray) -> bool:
    """Whether medians of three go against the curve's own direction by TURN times its noise."""
    middle = np.median(np.lib.stride_tricks.sliding_window_view(values, 3), axis=1)
    rising = np.median(values[len(values) // 2 :]) > np.median(values[: len(values) // 2])
    middle = -middle if rising else middle
    against = float((middle - np.minimum.accumulate(middle)).max())
    # Second differences: what is left of a smooth curve is small beside its noise.
    noise = float(np.median(np.abs(np.diff(values, 2)))) / (0.6745 * np.sqrt(6))
    return against > max(TURN * noise, 1e-3 * float(np.abs(values).max()))


def accuracy(table: Table) -> Finding | None:
    """22: a "loss" between 0 and 1 that grows with compute, or is called an accuracy."""
    column = table.columns.get("loss", "")
    named = any(word in column.lower() for word in ("acc", "exact_match", "pass@", "f1"))
    grows = False
    if table.known("C") and len(table) >= FEWEST and table["L"].max() <= 1:
        grows = float(scipy.stats.spearmanr(table["C"], table["L"]).statistic) > 0.7
    if not named and not grows:
        return None
    why = "is called an accuracy" if named else "grows with compute"
    text = f"the loss (column {column!r}) {why}: a law falls; fit 1 - accuracy"
    return Finding(22, "accuracy", text, {"column": column})


def missing_floor(table: Table, law: Law) -> Finding | None:
    """16: a law without a floor where the same law with one leaves far less scatter."""
    if law not in WITHOUT_FLOOR.values() or len(table) < FEWEST_BENT or (table["L"] <= 0).any():
        return None
    (variable,) = law.variables
    x, loss = np.log(table[variable]), table["L"]
    if np.ptp(x) < 1e-3:
        return None
    left = [_scatter(x, loss, share * loss.min()) for share in SHARES]
    without, best = left[0], min(left)
    degrees = len(table) - 3
    if without**2 <= best**2 * (1 + CLEARLY / degrees) or without < NOTHING:
        return None
    text = (
        f"the scatter of log loss about this law is {without:.2g}, with a floor {best:.2g}: it is"
        f" no noise, and the intervals do not hold; --law {WITH_FLOOR[variable].name} has the floor"
    )
    return Finding(16, "no floor", text, {"without": without, "with_floor": best})


def _scatter(x: np.ndarray, loss: np.ndarray, floor: float) -> float:
    """RMS of log loss about floor + A / e^(alpha x), fitted to the logs of what is above it."""
    slope, offset = np.polyfit(x, np.log(loss - floor), 1)
    fitted = np.log(floor + np.exp(offset + slope * x))
    return float(np.sqrt(np.mean((np.log(loss) - fitted) ** 2)))


def law_findings(table: Table, law: Law | None = None) -> list[Finding]:
    """Every warning of this file."""
    found = found_by((guessing, accuracy), table)
    if law is not None:
        laws_own = (turning,) if law.target in ("loss", "error") else ()
        found += found_by((*laws_own, missing_floor), table, law)
    return found
