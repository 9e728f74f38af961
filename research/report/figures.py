"""The figures: each function draws one, from tables that hold what the page's words say.

A figure has no width and no colours of its own: the page and the exporter give both. Points are
runs (columns id, part, size, seed, budget, N, D, C, loss, epochs, flags, held_out, usable).
"""

from dataclasses import dataclass

import altair as alt
import pandas as pd

from research.numbers import power_of_ten
from research.report import axes
from research.scaling.fit import Rung

HEIGHT = 320
MOST_SIZES = 12  # with a place each in the legend
# What a point carries into the page: enough to place it and to say which run it is.
POINT_COLUMNS = ["id", "size", "seed", "budget", "N", "D", "C", "loss", "flags", "held_out"]


@dataclass(frozen=True)
class Labels:
    """Axis titles of one part, each with its unit and convention."""

    loss: str
    params: str
    amount: str
    curve_loss: str
    training_loss: str = "Training loss (as optimised)"


def loss_against_compute(
    labels: Labels,
    runs: pd.DataFrame,
    curves: pd.DataFrame,
    frontier: pd.DataFrame,
    law: pd.DataFrame,
    held_out: pd.DataFrame,
    floor: float | None,
    height: int = HEIGHT,
    interactive: bool = True,
    field: str = "C",
    rung: Rung | None = None,
) -> alt.LayerChart:
    """Draw every run's loss at its compute, its learning curve, and the frontier's law.

    Where compute is not known `field` is what stands in for it, "N" or "D".

    Args:
        labels: axis titles.
        runs: the table of runs; only usable ones are drawn.
        curves: columns id, size, C, loss: loss while training, in the same unit.
        frontier: columns `field`, loss: the best loss at each compute, as the law saw it.
        law: columns `field`, loss, low, high, extrapolated: the fitted law and its interval.
        held_out: rows of runs with predicted, low, high: runs the law never saw, the best last.
        floor: a loss no model can go below, if known.
        height: of the plot, in pixels.
        interactive: hovering a run follows its learning curve.
        field: "C", "N" or "D".
        rung: the next run of a ladder, and what the law promises of it.
    """
    runs = _drawn(runs)
    sizes = size_order(runs)
    losses = [*runs.loss, *law.low, *law.high, *([] if floor is None else [floor])]
    losses += [] if rung is None else [rung.low]
    domain = _capped(runs, losses)
    x = _scale_axis(labels, [*runs[field], *law[field]], field)
    y = axes.loss(domain, "loss", labels.loss)
    hover = alt.selection_point(name="hovered", fields=["id"], on="pointerover", empty=False)
    # Strokes opaque or not, and tables cut, not marks clipped: a picture is rasterised far quicker.
    faint = alt.condition(hover, alt.value(1), alt.value(0.22))
    law = _inside(law, "loss", y)
    curves = curves[["id", "size", *dict.fromkeys(("N", field)), "loss"]]
    curves = _inside(_inside(curves, "loss", y), field, x)
    lines = (
        alt.Chart(curves)
        .mark_line(style="curve")
        .encode(x, y, detail="id:N", order=f"{field}:Q", color=size_color(sizes))
    )
    points = alt.Chart(runs).mark_point(style="run")
    points = points.encode(x, y, color=size_color(sizes), tooltip=run_tooltip(labels))
    if interactive:
        thick = alt.condition(hover, alt.value(2), alt.value(1))
        lines = lines.encode(strokeOpacity=faint, strokeWidth=thick)
        points = points.add_params(hover)
    else:
        lines = lines.encode(strokeOpacity=alt.value(0.22))
    layers = [
        lines,
        alt.Chart(_cut(law, y, "low", "high"))
        .mark_area(style="band")
        .encode(x, y=_like(y, "low"), y2="high:Q"),
        law_line(law, x, y),
        points,
        alt.Chart(frontier).mark_point(style="frontier", filled=False).encode(x, y),
        *held_out_layers(held_out, labels, x, y),
    ]
    if rung is not None:
        layers.extend(rung_layers(rung, x, y))
    if floor is not None:
        layers.extend(floor_layers(floor, x, y, max(runs[field], default=1.0)))
    return layered(*layers, height=height)


def _scale_axis(labels: Labels, values: list[float], field: str) -> alt.X:
    """The x axis of compute, or of the size or the data that stand in for it."""
    if field == "C":
        return axes.compute(values)
    return axes.count_x(values, field, labels.params if field == "N" else labels.amount)


def law_line(law: pd.DataFrame, x: alt.X, y: alt.Y) -> alt.Chart:
    """Draw a fitted line, dashed where it leaves the runs it was fitted on."""
    dash = alt.condition("datum.extrapolated", alt.value([6, 4]), alt.value([1, 0]))
    title = {"C": "Compute C (FLOPs)", "N": "Parameters N", "D": "Data D"}
    field = x.shorthand.partition(":")[0]
    tooltip = [_number(field, title[field], ".2e"), *_interval_tooltip("law")]
    return (
        alt.Chart(law)
        .mark_line(style="fit")
        .encode(x, y, strokeDash=dash, detail="extrapolated:N", tooltip=tooltip)
    )


def held_out_layers(held_out: pd.DataFrame, labels: Labels, x: alt.X, y: alt.Y) -> list[alt.Chart]:
    """Draw the held-out runs as diamonds, and the interval predicted for the best, the last row."""
    tooltip = [
        *run_tooltip(labels, flags=False),
        _number("predicted", "Predicted", ".4f"),
        _number("low", "Interval, low", ".4f"),
        _number("high", "Interval, high", ".4f"),
    ]
    held_out = held_out[[*POINT_COLUMNS, "predicted", "low", "high"]]
    every, best = alt.Chart(held_out), alt.Chart(held_out.tail(1))
    return [
        every.mark_point(style="held-out-run", shape="diamond", filled=False).encode(
            x, y, tooltip=tooltip
        ),
        best.mark_rule(style="held-out-interval").encode(x, _like(y, "low"), y2="high:Q"),
        best.mark_point(style="held-out", shape="diamond").encode(x, y, tooltip=tooltip),
    ]


def rung_layers(rung: Rung, x: alt.X, y: alt.Y) -> list[alt.Chart]:
    """Draw the next run of a ladder as an open triangle, and the interval of its loss."""
    field = x.shorthand.partition(":")[0]
    row = {field: rung.at[field], "loss": rung.loss, "low": rung.low, "high": rung.high}
    base = alt.Chart(_cut(pd.DataFrame([row]), y, "low", "high"))
    tooltip = [_number(field, "Next rung", ".3e"), _number("loss", "Promised", ".4f")]
    return [
        base.mark_rule(style="held-out-interval").encode(x, _like(y, "low"), y2="high:Q"),
        base.mark_point(style="held-out-run", shape="triangle-up", filled=False).encode(
            x, y, tooltip=[*tooltip, *_interval_tooltip("a run")]
        ),
    ]


def floor_layers(floor: float, x: alt.X, y: alt.Y, at: float) -> list[alt.Chart]:
    """Draw the known entropy as a line across the figure, named at compute `at`."""
    field = x.shorthand.partition(":")[0]
    line = pd.DataFrame({field: [at], "loss": [floor], "text": ["known entropy: no model crosses"]})
    return [
        alt.Chart(line).mark_rule(style="floor").encode(y),
        alt.Chart(line)
        .mark_text(style="floor-label", align="right", dy=-8)
        .encode(x, y, text="text:N"),
    ]


def isoflop(
    labels: Labels, runs: pd.DataFrame, parabolas: pd.DataFrame, minima: pd.DataFrame
) -> alt.LayerChart:
    """Draw loss against size at each budget, with the parabola and its minimum.

    Args:
        labels: axis titles.
        runs: the table of runs; those with a budget are drawn.
        parabolas: columns budget, N, loss, kept: each budget's fitted curve.
        minima: columns budget, N, low, high, loss, kept, reason: where each is lowest.
    """
    runs = _drawn(runs[runs.budget.notna()])
    budgets = sorted(runs.budget.unique())
    names = {budget: power_of_ten(budget) for budget in budgets}
    runs = runs.assign(budget_name=runs.budget.map(names))
    parabolas = parabolas.assign(budget_name=parabolas.budget.map(names))
    color = alt.Color(
        "budget_name:O",
        sort=[names[budget] for budget in budgets],
        title="Budget C (FLOPs)",
        legend=alt.Legend(symbolType="circle", symbolStrokeWidth=0),
    )
    x = axes.count_x([*runs.N, *minima.N], "N", labels.params)
    y = axes.loss([*runs.loss, *minima.loss], "loss", labels.loss)
    parabolas = _inside(parabolas, "loss", y)
    kept, dropped = parabolas[parabolas.kept], parabolas[~parabolas.kept]
    low, lost = minima[minima.kept], minima[~minima.kept]
    tooltip = [
        _number("budget", "Budget C (FLOPs)", ".2e"),
        _number("N", "N at the minimum", ",.0f"),
        _number("low", "Interval, low", ",.0f"),
        _number("high", "Interval, high", ",.0f"),
        _number("loss", "Loss at the minimum", ".4f"),
    ]
    return layered(
        alt.Chart(kept).mark_line().encode(x, y, color=color, detail="budget:N"),
        alt.Chart(dropped).mark_line(style="dropped-curve").encode(x, y, detail="budget:N"),
        alt.Chart(runs)
        .mark_point(style="run")
        .encode(x, y, color=color, tooltip=run_tooltip(labels)),
        alt.Chart(_cut(low, x, "low", "high"))
        .mark_rule(style="minimum-interval")
        .encode(_like(x, "low"), y, x2="high:Q"),
        alt.Chart(low).mark_point(style="minimum", shape="diamond").encode(x, y, tooltip=tooltip),
        alt.Chart(lost)
        .mark_point(style="dropped", shape="cross", angle=45, filled=True)
        .encode(x, y, tooltip=[tooltip[0], alt.Tooltip("reason:N", title="Dropped")]),
        height=HEIGHT,
    )


def optimum(
    points: pd.DataFrame, law: pd.DataFrame, field: str, title: str, height: int = 260
) -> alt.LayerChart:
    """Draw the optimal size or data against compute, with its power law and interval.

    Args:
        points: columns C, `field`, low, high: one isoFLOP minimum each.
        law: columns C, `field`, low, high, extrapolated.
        field: "N" or "D".
        title: of the y axis, with its unit.
        height: of the plot, in pixels.
    """
    y = axes.count_y([*points[field], *law[field], *law.low, *law.high], field, title)
    x = axes.compute([*points.C, *law.C])
    tooltip = [
        _number("C", "Compute C (FLOPs)", ".2e"),
        _number(field, title, ",.0f"),
        _number("low", "Interval, low", ",.0f"),
        _number("high", "Interval, high", ",.0f"),
    ]
    base = alt.Chart(points)
    return layered(
        alt.Chart(law).mark_area(style="band").encode(x, _like(y, "low"), y2="high:Q"),
        law_line(law, x, y),
        alt.Chart(_cut(points, y, "low", "high"))
        .mark_rule(style="minimum-interval")
        .encode(x, _like(y, "low"), y2="high:Q"),
        base.mark_point(style="minimum", shape="diamond").encode(x, y, tooltip=tooltip),
        height=height,
    )


def residuals(labels: Labels, residual: pd.DataFrame, field: str) -> alt.LayerChart:
    """Draw measured minus fitted log loss, in percent, against N, D or C.

    Args:
        labels: axis titles.
        residual: the runs the law saw and those held out, with a column residual (percent).
        field: "N", "D" or "C".
    """
    title = {"N": labels.params, "D": labels.amount}
    values = list(residual[field])
    x = axes.compute(values) if field == "C" else axes.count_x(values, field, title[field])
    reach = max([abs(value) for value in residual.residual], default=1.0) or 1.0
    y = axes.linear([-reach, reach], "residual", "Measured over fitted loss, minus 1 (%)", "+.2~f")
    zero = pd.DataFrame({"residual": [0.0]})
    residual = residual[[*POINT_COLUMNS, "residual"]]
    tooltip = [*run_tooltip(labels), _number("residual", "Residual (%)", "+.3f")]
    points = alt.Chart(residual)
    return layered(
        alt.Chart(zero).mark_rule(style="zero").encode(y),
        points.transform_filter("!datum.held_out")
        .mark_point(style="run")
        .encode(x, y, color=size_color(size_order(residual)), tooltip=tooltip),
        points.transform_filter("datum.held_out")
        .mark_point(style="held-out", shape="diamond", size=90)
        .encode(x, y, tooltip=tooltip),
        height=220,
    )


def learning_curves(labels: Labels, curves: pd.DataFrame, field: str = "loss") -> alt.LayerChart:
    """Draw each run's loss against the data it has seen.

    Args:
        labels: axis titles.
        curves: columns id, size, N, D, C, and `field`.
        field: "loss" (in the unit of the score) or "train_loss" (as optimised).
    """
    curves = curves[curves[field].notna()]
    sizes = size_order(curves)
    title = labels.curve_loss if field == "loss" else labels.training_loss
    # The first steps of training are a cliff that would flatten all the rest.
    settled = curves[curves.D > curves.groupby("id").D.transform("max") * 0.02]
    x = axes.count_x(curves.D, "D", labels.amount.replace("Data D", "Data seen"))
    y = axes.loss(settled[field], field, title)
    hover = alt.selection_point(name="hovered", fields=["id"], on="pointerover", empty=False)
    curves = curves[["id", "size", "N", "D", "C", field]]
    tooltip = [
        alt.Tooltip("id:N", title="Run"),
        _number("N", labels.params, ",.0f"),
        _number("D", "Data seen", ",.0f"),
        _number("C", "Compute C (FLOPs)", ".2e"),
        _number(field, title, ".4f"),
    ]
    base = alt.Chart(_inside(curves, field, y)).encode(x, y)
    return layered(
        base.mark_line().encode(
            detail="id:N",
            color=size_color(sizes, "stroke"),
            strokeOpacity=alt.condition(hover, alt.value(1), alt.value(0.5)),
            strokeWidth=alt.condition(hover, alt.value(2.6), alt.value(1.2)),
        ),
        base.mark_point(fillOpacity=0, opacity=1, size=30)
        .encode(tooltip=tooltip)
        .add_params(hover),
        height=HEIGHT,
    )


def floor_gap(labels: Labels, runs: pd.DataFrame, floor: float, unit: str) -> alt.LayerChart:
    """Draw how far above the known entropy each run ends, against compute."""
    runs = _drawn(runs).assign(gap=lambda table: table.loss - floor)
    above = runs[runs.gap > 0]
    y = axes.loss(above.gap, "gap", f"Loss above the known entropy ({unit})")
    tooltip = [*run_tooltip(labels), _number("gap", "Above the floor", ".4f")]
    return layered(
        alt.Chart(above)
        .mark_point(style="run")
        .encode(axes.compute(above.C), y, color=size_color(size_order(above)), tooltip=tooltip),
        height=HEIGHT,
    )


def size_order(table: pd.DataFrame) -> list[str]:
    """Return the size labels in `table`, smallest first."""
    return list(table.groupby("size").N.min().sort_values().index)


def size_color(sizes: list[str], symbol: str = "circle") -> alt.Color:
    """Return the colour encoding of a run's size: viridis, dark is small; many are a gradient."""
    if len(sizes) > MOST_SIZES:
        legend = alt.Legend(labelExpr=axes.COUNT_LABEL, gradientLength=200, tickCount=4)
        return alt.Color("N:Q", title="Size N", scale=alt.Scale(type="log"), legend=legend)
    legend = alt.Legend(symbolType=symbol, symbolStrokeWidth=3 if symbol == "stroke" else 0)
    scale = alt.Scale(domain=sizes)
    return alt.Color("size:O", sort=sizes, title="Size N", scale=scale, legend=legend)


def run_tooltip(labels: Labels, flags: bool = True) -> list[alt.Tooltip]:
    """Return what hovering a run reads: which run, how large, how long, how good."""
    lines = [
        alt.Tooltip("id:N", title="Run"),
        _number("N", labels.params, ",.0f"),
        _number("D", labels.amount, ",.0f"),
        _number("C", "Compute C (FLOPs)", ".3e"),
        _number("loss", labels.loss, ".4f"),
        alt.Tooltip("seed:N", title="Seed"),
    ]
    return [*lines, alt.Tooltip("flags:N", title="Flags")] if flags else lines


def _capped(runs: pd.DataFrame, losses: list[float]) -> list[float]:
    """Leave head room for learning curves above the runs without letting them set the scale."""
    numbers = axes.finite(losses)
    if not numbers:
        return numbers
    top = max(axes.finite(runs.loss) or numbers)
    return [*(value for value in numbers if value <= top), top + 0.12 * (top - min(numbers))]


def layered(*layers: alt.Chart, height: int) -> alt.LayerChart:
    """Return one figure of these layers, the first at the bottom."""
    return alt.LayerChart(layer=list(layers), height=height)


def _drawn(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the usable runs, with the columns a point needs."""
    return runs.loc[runs.usable, POINT_COLUMNS]


def _inside(table: pd.DataFrame, field: str, channel: alt.X | alt.Y) -> pd.DataFrame:
    """Return the rows whose `field` lies in the domain of `channel`."""
    low, high = channel["scale"]["domain"]
    return table[table[field].between(low, high)]


def _cut(table: pd.DataFrame, channel: alt.X | alt.Y, *fields: str) -> pd.DataFrame:
    """Return the table with `fields` moved into the domain of `channel`."""
    low, high = channel["scale"]["domain"]
    return table.assign(**{field: table[field].clip(low, high) for field in fields})


def _like(y, field: str):
    """Return the encoding `y` on another field, with the same scale and axis."""
    copy = y.copy()
    copy.shorthand = f"{field}:Q"
    return copy


def _interval_tooltip(name: str) -> list[alt.Tooltip]:
    return [
        _number("low", f"{name}, interval low", ".4~g"),
        _number("high", f"{name}, interval high", ".4~g"),
    ]


def _number(field: str, title: str, style: str) -> alt.Tooltip:
    return alt.Tooltip(f"{field}:Q", title=title, format=style)
