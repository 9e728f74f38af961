"""How far a law may be carried (check 13): ten times past its runs, unless they span enough.

Past them is either way: above the largest run and below the smallest.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

# Decades that N, D and C must span for a law of them to be carried further.
WANTED_DECADES = {"N": 1.5, "D": 1.5, "C": 2.0}
REACH = 10.0
# Decades past its runs to which no law is carried: that is another unit, or another question.
FARTHEST_DECADES = {"N": 6.0, "D": 6.0, "C": 12.0}
ROUNDING = 1e-9

Span = Mapping[str, Sequence[float]]


def decades(span: Span) -> dict[str, float]:
    """log10(largest / smallest) of each column of `span`."""
    return {name: float(np.log10(high / low)) for name, (low, high) in span.items()}


def narrow(span: Span, names: Sequence[str]) -> str | None:
    """Which of the columns `names` are too narrow, in words; None when all are wide enough."""
    known = decades({name: span[name] for name in names if name in span})
    short = [name for name, wide in known.items() if wide < WANTED_DECADES[name]]
    if not short:
        return None
    return ", ".join(
        f"{name} spans {known[name]:.2f} decades (want {WANTED_DECADES[name]:g})" for name in short
    )


def sizes(variables: Sequence[str]) -> tuple[str, ...]:
    """What must be wide for a law of `variables`; of compute alone, runs may be of one size."""
    return ("N", "C") if "N" in variables else ("C",)


def beyond(span: Span, wanted: Mapping[str, ArrayLike]) -> dict[str, np.ndarray]:
    """Decades [rows] by which `wanted` passes the runs: above 0 past the largest, below 0 short of
    the smallest, 0 among them. Only of what `span` holds positive ends of.
    """
    found = {}
    for name, value in wanted.items():
        if name in span and span[name][0] > 0:
            low, high = np.log10(np.asarray(span[name], float))
            with np.errstate(divide="ignore", invalid="ignore"):
                place = np.log10(np.asarray(value, float))
            past = np.where(place > high, place - high, np.minimum(place - low, 0.0))
            found[name] = np.where(np.abs(past) < ROUNDING, 0.0, past)
    return found


def said(name: str, past: float) -> str:
    """`past` decades of the column `name` in words."""
    if past == 0:
        return f"{name} is among the runs"
    end = "above the largest" if past > 0 else "below the smallest"
    return f"{name} is {10 ** abs(past):.3g} times {end} fitted"


def warnings(past: Mapping[str, np.ndarray]) -> list[str]:
    """One line for each column that goes over `REACH` times past the runs, either way."""
    ends = [(name, end) for name, value in past.items() for end in (np.max(value), np.min(value))]
    limit = np.log10(REACH) + ROUNDING
    return [
        f"[13 extrapolation] {said(name, float(end))}"
        for name, end in dict.fromkeys((name, float(end)) for name, end in ends)
        if abs(end) > limit
    ]


def refusal(span: Span, wanted: Mapping[str, ArrayLike], variables: Sequence[str]) -> str | None:
    """Why a law of `variables` may not be carried to `wanted`, or None.

    What `sizes` names must be wide for it, and so must whichever of N, D and C goes too far.
    """
    past = {name: float(v.flat[np.abs(v).argmax()]) for name, v in beyond(span, wanted).items()}
    far = [name for name, value in past.items() if abs(value) > np.log10(REACH) + ROUNDING]
    far.sort(key=lambda name: -abs(past[name]))
    for name in far:
        if abs(past[name]) > FARTHEST_DECADES.get(name, np.inf):
            text = "too far for any law of these runs: is it in the unit of the fit?"
            return f"check 13: {said(name, past[name])}, {text}"
    short = narrow(span, [n for n in WANTED_DECADES if n in (*sizes(variables), *far)])
    if not far or short is None:
        return None
    return f"check 13: {said(far[0], past[far[0]])}, and {short}{_widened(span, short)}"


def _widened(span: Span, short: str) -> str:
    """Which runs would make the first narrow column wide enough."""
    name = short.partition(" ")[0]
    low, high = span[name]
    factor = 10 ** WANTED_DECADES[name]
    return f"; runs at {name} = {high / factor:.2g} or {low * factor:.2g} would widen it"
