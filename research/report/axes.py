"""Scales and axes: decades as powers of ten, counts with a suffix, domains that fit the data."""

import math
from collections.abc import Iterable

import altair as alt

from research.numbers import power_of_ten

# Vega's SI format says G where this field says B.
COUNT_LABEL = "replace(format(datum.value, '~s'), 'G', 'B')"


def finite(values: Iterable[float], positive: bool = False) -> list[float]:
    """Return the finite numbers among `values`, or only those above zero."""
    numbers = [float(value) for value in values if value is not None]
    return [x for x in numbers if math.isfinite(x) and (x > 0 or not positive)]


def log_domain(values: Iterable[float], margin: float = 0.05) -> list[float]:
    """Return [low, high] around positive `values` with a `margin` of the log range each side."""
    logs = [math.log10(value) for value in finite(values, positive=True)]
    if not logs:
        return [1.0, 10.0]
    pad = max(margin * (max(logs) - min(logs)), 0.02)
    return [10 ** (min(logs) - pad), 10 ** (max(logs) + pad)]


def linear_domain(values: Iterable[float], margin: float = 0.05) -> list[float]:
    """Return [low, high] around `values` with a `margin` of the range each side."""
    numbers = finite(values)
    if not numbers:
        return [0.0, 1.0]
    low, high = min(numbers), max(numbers)
    pad = margin * (high - low) or 0.05 * abs(high) or 1.0
    return [low - pad, high + pad]


def log_ticks(domain: list[float], most: int = 8) -> list[float]:
    """Return about six round numbers inside `domain`: decades, steps between them, or even steps.

    Within less than half a decade a logarithm is nearly straight, so even steps read best.
    """
    low, high = domain
    if high < 3 * low:
        raw = (high - low) / 6
        unit = 10.0 ** math.floor(math.log10(raw))
        step = unit * next(factor for factor in (1, 2, 5, 10) if factor * unit >= raw)
        first, last = math.ceil(low / step), math.floor(high / step)
        return [float(f"{step * k:.6g}") for k in range(first, last + 1)]
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks: list[float] = []
    for steps in ([1], [1, 3], [1, 2, 5], [1, 1.5, 2, 3, 4, 5, 7]):
        ticks = [float(f"{step * 10.0**decade:.6g}") for decade in decades for step in steps]
        ticks = [tick for tick in ticks if low <= tick <= high]
        if len(ticks) >= 4:
            break
    return ticks[:: math.ceil(len(ticks) / most)]


def compute(values: Iterable[float], field: str = "C", title: str = "Compute C") -> alt.X:
    """Return a log x axis of FLOPs labelled in powers of ten."""
    domain = log_domain(values)
    ticks = log_ticks(domain)
    labels = ", ".join(f"'{tick:.0f}': '{power_of_ten(tick)}'" for tick in ticks)
    expression = f"({{{labels}}})[format(datum.value, '.0f')]"
    axis = alt.Axis(
        values=ticks, labelExpr=expression, title=f"{title} (FLOPs, forward + backward)"
    )
    return alt.X(f"{field}:Q", axis=axis, scale=_scale("log", domain))


def count_x(values: Iterable[float], field: str, title: str) -> alt.X:
    """Return a log x axis of a count (parameters, tokens, images)."""
    domain = log_domain(values)
    axis = alt.Axis(values=log_ticks(domain), labelExpr=COUNT_LABEL, title=title)
    return alt.X(f"{field}:Q", axis=axis, scale=_scale("log", domain))


def count_y(values: Iterable[float], field: str, title: str) -> alt.Y:
    """Return a log y axis of a count (parameters, tokens, images)."""
    domain = log_domain(values)
    axis = alt.Axis(values=log_ticks(domain), labelExpr=COUNT_LABEL, title=title)
    return alt.Y(f"{field}:Q", axis=axis, scale=_scale("log", domain))


def loss(values: Iterable[float], field: str, title: str) -> alt.Y:
    """Return a loss axis: logarithmic when every value is positive, else linear.

    A density's bits per dimension may be negative, and then no logarithm of it exists.
    """
    values = finite(values)
    if values and min(values) > 0:
        domain = log_domain(values)
        axis = alt.Axis(values=log_ticks(domain), format="~g", title=title)
        return alt.Y(f"{field}:Q", axis=axis, scale=_scale("log", domain))
    domain = linear_domain(values)
    return alt.Y(f"{field}:Q", axis=alt.Axis(title=title), scale=_scale("linear", domain))


def linear(values: Iterable[float], field: str, title: str, style: str = "~g") -> alt.Y:
    """Return a linear y axis around `values`, labelled in the number format `style`."""
    axis = alt.Axis(title=title, format=style, tickCount=6)
    scale = _scale("linear", linear_domain(values))
    return alt.Y(f"{field}:Q", axis=axis, scale=scale)


def _scale(kind, domain: list[float]) -> alt.Scale:
    zero = alt.Undefined if kind == "log" else False
    return alt.Scale(type=kind, domain=domain, nice=False, zero=zero)
