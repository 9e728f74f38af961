"""Numbers as people read them: one way to write each kind, for every table, page and message."""

import math
from collections.abc import Callable, Iterable

SUPERSCRIPTS = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")


def count(value: float, letters: str = "kMBT") -> str:
    """Three digits and a letter for thousands and up: 12.3k, 1.05M, 2.4B; rates have G for B."""
    rounded = float(f"{value:.2e}")
    power = math.floor(math.log10(abs(rounded)) / 3) if abs(rounded) >= 1000 else 0
    power = min(power, len(letters))
    return f"{rounded / 1000**power:.3g}{letters[power - 1] if power else ''}"


def power_of_ten(value: float) -> str:
    """`10¹²` or `3×10¹¹`."""
    mantissa, exponent = f"{value:.1e}".split("e")
    power = "10" + str(int(exponent)).translate(SUPERSCRIPTS)
    mantissa = mantissa.removesuffix(".0")
    return power if mantissa == "1" else f"{mantissa}×{power}"


def percent(value: float) -> str:
    """A share as a percentage: one decimal, or two below one percent."""
    return f"{100 * value:.1f}%" if abs(value) >= 0.01 else f"{100 * value:.2f}%"


def interval(low: float, high: float, style: str = ".3g") -> str:
    """`[low, high]`, or nothing where an end is not known."""
    known = math.isfinite(low) and math.isfinite(high)
    return f"[{low:{style}}, {high:{style}}]" if known else ""


def gib(size: float | None, digits: int = 3) -> str:
    """Bytes as GiB."""
    return "unknown" if size is None else f"{size / 2**30:.{digits}f} GiB"


def duration(seconds: float) -> str:
    """Seconds in the two largest units that fit: `45 s`, `3 min 20 s`, `2 d 3 h`."""
    whole = round(seconds)
    units = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))
    for (size, name), (smaller, below) in zip(units, units[1:], strict=False):
        if whole >= size:
            rest = whole % size // smaller
            return f"{whole // size} {name}" + (f" {rest} {below}" if rest else "")
    return f"{whole} s"


def few(values: Iterable, most: int = 5, shown: Callable[..., str] = str) -> str:
    """The first of `values` with commas between them, and dots where there are more."""
    values = list(values)
    return ", ".join(map(shown, values[:most])) + (", ..." if len(values) > most else "")


def rows(numbers: Iterable) -> str:
    """`row 3`, or `rows 3, 4, 5, 6, 7, ...`."""
    numbers = list(numbers)
    return f"row{'s' if len(numbers) > 1 else ''} {few(numbers)}"
