"""What every figure is said in: axes with round ticks, marks that name a style, tooltips.

A style says the mark and the theme its colours; a table is cut to its axes rather than its marks
clipped, which makes a picture many times slower to draw.
"""

import math
from collections.abc import Iterable, Mapping

import altair as alt
import pandas as pd

from research.numbers import power_of_ten
from research.report.theme import MARKS

# Vega's SI format says G where this field says B.
COUNT_LABEL = "replace(format(datum.value, '~s'), 'G', 'B')"


def finite(values: Iterable[float | None], positive: bool = False) -> list[float]:
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


def log_axis(channel, values: Iterable[float], field: str, title: str, **labels):
    """Return a log axis: `channel` is alt.X or alt.Y, `labels` how its ticks are written."""
    domain = log_domain(values)
    axis = alt.Axis(values=log_ticks(domain), title=title, **labels)
    scale = alt.Scale(type="log", domain=domain, nice=False)
    return channel(f"{field}:Q", axis=axis, scale=scale)


def counts(channel, values: Iterable[float], field: str, title: str):
    """Return a log axis of a count (parameters, tokens, images)."""
    return log_axis(channel, values, field, title, labelExpr=COUNT_LABEL)


def resource(titles: Mapping[str, str], values: Iterable[float], field: str) -> alt.X:
    """Return the log x axis of what was put in: N, D, or C in FLOPs as powers of ten."""
    if field != "C":
        return counts(alt.X, values, field, titles[field])
    values = list(values)
    ticks = log_ticks(log_domain(values))
    labels = ", ".join(f"'{tick:.0f}': '{power_of_ten(tick)}'" for tick in ticks)
    expression = f"({{{labels}}})[format(datum.value, '.0f')]"
    title = "Compute C (FLOPs, forward + backward)"
    return log_axis(alt.X, values, field, title, labelExpr=expression)


def loss(values: Iterable[float], field: str, title: str) -> alt.Y:
    """Return a loss axis: logarithmic when every value is positive, else linear.

    A density's bits per dimension may be negative, and then no logarithm of it exists.
    """
    values = finite(values)
    if values and min(values) > 0:
        return log_axis(alt.Y, values, field, title, format="~g")
    return linear(alt.Y, values, field, title)


def linear(channel, values: Iterable[float], field: str, title: str, **labels):
    """Return a linear axis around `values`, of which `labels` says how its ticks are written."""
    scale = alt.Scale(type="linear", domain=linear_domain(values), nice=False, zero=False)
    return channel(f"{field}:Q", axis=alt.Axis(title=title, **labels), scale=scale)


def tip(column: str, title: str, style: str = "") -> alt.Tooltip:
    """A line of a tooltip: a number in the format `style`, or text where there is none."""
    if not style:
        return alt.Tooltip(f"{column}:N", title=title)
    return alt.Tooltip(f"{column}:Q", title=title, format=style)


def ends(style: str, title: str = "Interval") -> list[alt.Tooltip]:
    """Both ends of an interval in a tooltip."""
    return [tip("low", f"{title}, low", style), tip("high", f"{title}, high", style)]


def mark(rows: pd.DataFrame, style: str, *channels, **encodings) -> alt.Chart:
    """Draw `rows` in a style of the theme."""
    return alt.Chart(rows, mark=alt.MarkDef(style=style, **MARKS[style])).encode(
        *channels, **encodings
    )


def span(rows: pd.DataFrame, style: str, along, across, **encodings) -> alt.Chart:
    """Draw what reaches from column low to column high `along` a channel, cut to its domain."""
    first, last = along["scale"]["domain"]
    rows = rows.assign(low=rows.low.clip(first, last), high=rows.high.clip(first, last))
    low = along.copy()
    low.shorthand = "low:Q"
    encodings["y2" if isinstance(along, alt.Y) else "x2"] = "high:Q"
    return mark(rows, style, low, across, **encodings)


def promised(rows: pd.DataFrame, x: alt.X, y: alt.Y, tooltip, **encodings) -> list[alt.Chart]:
    """A law's band and its line, dashed where it leaves the runs that it was fitted on."""
    dash = alt.condition("datum.extrapolated", alt.value([6, 4]), alt.value([1, 0]))
    more = {"strokeDash": dash, "detail": "extrapolated:N", "tooltip": tooltip}
    return [
        span(rows, "band", y, x, **encodings),
        mark(rows, "fit", x, y, **more, **encodings),
    ]


def inside(table: pd.DataFrame, field: str, channel) -> pd.DataFrame:
    """Return the rows whose `field` lies in the domain of `channel`."""
    return table[table[field].between(*channel["scale"]["domain"])]


def layered(*layers: alt.Chart, height: int) -> alt.LayerChart:
    """Return one figure of these layers, the first at the bottom."""
    return alt.LayerChart(layer=list(layers), height=height)
