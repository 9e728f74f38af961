"""How far a law may be carried (check 13): ten times past its runs, unless they span enough."""

from collections.abc import Mapping, Sequence

import numpy as np

# Decades that N and C must span for a law of them to be carried further.
WANTED_DECADES = {"N": 1.5, "C": 2.0}
REACH = 10.0

Span = Mapping[str, Sequence[float]]


def decades(span: Span) -> dict[str, float]:
    """log10(largest / smallest) of each column of `span`."""
    return {name: float(np.log10(high / low)) for name, (low, high) in span.items()}


def narrow(span: Span, names: Sequence[str] = tuple(WANTED_DECADES)) -> str | None:
    """Which of the columns `names` are too narrow, in words; None when all are wide enough."""
    known = decades({name: span[name] for name in names if name in span})
    short = [name for name, wide in known.items() if wide < WANTED_DECADES[name]]
    if not short:
        return None
    return ", ".join(
        f"{name} spans {known[name]:.2f} decades (want {WANTED_DECADES[name]:g})" for name in short
    )


def times_beyond(span: Span, wanted: Mapping[str, np.ndarray | float]) -> tuple[str, float]:
    """(column, how many times past its largest fitted value `wanted` goes) of the farthest one."""
    times = {
        name: float(np.max(np.asarray(value) / span[name][1]))
        for name, value in wanted.items()
        if name in span
    }
    farthest = max(times, key=lambda name: times[name], default="")
    return farthest, times.get(farthest, 0.0)


def refusal(
    span: Span, wanted: Mapping[str, np.ndarray | float], names: Sequence[str]
) -> str | None:
    """Why the law may not be carried to `wanted`, or None; `names` of N, C must be wide for it."""
    column, times = times_beyond(span, wanted)
    short = narrow(span, [name for name in WANTED_DECADES if name in names])
    if times <= REACH * (1 + 1e-9) or short is None:
        return None
    return f"check 13: {column} is {times:.3g} times the largest fitted, and {short}"
