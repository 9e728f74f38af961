"""Figures that doubt a law (ladder, coverage, profiles), compare arms, and that use a law."""

from collections.abc import Mapping

import altair as alt
import numpy as np
import pandas as pd

from research.report import grammar
from research.report.grammar import ends, layered, mark, promised, span, tip
from research.scaling.transfer import Transfer

HEIGHT, PANEL = 240, 250


def ladder(rows: pd.DataFrame) -> alt.LayerChart:
    """Draw each law's error on the held-out budget as a bar; the baseline is grey."""
    y = alt.Y("law:N", sort=list(rows.law), title=None, axis=alt.Axis(labelLimit=140))
    x = alt.X("error:Q", title="Error on the held-out budget (%)", scale=alt.Scale(zero=True))
    errors = [tip("error", "RMS error (%)", ".2f"), tip("bias", "Mean error (%)", "+.2f")]
    grey = alt.condition("datum.baseline", alt.value(0.4), alt.value(1))
    return layered(
        mark(rows, "bar", x, y, tooltip=[tip("law", "Law"), *errors], opacity=grey),
        mark(rows, "bar-label", x, y, text=alt.Text("error:Q", format=".2f")),
        height=max(120, 34 * len(rows)),
    )


def multiplier(rows: pd.DataFrame) -> alt.LayerChart:
    """Draw how many times less compute an arm takes than the first, against its compute."""
    first, names = rows["first"].iloc[0], list(dict.fromkeys(rows.arm))
    x = grammar.resource({}, rows.C, "C")
    title = f"FLOPs of {first} over the arm's, at equal loss"
    y = grammar.log_axis(alt.Y, [1.0, *rows.low, *rows.high], "value", title, format="~g")
    color = alt.Color("arm:N", sort=names, legend=alt.Legend(title=None, symbolType="stroke"))
    tooltip = [
        tip("arm", "Arm"),
        tip("C", "Its compute (FLOPs)", ".2e"),
        tip("loss", "Loss", ".4f"),
    ]
    tooltip += [tip("value", "Times", ".3f"), *ends(".3f")]
    return layered(
        mark(pd.DataFrame({"value": [1.0]}), "zero", y),
        span(rows, "band", y, x, color=color),
        mark(rows, "line", x, y, color=color, tooltip=tooltip),
        height=HEIGHT,
    )


def transfer(found: Mapping[str, Transfer], rate: str) -> alt.HConcatChart:
    """Draw each arm's loss against the rate, a curve a place, and the best rates of all arms."""
    over = next(iter(found.values())).over
    runs, curves, best = (
        pd.concat([_of(arm, each, kind) for arm, each in found.items()], ignore_index=True)
        for kind in ("runs", "curve", "best")
    )
    places = sorted(runs.place.unique())
    size = alt.Color("place:O", sort=places, legend=alt.Legend(title=over))
    means = runs.groupby(["arm", "place", "rate"], as_index=False).loss.mean()
    title = rate.rpartition(".")[2].replace("_", " ").capitalize()
    y = grammar.loss(means.loss, "loss", "Loss")
    panels = []
    for arm in found:
        x = grammar.log_axis(alt.X, runs.rate, "rate", title, format="~g")
        own, curve = means[means.arm == arm], curves[curves.arm == arm]
        tooltip = [tip("place", over), tip("rate", title, ".3g"), tip("loss", "Loss", ".4f")]
        panel = layered(
            mark(own, "curve", x, y, color=size),
            mark(grammar.inside(curve, "loss", y), "line", x, y, color=size, detail="place:N"),
            mark(own, "run", x, y, color=size, tooltip=tooltip),
            mark(best[best.arm == arm], "minimum", x, y),
            height=HEIGHT,
        )
        panels.append(panel.properties(width=PANEL, title=arm))
    x = grammar.log_axis(alt.X, places, "place", over, format="~g")
    y = grammar.log_axis(
        alt.Y, [*best.low, *best.high], "rate", f"Best {title.lower()}", format="~g"
    )
    color = alt.Color("arm:N", sort=list(found), legend=alt.Legend(title=None))
    tooltip = [tip("arm", "Arm"), tip("place", over), tip("rate", title, ".3g"), *ends(".3g")]
    last = layered(
        mark(best, "line", x, y, color=color),
        span(best, "minimum-interval", y, x, color=color),
        mark(
            best, "run", x, y, color=color, shape=alt.Shape("arm:N", legend=None), tooltip=tooltip
        ),
        height=HEIGHT,
    )
    return alt.hconcat(*panels, last.properties(width=PANEL)).resolve_scale(color="independent")


def power(points: pd.DataFrame, over: str, title: str) -> alt.LayerChart:
    """Draw a number against a column, both on log axes, a line of means an arm."""
    points = points.rename(columns={over: "place"})
    x = grammar.log_axis(alt.X, points.place, "place", over, format="~g")
    y = grammar.log_axis(alt.Y, points.L, "L", title, format="~g")
    arms = list(dict.fromkeys(points.arm))
    color = alt.Color("arm:N", sort=arms, legend=alt.Legend(title=None))
    means = points.groupby(["arm", "place"], as_index=False).L.mean()
    tooltip = [tip("arm", "Arm"), tip("place", over), tip("L", title, ".4g")]
    shape = alt.Shape("arm:N", sort=arms, legend=None)
    return layered(
        mark(means, "line", x, y, color=color),
        mark(points, "run", x, y, color=color, shape=shape, tooltip=tooltip),
        height=HEIGHT,
    )


def _of(arm: str, found: Transfer, kind: str) -> pd.DataFrame:
    """Rows of an arm: its runs, its parabolas within a factor of four, or its best rates."""
    rows = [pd.DataFrame(columns=["place", "rate", "loss", "low", "high"], dtype=float)]
    for each in found.best:
        if kind == "runs":
            rows.append(each.runs)
        elif each.rate is not None and kind == "best":
            row = {"place": each.place, "loss": each.loss, **each.rate._asdict()}
            rows.append(pd.DataFrame([row]).rename(columns={"value": "rate"}))
        elif each.rate is not None and each.parabola is not None:
            u = np.log2(each.rate.value) + np.linspace(-2, 2, 41)
            losses = np.exp(np.polyval(each.parabola, u))
            rows.append(pd.DataFrame({"place": each.place, "rate": 2.0**u, "loss": losses}))
    return pd.concat(rows[1:] or rows, ignore_index=True).assign(arm=arm)


def profiles(rows: pd.DataFrame) -> alt.LayerChart:
    """Draw how fast the fit worsens as a parameter is moved: 1 is where its interval ends."""
    x = alt.X("errors:Q", title="Standard errors from the fit", scale=alt.Scale(domain=[-8, 8]))
    title, scale = "Misfit over its limit", alt.Scale(domain=[0, 4], nice=False)
    y = alt.Y("ratio:Q", title=title, scale=scale, axis=alt.Axis(tickCount=5))
    names = list(dict.fromkeys(rows.parameter))
    color = alt.Color("parameter:N", sort=names, legend=alt.Legend(title=None))
    dash = alt.StrokeDash("parameter:N", sort=names, legend=None)
    held = [tip("value", "Held at", ".4g"), tip("ratio", title, ".2f")]
    return layered(
        mark(pd.DataFrame({"ratio": [1.0]}), "zero", y),
        mark(rows, "line", x, y, color=color, strokeDash=dash),
        mark(rows, "dot", x, y, color=color, tooltip=[tip("parameter", "Parameter"), *held]),
        height=HEIGHT,
    )


def trade_off(rows: pd.DataFrame) -> alt.LayerChart:
    """Draw the loss that a size other than the best costs, at one budget."""
    scale = alt.Scale(type="log", domain=[0.25, 4], nice=False)
    axis = alt.Axis(values=[0.25, 0.5, 1, 2, 4], format="~g")
    x = alt.X("multiple:Q", title="Parameters over the optimal number", scale=scale, axis=axis)
    shown = [0.0, *rows.excess, *rows.high.clip(upper=3 * rows.excess.max())]
    title, labels = "Loss above the best (%)", {"format": "~f", "tickCount": 6}
    y = grammar.linear(alt.Y, shown, "excess", title, **labels)
    size = [tip("multiple", "Times N_opt", ".2f"), tip("N", "Parameters", ",.0f")]
    return layered(
        span(rows, "band", y, x),
        mark(rows, "fit", x, y, tooltip=[*size, tip("excess", title, ".2f")]),
        height=HEIGHT,
    )


def coverage(rows: pd.DataFrame) -> alt.LayerChart:
    """Draw the share of held-out runs inside intervals against the share that was promised."""
    levels, shares = (alt.Scale(domain=reach, nice=False) for reach in ([48, 101], [0, 102]))
    axis = alt.Axis(values=[50, 60, 70, 80, 90, 95, 99])
    x = alt.X("level:Q", title="Level of the interval (%)", scale=levels, axis=axis)
    y = alt.Y("share:Q", title="Held-out runs inside (%)", scale=shares)
    promise = pd.DataFrame({"level": [48.0, 101.0], "share": [48.0, 101.0]})
    tooltip = [tip("level", "Level (%)", ".0f"), tip("share", "Inside (%)", ".1f")]
    tooltip += [*ends(".1f", "Interval (%)"), tip("runs", "Different runs", ".0f")]
    return layered(
        mark(promise, "promise", x, y),
        span(rows, "minimum-interval", y, x),
        mark(rows, "minimum", x, y, size=alt.value(60), tooltip=tooltip),
        height=HEIGHT,
    )


def plan_loss(rows: pd.DataFrame, titles: Mapping[str, str]) -> alt.LayerChart:
    """Draw the loss at the best size of each budget, dashed beyond the largest that was run."""
    x = grammar.resource(titles, rows.C, "C")
    y = grammar.loss([*rows.loss, *rows.loss_low, *rows.loss_high], "loss", titles["loss"])
    rows = rows.rename(columns={"loss_low": "low", "loss_high": "high"})
    best = [tip(name, titles[name], ",.0f") for name in "ND"]
    tooltip = [tip("C", "Compute C (FLOPs)", ".2e"), *best, tip("loss", "Loss there", ".4f")]
    return layered(*promised(rows, x, y, [*tooltip, *ends(".4f")]), height=HEIGHT)


def plan_allocation(rows: pd.DataFrame, titles: Mapping[str, str]) -> alt.LayerChart:
    """Draw the best number of parameters and the best amount of data of each budget."""
    names = {"N": titles["N"].partition(" (")[0], "D": titles["D"]}
    pieces = [
        rows[["C", "extrapolated"]].assign(
            what=title, value=rows[name], low=rows[f"{name}_low"], high=rows[f"{name}_high"]
        )
        for name, title in names.items()
    ]
    long = pd.concat(pieces)
    x = grammar.resource(titles, rows.C, "C")
    y = grammar.counts(alt.Y, [*long.low, *long.high], "value", "Best number")
    legend = alt.Legend(title=None, symbolType="stroke")
    color = alt.Color("what:N", sort=list(names.values()), legend=legend)
    tooltip = [tip("C", "Compute C (FLOPs)", ".2e"), tip("what", "What")]
    tooltip += [tip("value", "Best", ",.0f"), *ends(",.0f")]
    return layered(*promised(long, x, y, tooltip, color=color), height=HEIGHT)


def exponents(rows: pd.DataFrame, title: str) -> alt.LayerChart:
    """Draw exponents with their intervals, one a row: ours as diamonds, published ones as dots."""
    axis = alt.Axis(labelLimit=150, grid=True)
    y = alt.Y("label:N", sort=list(rows.label), title=None, axis=axis)
    reach = [*rows.value, *rows.low, *rows.high]
    x = grammar.linear(alt.X, reach, "value", title, tickCount=6)
    tooltip = [tip("source", "Source"), tip("value", "Exponent", ".4f"), *ends(".4f")]
    ours, published = rows[rows.ours], rows[~rows.ours]
    return layered(
        span(published, "published-interval", x, y),
        mark(published, "published", x, y, tooltip=tooltip),
        span(ours, "minimum-interval", x, y),
        mark(ours, "minimum", x, y, tooltip=tooltip),
        height=max(120, 22 * len(rows)),
    )
