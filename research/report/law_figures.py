"""Figures that doubt a law (ladder, coverage, profiles, the price of a size) and that use it."""

import altair as alt
import pandas as pd

from research.report import axes
from research.report.figures import Labels, layered

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
    lines = base.mark_line().encode(x, y, color=color, strokeDash=dash)
    points = base.mark_point(size=20).encode(x, y, color=color, tooltip=tooltip)
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
    base = alt.Chart(rows.assign(high=rows.high.clip(upper=max(shown))))
    band = base.mark_area(style="band").encode(x, alt.Y("low:Q"), y2="high:Q")
    line = base.mark_line(style="fit").encode(x, y, tooltip=tooltip)
    return layered(band, line, height=HEIGHT)


def coverage(rows: pd.DataFrame) -> alt.LayerChart:
    """Draw the share of held-out runs inside intervals against the share that was promised."""
    scale = alt.Scale(domain=[0, 102], nice=False)
    x = alt.X(
        "level:Q",
        title="Level of the interval (%)",
        scale=alt.Scale(domain=[48, 101], nice=False),
        axis=alt.Axis(values=[50, 60, 70, 80, 90, 95, 99]),
    )
    y = alt.Y("share:Q", title="Held-out runs inside (%)", scale=scale)
    tooltip = [
        alt.Tooltip("level:Q", title="Level (%)", format=".0f"),
        alt.Tooltip("share:Q", title="Inside (%)", format=".1f"),
        alt.Tooltip("low:Q", title="Low (%)", format=".1f"),
        alt.Tooltip("high:Q", title="High (%)", format=".1f"),
        alt.Tooltip("runs:Q", title="Different runs", format=".0f"),
    ]
    promise = pd.DataFrame({"level": [48.0, 101.0], "share": [48.0, 101.0]})
    low = y.copy()
    low.shorthand = "low:Q"
    base = alt.Chart(rows)
    return layered(
        alt.Chart(promise).mark_line(style="promise").encode(x, y),
        base.mark_rule(style="minimum-interval").encode(x, low, y2="high:Q"),
        base.mark_point(style="minimum", size=60).encode(x, y, tooltip=tooltip),
        height=HEIGHT,
    )


def plan_loss(labels: Labels, rows: pd.DataFrame) -> alt.LayerChart:
    """Draw the loss at the best size of each budget, dashed beyond the largest that was run."""
    x = axes.compute(rows.C)
    y = axes.loss([*rows.loss, *rows.loss_low, *rows.loss_high], "loss", labels.loss)
    rows = rows.rename(columns={"loss_low": "low", "loss_high": "high"})
    return layered(*_promised(rows, x, y, _plan_tooltip(labels)), height=HEIGHT)


def plan_allocation(labels: Labels, rows: pd.DataFrame) -> alt.LayerChart:
    """Draw the best number of parameters and the best amount of data of each budget."""
    names = {"N": labels.params.partition(" (")[0], "D": labels.amount}
    long = pd.concat(
        [
            rows[["C", "extrapolated"]].assign(
                what=title, value=rows[name], low=rows[f"{name}_low"], high=rows[f"{name}_high"]
            )
            for name, title in names.items()
        ]
    )
    x = axes.compute(rows.C)
    y = axes.count_y([*long.low, *long.high], "value", "Best number")
    color = alt.Color(
        "what:N", sort=list(names.values()), legend=alt.Legend(title=None, symbolType="stroke")
    )
    tooltip = [
        alt.Tooltip("C:Q", title="Compute C (FLOPs)", format=".2e"),
        alt.Tooltip("what:N", title="What"),
        *(
            alt.Tooltip(f"{field}:Q", title=title, format=",.0f")
            for field, title in (
                ("value", "Best"),
                ("low", "Interval, low"),
                ("high", "Interval, high"),
            )
        ),
    ]
    layers = _promised(long, x, y, tooltip, "what:N")
    return layered(*(layer.encode(color=color) for layer in layers), height=HEIGHT)


def _promised(rows, x, y, tooltip, detail: str = "") -> list[alt.Chart]:
    """A band and a line of y with low and high, dashed where the law is extrapolated."""
    dash = alt.condition("datum.extrapolated", alt.value([6, 4]), alt.value([1, 0]))
    low = y.copy()
    low.shorthand = "low:Q"
    base = alt.Chart(rows)
    lines = ["extrapolated:N", detail] if detail else ["extrapolated:N"]
    return [
        base.mark_area(style="band").encode(x, low, y2="high:Q"),
        base.mark_line(style="fit").encode(x, y, strokeDash=dash, detail=lines, tooltip=tooltip),
    ]


def _plan_tooltip(labels: Labels) -> list[alt.Tooltip]:
    shown = (
        ("C", "Compute C (FLOPs)", ".2e"),
        ("N", labels.params, ",.0f"),
        ("D", labels.amount, ",.0f"),
        ("loss", "Loss there", ".4f"),
        ("low", "Interval, low", ".4f"),
        ("high", "Interval, high", ".4f"),
    )
    return [alt.Tooltip(f"{field}:Q", title=title, format=style) for field, title, style in shown]


def exponents(rows: pd.DataFrame, title: str) -> alt.LayerChart:
    """Draw exponents with their intervals, one a row: ours as diamonds, published ones as dots."""
    order = list(rows.label)
    y = alt.Y("label:N", sort=order, title=None, axis=alt.Axis(labelLimit=150, grid=True))
    ends = axes.finite([*rows.value, *rows.low, *rows.high])
    scale = alt.Scale(domain=axes.linear_domain(ends), nice=False, zero=False)
    x = alt.X("value:Q", title=title, scale=scale, axis=alt.Axis(tickCount=6))
    tooltip = [
        alt.Tooltip("source:N", title="Source"),
        alt.Tooltip("value:Q", title="Exponent", format=".4f"),
        alt.Tooltip("low:Q", title="Interval, low", format=".4f"),
        alt.Tooltip("high:Q", title="Interval, high", format=".4f"),
    ]
    low = x.copy()
    low.shorthand = "low:Q"
    ours, published = alt.Chart(rows[rows.ours]), alt.Chart(rows[~rows.ours])
    return layered(
        published.mark_rule(style="published-interval").encode(low, y, x2="high:Q"),
        published.mark_point(style="published").encode(x, y, tooltip=tooltip),
        ours.mark_rule(style="minimum-interval").encode(low, y, x2="high:Q"),
        ours.mark_point(style="minimum", shape="diamond").encode(x, y, tooltip=tooltip),
        height=max(120, 22 * len(rows)),
    )
