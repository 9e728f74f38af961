"""Units that cannot be meant: billions in a column of ones, PF-days for FLOPs, both in one column.

FLOPs of every architecture are within a few thousand times 6ND (an image counts its patches), and
nobody trains on a millionth of a token a parameter: what is further off is a unit, and a law fitted
to it would be a law of the mistake.
"""

from collections.abc import Mapping

import numpy as np

from research.errors import UserError
from research.numbers import rows as said_rows
from research.scaling.table.columns import spelled

# Decades between C and 6ND, and of D / N, that no training run reaches.
OFF_6ND = 5.0
DATA_A_PARAMETER = (-6.0, 8.5)
# Decades of a column that is in billions: its largest value is below this.
SMALL = 5.0
# A gap of so many decades parts rows in one unit from rows in another.
GAP = 4.5
UNITS = {3: "thousands", 6: "millions", 9: "billions", 12: "trillions"}
Logs = Mapping[str, np.ndarray]


def refuse_units(
    values: Mapping[str, np.ndarray], names: Mapping[str, str], rows: np.ndarray, source: str
) -> None:
    """Refuse a table whose columns cannot be counts of parameters, data and FLOPs.

    `values` are columns N, D and perhaps C [rows] as the file has them, `names` what it calls them,
    `rows` the numbers that people count its rows by.

    Raises:
        UserError: naming the column, and the rows where some are in another unit than the rest.
    """
    logs = {name: np.log10(values[name]) for name in "NDC" if name in values}
    if not {"N", "D"} <= set(logs):
        return
    ratio, what = logs["D"] - logs["N"], f"{names['D']!r} / {names['N']!r}"
    if "C" in logs:
        ratio = logs["C"] - logs["N"] - logs["D"] - np.log10(6)
        what = f"C / 6ND of columns {', '.join(repr(names[name]) for name in 'CND')}"
    odd = _odd_rows(ratio)
    middle = float(np.median(ratio[~odd]))
    if odd.any():
        apart = {n: abs(np.median(v[odd]) - np.median(v[~odd])) for n, v in logs.items()}
        raise UserError(
            f"{source}: column {names[max(apart, key=apart.__getitem__)]!r} mixes units: in"
            f" {said_rows(rows[odd])} {what} is {10 ** np.median(ratio[odd] - middle):.1e} times"
            " that of the other rows"
        )
    if "C" in logs and abs(middle) > OFF_6ND:
        raise UserError(f"{source}: {_against_flops(logs, names, middle)}")
    low, high = DATA_A_PARAMETER
    for name, absurd in (("D", middle < low), ("N", middle > high)):
        if "C" not in logs and absurd and logs[name].max() < SMALL:
            raise UserError(
                f"{source}: column {names[name]!r} looks to be in billions: there are"
                f" {10**middle:.1e} {names['D']!r} a parameter; {_mend(name, names[name], 9)}"
            )


def _odd_rows(ratio: np.ndarray) -> np.ndarray:
    """Mask of the smaller of two camps of rows that lie GAP or more apart; none without a gap."""
    order = np.argsort(ratio)
    gaps = np.diff(ratio[order])
    odd = np.zeros(len(ratio), bool)
    if len(gaps) > 1 and gaps.max() > GAP:
        cut = int(gaps.argmax()) + 1
        odd[order[:cut] if cut <= len(ratio) / 2 else order[cut:]] = True
    return odd


def _against_flops(logs: Logs, names: Mapping[str, str], middle: float) -> str:
    """Which column is in what unit where C is 10^`middle` times 6ND."""
    text = f"column {names['C']!r} is {10**middle:.1e} times 6ND"
    if middle < 0:
        return f"{text}: expected FLOPs (a petaFLOP/s-day is 8.64e19)"
    power, small = 3 * round(middle / 3), [n for n in "ND" if np.median(logs[n]) < 6]
    if len(small) == 1 and power in UNITS:
        (name,) = small
        mend = _mend(name, names[name], power)
        return f"{text}: {names[name]!r} looks to be in {UNITS[power]}; {mend}"
    which = " or ".join(repr(names[name]) for name in small or "ND")
    return f"{text}: {which} looks to be in another unit; expected plain counts"


def _mend(name: str, column: str, power: int) -> str:
    """How an option makes plain counts of a column."""
    option = {"N": "--params", "D": "--data"}[name]
    return f"expected plain counts: give {option} '1e{power}*{spelled(column)}'"
