"""The figures of runs: each function draws one, from tables that hold what the page's words say.

A figure has no width and no colours of its own: the page and the exporter give both. `titles` are
axis titles by column (`Part.titles`). Points are runs (columns id, part, size, seed, budget, N, D,
C, loss, epochs, flags, held_out, usable).
"""

from collections.abc import Mapping

import altair as alt
import numpy as np
import pandas as pd

from research.numbers import power_of_ten
from research.report import grammar
from research.report.findings import Findings
from research.report.grammar import ends, inside, layered, mark, promised, span, tip

HEIGHT = 320
MOST_SIZES = 12  # with a place each in the legend
# What a point carries into the page: enough to place it and to say which run it is.
POINT_COLUMNS = ["id", "size", "seed", "budget", "N", "D", "C", "loss", "flags", "held_out"]

Titles = Mapping[str, str]


def loss_against_compute(
    titles: Titles,
    found: Findings,
    curves: pd.DataFrame,
    floor: float | None,
    height: int = HEIGHT,
    interactive: bool = True,
) -> alt.LayerChart:
    """Draw every run's loss at its compute, its learning curve, and the frontier's law.

    Where compute is not known, N or D stand in for it (`found.axis`).

    Args:
        titles: axis titles.
        found: runs, frontier, law, held-out runs and next rung of a part.
        curves: columns id, size, N, C, loss: loss while training, in the same unit.
        floor: a loss no model can go below, if known.
        height: of the plot, in pixels.
        interactive: hovering a run follows its learning curve.
    """
    runs, law, field, rung = _drawn(found.runs), found.law, found.axis, found.rung
    losses = [*runs.loss, *law.low, *law.high, floor, None if rung is None else rung.low]
    x = grammar.resource(titles, [*runs[field], *law[field]], field)
    y = grammar.loss(_capped(runs, losses), "loss", titles["loss"])
    color, hover = size_color(runs), _hovered()
    curves = inside(inside(curves, "loss", y), field, x)
    # Strokes opaque or not: a picture is rasterised far quicker than with a translucent layer.
    faint = {"strokeOpacity": alt.value(0.22)}
    if interactive:
        faint = _followed(hover, opacity=(1, 0.22), width=(2, 1))
    lines = mark(
        curves[["id", "size", *dict.fromkeys(("N", field)), "loss"]],
        "curve", x, y, detail="id:N", order=f"{field}:Q", color=color, **faint,
    )  # fmt: skip
    points = mark(runs, "run", x, y, color=color, tooltip=run_tooltip(titles))
    place = {"C": "Compute C (FLOPs)", "N": "Parameters N", "D": "Data D"}[field]
    law_ends = ends(".4~g", "Law, interval")
    layers = [
        lines,
        *promised(inside(law, "loss", y), x, y, [tip(field, place, ".2e"), *law_ends]),
        points.add_params(hover) if interactive else points,
        mark(found.frontier, "frontier", x, y),
        *_held_out(found.held_out, titles, x, y),
        mark(inside(_failed(found.runs), "loss", y), "dropped", x, y, tooltip=run_tooltip(titles)),
    ]
    if rung is not None:
        row = {field: rung.at[field], "loss": rung.loss, "low": rung.low, "high": rung.high}
        row = pd.DataFrame([row])
        tooltip = [tip(field, "Next rung", ".3e"), tip("loss", "Promised", ".4f")]
        tooltip += ends(".4~g", "A run, interval")
        layers.append(span(row, "held-out-interval", y, x))
        layers.append(mark(row, "rung", x, y, tooltip=tooltip))
    if floor is not None:
        text = "known entropy: no model crosses"
        row = pd.DataFrame({field: [max(runs[field], default=1.0)], "loss": [floor], "text": text})
        layers.append(mark(row, "floor", y))
        layers.append(mark(row, "floor-label", x, y, text="text:N"))
    return layered(*layers, height=height)


def _held_out(held_out: pd.DataFrame, titles: Titles, x: alt.X, y: alt.Y) -> list[alt.Chart]:
    """Draw the held-out runs as diamonds, and the interval predicted for the best, the last row."""
    tooltip = [*run_tooltip(titles)[:-1], tip("predicted", "Predicted", ".4f"), *ends(".4f")]
    held_out = held_out[[*POINT_COLUMNS, "predicted", "low", "high"]]
    best = held_out.tail(1)
    return [
        mark(held_out, "held-out-run", x, y, tooltip=tooltip),
        span(best, "held-out-interval", y, x),
        mark(best, "held-out", x, y, tooltip=tooltip),
    ]


def isoflop(
    titles: Titles, runs: pd.DataFrame, parabolas: pd.DataFrame, minima: pd.DataFrame
) -> alt.LayerChart:
    """Draw loss against size at each budget, with the parabola and its minimum.

    Args:
        titles: axis titles.
        runs: the table of runs; those with a budget are drawn.
        parabolas: columns budget, N, loss, kept: each budget's fitted curve.
        minima: columns budget, N, N_low, N_high, loss, kept, reason: where each is lowest.
    """
    runs = _drawn(runs[runs.budget.notna()])
    names = {budget: power_of_ten(budget) for budget in sorted(runs.budget.unique())}
    runs, parabolas = (
        rows.assign(budget_name=rows.budget.map(names)) for rows in (runs, parabolas)
    )
    legend = alt.Legend(symbolType="circle", symbolStrokeWidth=0)
    title = "Budget C (FLOPs)"
    color = alt.Color("budget_name:O", sort=list(names.values()), title=title, legend=legend)
    x = grammar.counts(alt.X, [*runs.N, *minima.N], "N", titles["N"])
    y = grammar.loss([*runs.loss, *minima.loss], "loss", titles["loss"])
    parabolas = inside(parabolas, "loss", y)
    minima = minima.rename(columns={"N_low": "low", "N_high": "high"}).drop(columns="C")
    kept, dropped = parabolas[parabolas.kept], parabolas[~parabolas.kept]
    low, lost = minima[minima.kept], minima[~minima.kept]
    budget = tip("budget", title, ".2e")
    minimum = [tip("N", "N at the minimum", ",.0f"), *ends(",.0f")]
    tooltip = [budget, *minimum, tip("loss", "Loss at the minimum", ".4f")]
    return layered(
        mark(kept, "line", x, y, color=color, detail="budget:N"),
        mark(dropped, "dropped-curve", x, y, detail="budget:N"),
        mark(runs, "run", x, y, color=color, tooltip=run_tooltip(titles)),
        span(low, "minimum-interval", x, y),
        mark(low, "minimum", x, y, tooltip=tooltip),
        mark(lost, "dropped", x, y, tooltip=[budget, tip("reason", "Dropped")]),
        height=HEIGHT,
    )


def optimum(titles: Titles, minima: pd.DataFrame, law: pd.DataFrame, field: str) -> alt.LayerChart:
    """Draw the optimal size or data against compute, with its power law and interval.

    Args:
        titles: axis titles.
        minima: columns C, and `field` with _low and _high: one isoFLOP minimum each.
        law: columns C, `field`, low, high, extrapolated.
        field: "N" or "D".
    """
    points = minima.rename(columns={f"{field}_low": "low", f"{field}_high": "high"})
    points = points[["C", field, "low", "high"]].dropna()
    title = f"Optimal {titles[field][0].lower()}{titles[field][1:]}"
    y = grammar.counts(alt.Y, [*points[field], *law[field], *law.low, *law.high], field, title)
    x = grammar.resource(titles, [*points.C, *law.C], "C")
    compute = tip("C", "Compute C (FLOPs)", ".2e")
    tooltip = [compute, tip(field, title, ",.0f"), *ends(",.0f")]
    return layered(
        *promised(law, x, y, [compute, *ends(".4~g", "Law, interval")]),
        span(points, "minimum-interval", y, x),
        mark(points, "minimum", x, y, tooltip=tooltip),
        height=260,
    )


def residuals(titles: Titles, residual: pd.DataFrame, field: str) -> alt.LayerChart:
    """Draw measured minus fitted log loss, in percent, against N, D or C.

    Args:
        titles: axis titles.
        residual: the runs the law saw and those held out, with a column residual (percent).
        field: "N", "D" or "C".
    """
    x = grammar.resource(titles, residual[field], field)
    reach = max([abs(value) for value in residual.residual], default=1.0) or 1.0
    title, labels = "Measured over fitted loss, minus 1 (%)", {"format": "+.2~f", "tickCount": 6}
    y = grammar.linear(alt.Y, [-reach, reach], "residual", title, **labels)
    residual = residual[[*POINT_COLUMNS, "residual"]]
    seen, held_out = residual[~residual.held_out], residual[residual.held_out]
    tooltip = [*run_tooltip(titles), tip("residual", "Residual (%)", "+.3f")]
    return layered(
        mark(pd.DataFrame({"residual": [0.0]}), "zero", y),
        mark(seen, "run", x, y, color=size_color(residual), tooltip=tooltip),
        mark(held_out, "held-out", x, y, size=alt.value(90), tooltip=tooltip),
        height=220,
    )


def learning_curves(titles: Titles, curves: pd.DataFrame, field: str = "loss") -> alt.LayerChart:
    """Draw each run's loss against the data it has seen.

    Args:
        titles: axis titles.
        curves: columns id, size, N, D, C, and `field`.
        field: "loss" (in the unit of the score) or "train_loss" (as optimised).
    """
    curves = curves[curves[field].notna()]
    title = titles["curve_loss" if field == "loss" else "train_loss"]
    # The first steps of training are a cliff that would flatten all the rest.
    settled = curves[curves.D > curves.groupby("id").D.transform("max") * 0.02]
    x = grammar.counts(alt.X, curves.D, "D", titles["D"].replace("Data D", "Data seen"))
    y = grammar.loss(settled[field], field, title)
    color, hover = size_color(curves, "stroke"), _hovered()
    curves = inside(curves[["id", "size", "N", "D", "C", field]], field, y)
    place = [tip("D", "Data seen", ",.0f"), tip("C", "Compute C (FLOPs)", ".2e")]
    tooltip = [tip("id", "Run"), tip("N", titles["N"], ",.0f"), *place, tip(field, title, ".4f")]
    followed = _followed(hover, opacity=(1, 0.5), width=(2.6, 1.2))
    return layered(
        mark(curves, "line", x, y, detail="id:N", color=color, **followed),
        mark(curves, "any-run", x, y, tooltip=tooltip).add_params(hover),
        height=HEIGHT,
    )


def floor_gap(titles: Titles, runs: pd.DataFrame, floor: float, unit: str) -> alt.LayerChart:
    """Draw how far above the known entropy each run ends, against compute."""
    runs = _drawn(runs).assign(gap=lambda table: table.loss - floor)
    above = runs[runs.gap > 0]
    x = grammar.resource(titles, above.C, "C")
    y = grammar.loss(above.gap, "gap", f"Loss above the known entropy ({unit})")
    tooltip = [*run_tooltip(titles), tip("gap", "Above the floor", ".4f")]
    points = mark(above, "run", x, y, color=size_color(above), tooltip=tooltip)
    return layered(points, height=HEIGHT)


def size_order(table: pd.DataFrame) -> list[str]:
    """Return the size labels in `table`, smallest first."""
    return list(table.groupby("size").N.min().sort_values().index)


def size_color(table: pd.DataFrame, symbol: str = "circle") -> alt.Color:
    """Return the colour encoding of a run's size: viridis, dark is small; many are a gradient."""
    sizes = size_order(table)
    if len(sizes) > MOST_SIZES:
        legend = alt.Legend(labelExpr=grammar.COUNT_LABEL, gradientLength=200, tickCount=4)
        return alt.Color("N:Q", title="Size N", scale=alt.Scale(type="log"), legend=legend)
    legend = alt.Legend(symbolType=symbol, symbolStrokeWidth=3 if symbol == "stroke" else 0)
    scale = alt.Scale(domain=sizes)
    return alt.Color("size:O", sort=sizes, title="Size N", scale=scale, legend=legend)


def run_tooltip(titles: Titles) -> list[alt.Tooltip]:
    """Return what hovering a run reads: which, how large, how long, how good; its flags last."""
    return [
        tip("id", "Run"),
        *(tip(name, titles[name], ",.0f") for name in "ND"),
        tip("C", "Compute C (FLOPs)", ".3e"),
        tip("loss", titles["loss"], ".4f"),
        tip("seed", "Seed"),
        tip("flags", "Flags"),
    ]


def _hovered() -> alt.Parameter:
    """The run under the pointer."""
    return alt.selection_point(name="hovered", fields=["id"], on="pointerover", empty=False)


def _followed(hover: alt.Parameter, opacity: tuple, width: tuple) -> dict:
    """How a line is stroked when its run is under the pointer, and otherwise."""
    strokes = {"strokeOpacity": opacity, "strokeWidth": width}
    return {
        name: alt.condition(hover, alt.value(on), alt.value(off))
        for name, (on, off) in strokes.items()
    }


def _capped(runs: pd.DataFrame, losses: list[float | None]) -> list[float]:
    """Leave head room for learning curves above the runs without letting them set the scale."""
    numbers = grammar.finite(losses)
    if not numbers:
        return numbers
    top = max(grammar.finite(runs.loss) or numbers)
    return [*(value for value in numbers if value <= top), top + 0.12 * (top - min(numbers))]


def _drawn(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the usable runs, with the columns a point needs."""
    return runs.loc[runs.usable, POINT_COLUMNS]


def _failed(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the runs that are in no fit though they have a loss: they are crossed out."""
    return runs.loc[~runs.usable & np.isfinite(runs.loss), POINT_COLUMNS]
