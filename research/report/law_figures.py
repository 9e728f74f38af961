"""Figures that doubt a law: the ladder of laws, profiles of its parameters, the price of a size."""

import altair as alt
import pandas as pd

from research.report import axes
from research.report.figures import layered

HEIGHT = 240


def ladder(rows: pd.DataFrame) -> alt.LayerChart:
    """Draw each law's error on the held-out budget as a bar; the baseline is grey."""
    y = alt.Y("law:N", sort=list(rows.law), title=None, axis=alt.Axis(labelLimit=140))
    x = alt.X("error:Q", title="Error on the held-out budget (%)", scale=alt.Scale(zero=True))
    tooltip = [
        alt.Tooltip("law:N", title="Law"),
        alt.Tooltip("error:Q", title="RMS error (%)", format=".2f"),
        alt.Tooltip("bias:Q", title="Mean error (%)", format="+.2f"),
    ]
    base = alt.Chart(rows)
    bars = base.mark_bar(height=14).encode(
        x, y, tooltip=tooltip, opacity=alt.condition("datum.baseline", alt.value(0.4), alt.value(1))
    )
    words = base.mark_text(align="left", dx=4, color="gray").encode(
        x, y, text=alt.Text("error:Q", format=".2f")
    )
    return layered(bars, words, height=max(120, 34 * len(rows)))


def profiles(rows: pd.DataFrame) -> alt.LayerChart:
    """Draw how fast the fit worsens as a parameter is moved: 1 is where its interval ends."""
    x = alt.X("errors:Q", title="Standard errors from the fit", scale=alt.Scale(domain=[-8, 8]))
    y = alt.Y(
        "ratio:Q",
        title="Misfit over its limit",
        scale=alt.Scale(domain=[0, 4], nice=False),
        axis=alt.Axis(tickCount=5),
    )
    tooltip = [
        alt.Tooltip("parameter:N", title="Parameter"),
        alt.Tooltip("value:Q", title="Held at", format=".4g"),
        alt.Tooltip("ratio:Q", title="Misfit over its limit", format=".2f"),
    ]
    names = list(dict.fromkeys(rows.parameter))
    color = alt.Color("parameter:N", sort=names, legend=alt.Legend(title=None))
    dash = alt.StrokeDash("parameter:N", sort=names, legend=None)
    base = alt.Chart(rows)
    limit = alt.Chart(pd.DataFrame({"ratio": [1.0]})).mark_rule(style="zero").encode(y)
    lines = base.mark_line(clip=True).encode(x, y, color=color, strokeDash=dash)
    points = base.mark_point(size=20, clip=True).encode(x, y, color=color, tooltip=tooltip)
    return layered(limit, lines, points, height=HEIGHT)


def trade_off(rows: pd.DataFrame) -> alt.LayerChart:
    """Draw the loss that a size other than the best costs, at one budget."""
    x = alt.X(
        "multiple:Q",
        title="Parameters over the optimal number",
        scale=alt.Scale(type="log", domain=[0.25, 4], nice=False),
        axis=alt.Axis(values=[0.25, 0.5, 1, 2, 4], format="~g"),
    )
    shown = [*rows.excess, *rows.high.clip(upper=3 * rows.excess.max())]
    y = axes.linear([0.0, *shown], "excess", "Loss above the best (%)", "~f")
    tooltip = [
        alt.Tooltip("multiple:Q", title="Times N_opt", format=".2f"),
        alt.Tooltip("N:Q", title="Parameters", format=",.0f"),
        alt.Tooltip("excess:Q", title="Loss above the best (%)", format=".2f"),
    ]
    base = alt.Chart(rows)
    band = base.mark_area(style="band", clip=True).encode(x, alt.Y("low:Q"), y2="high:Q")
    line = base.mark_line(style="law", clip=True).encode(x, y, tooltip=tooltip)
    return layered(band, line, height=HEIGHT)
