"""Units that cannot be meant: billions in a column of ones, PF-days for FLOPs, both in one column.

FLOPs of every architecture are within a few thousand times 6ND (an image counts its patches), and
nobody trains on a millionth of a token a parameter: what is further off is a unit, and a law fitted
to it would be a law of the mistake.
"""

from collections.abc import Mapping

import numpy as np

from research import numbers
from research.errors import UserError
from research.scaling.table.expression import spelled

# Decades between C and 6ND, and of D / N, that no training run reaches.
OFF_6ND = 5.0
DATA_A_PARAMETER = (-6.0, 8.5)
# Decades of a column that is in billions: its largest value is below this.
SMALL = 5.0
# A gap of so many decades parts rows in one unit from rows in another.
GAP = 4.5
UNITS = {3: "thousands", 6: "millions", 9: "billions", 12: "trillions"}


def refuse_units(values: Mapping[str, np.ndarray], names: Mapping[str, str], rows, source: str):
    """Refuse a table whose columns cannot be counts of parameters, data and FLOPs.

    `values` are columns N, D and perhaps C [rows], `names` what the file calls them (those it has
    not, it derived), `rows` the numbers that people count its rows by.

    Raises:
        UserError: naming the column, and the rows where some are in another unit than the rest.
    """
    if not {"N", "D"} <= set(names):
        return
    logs = {name: np.log10(values[name]) for name in names if name in values}
    if "C" in logs:
        ratio = logs["C"] - logs["N"] - logs["D"] - np.log10(6)
        what = f"C / 6ND of columns {', '.join(repr(names[name]) for name in ('C', 'N', 'D'))}"
    else:
        ratio = logs["D"] - logs["N"]
        what = f"{names['D']!r} / {names['N']!r}"
    odd = _odd_rows(ratio)
    middle = float(np.median(ratio[~odd]))
    if odd.any():
        _refuse_rows(logs, names, ratio - middle, odd, rows, what, source)
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


def _refuse_rows(logs, names, off, odd, rows, what, source):
    """Name the column whose values stand out in the odd rows."""
    apart = {
        name: float(np.abs(np.median(values[odd]) - np.median(values[~odd])))
        for name, values in logs.items()
    }
    column = names[max(apart, key=lambda name: apart[name])]
    raise UserError(
        f"{source}: column {column!r} mixes units: in {numbers.rows(np.asarray(rows)[odd])} {what}"
        f" is {10 ** np.median(off[odd]):.1e} times that of the other rows"
    )


def _against_flops(logs, names, middle: float) -> str:
    text = f"column {names['C']!r} is {10**middle:.1e} times 6ND"
    power = 3 * round(middle / 3)
    if middle < 0:
        return f"{text}: expected FLOPs (a petaFLOP/s-day is 8.64e19)"
    small = [names[name] for name in ("N", "D") if np.median(logs[name]) < 6]
    which = " and ".join(repr(name) for name in small) or f"{names['N']!r} or {names['D']!r}"
    unit = UNITS.get(power, "another unit") if len(small) < 2 else "another unit"
    expected = "expected plain counts"
    if len(small) == 1 and power in UNITS:
        name = next(key for key in ("N", "D") if names[key] == small[0])
        expected = _mend(name, small[0], power)
    return f"{text}: {which} looks to be in {unit}; {expected}"


def _mend(name: str, column: str, power: int) -> str:
    """How an option makes plain counts of a column."""
    option = {"N": "--params", "D": "--data"}[name]
    return f"expected plain counts: give {option} '1e{power}*{spelled(column)}'"
