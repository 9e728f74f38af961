"""A power without a floor, fitted to runs that bend towards one: its scatter is no noise."""

import numpy as np

from research.scaling.doubt.table_checks import Finding
from research.scaling.laws import WITH_FLOOR, WITHOUT_FLOOR, Law
from research.scaling.table import Table

SHARES = 1 - np.logspace(0, -3, 61)  # of the smallest loss, that the floor may be
FEWEST = 5
# What one parameter more must explain, in residual variances: far past any table of F.
CLEARLY = 30.0
NOTHING = 1e-5  # scatter of log loss that is no matter


def missing_floor(table: Table, law: Law) -> Finding | None:
    """16: a law without a floor where the same law with one leaves far less scatter."""
    if law not in WITHOUT_FLOOR.values() or len(table) < FEWEST or (table["L"] <= 0).any():
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
