"""Make a part's chapter: what was read of it, what the law lab says of it, and its figures."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import altair as alt
import pandas as pd

from research.report import export, figures, law_figures, rulers, words
from research.report.findings import GROWS, Findings
from research.report.load import Part
from research.report.rulers import Ruler
from research.report.spent import draw_time

SMOOTHED = 9  # points of a curve that are averaged where it stands beside a law
# What a figure is called: its group on the page, its name (its caption is the macro of that name
# in words.html.j2), and its heading.
Titled = tuple[str, str, str, alt.LayerChart]


@dataclass(frozen=True)
class Figure:
    """A figure on the page: its group there, the id of its box, its words, its Vega-Lite spec."""

    group: str
    name: str
    heading: str
    caption: str
    spec: dict


@dataclass(frozen=True)
class Chapter:
    """What the page says of one part of the study."""

    part: Part
    found: Findings
    figures: list[Figure]


def make_chapter(part: Part, found: Findings) -> Chapter:
    """Return the chapter of `part`: what `found` says of it, drawn and in words."""
    drawn = []
    for group, name, heading, chart in [*_of_runs(part, found), *_of_laws(part, found)]:
        caption = "" if group == "residuals" else words.said(name, part, found)
        box = f"{part.name}-{name.replace('_', '-')}"
        drawn.append(Figure(group, box, heading, caption, export.to_spec(chart)))
    return Chapter(part, found, drawn)


def time_figure(seconds: pd.DataFrame) -> Figure:
    """Return the figure of where the time of a study went, the goodput in its caption."""
    caption = words.said("time_spent", seconds.groupby("phase").seconds.sum().to_dict())
    spec = export.to_spec(draw_time(seconds))
    return Figure("time", "time-spent", "Where the time went", caption, spec)


def ruler_figure(ruler: Ruler) -> Figure:
    """Return the figure of a ruler."""
    chart = rulers.draw(ruler)
    return Figure(
        "ruler", ruler.name, ruler.heading, words.said("ruler", ruler), export.to_spec(chart)
    )


def _of_runs(part: Part, found: Findings) -> Iterator[Titled]:
    """Yield the figures whose points are runs, each that its table allows."""
    titles, floor = part.titles, part.floor
    heading = f"Loss against {GROWS[found.axis]}"
    yield "wide", "loss", heading, loss_chart(part, found, 400)
    if len(found.parabolas) and part.runs.budget.notna().any():
        chart = figures.isoflop(titles, found.runs, found.parabolas, found.minima)
        yield "wide", "isoflop", "The best size at each budget", chart
    for field, what, law in (("N", "size", found.size_law), ("D", "data", found.data_law)):
        if len(found.minima) and found.minima.D.notna().any():
            chart = figures.optimum(titles, found.minima, law, field)
            yield "pair", f"optimal_{what}", f"Compute-optimal {what}", chart
    if floor is not None:
        chart = figures.floor_gap(titles, found.runs, floor["value"], part.unit)
        yield "pair", "floor_gap", "How far above the known entropy", chart
    for field in "NDC" if len(found.residuals) else ():
        chart = figures.residuals(titles, found.residuals, field)
        yield "residuals", f"residuals-{field}", f"Residuals against {field}", chart
    curves = part.curves.dropna(subset=["loss", "train_loss"])
    ratio = curves.train_loss / curves.loss
    if part.curves.loss.notna().sum() > 1:
        chart = figures.learning_curves(titles, part.curves)
        yield "curves", "curves", "Learning curves", chart
    if len(curves) > 1 and ratio.max() / ratio.min() > 1.01:  # another loss was optimised
        chart = figures.learning_curves(titles, part.curves, "train_loss")
        yield "curves", "training_loss", "Training loss", chart


def _of_laws(part: Part, found: Findings) -> Iterator[Titled]:
    """Yield what tells whether to trust the law, and what it promises."""
    plan_loss, plan_split = (
        partial(draw, titles=part.titles)
        for draw in (law_figures.plan_loss, law_figures.plan_allocation)
    )
    size, loss = (
        partial(law_figures.exponents, title=title)
        for title in ("Exponent a (N_opt ~ C^a)", "Exponent of loss above its floor")
    )
    for group, name, heading, draw in (
        ("doubts", "multiplier", "What an arm saves", law_figures.multiplier),
        ("doubts", "ladder", "Which law predicts the largest budget", law_figures.ladder),
        ("doubts", "coverage", "How often its intervals hold", law_figures.coverage),
        ("doubts", "profiles", "How well each parameter is known", law_figures.profiles),
        ("doubts", "trade_off", "What a size other than the best costs", law_figures.trade_off),
        ("outlook", "plan_loss", "What more compute buys", plan_loss),
        ("outlook", "plan_split", "How to spend it", plan_split),
        ("outlook", "size_exponents", "Growth of the best size, beside published laws", size),
        ("outlook", "loss_exponents", "Fall of the loss, beside published laws", loss),
    ):
        if len(rows := found.tables.get(name, ())):
            yield group, name, heading, draw(rows)


def loss_chart(
    part: Part, found: Findings, height: int, interactive: bool = True
) -> alt.LayerChart:
    """Draw loss against compute for `part`."""
    floor = None if part.floor is None else part.floor["value"]
    curves = _smoothed(part.curves)
    return figures.loss_against_compute(part.titles, found, curves, floor, height, interactive)


def _smoothed(curves: pd.DataFrame) -> pd.DataFrame:
    """Average each curve over its neighbouring points, as a point is the loss of a few batches.

    Beside a law, the curves tell how runs come down, and their noise would hide both.
    """
    loss = curves.groupby("id").loss.rolling(SMOOTHED, center=True, min_periods=1).mean()
    return curves.assign(loss=loss.droplevel(0))


def rulers_side_by_side(found: list[Ruler]) -> alt.HConcatChart:
    """Draw the first ruler of each source of data side by side: the story in one picture."""
    first = {ruler.data: ruler for ruler in reversed(found)}.values()
    panels = [
        rulers.draw(ruler, 330).properties(width=430, title=ruler.heading)
        for ruler in sorted(first, key=found.index)
    ]
    return alt.hconcat(*panels, spacing=36)


def headline(chapters: list[Chapter]) -> alt.HConcatChart:
    """Draw loss against compute of the parts side by side: the story in one picture."""
    panels = []
    for chapter in chapters:
        part, found, lines = chapter.part, chapter.found, []
        if found.drop is not None:
            lines.append(f"10x compute: {words.dropped(found.drop, part.unit, part.relative)} loss")
        if found.size is not None:
            lines.append(f"best N grows as C^{found.size.value:.2f}")
        if len(found.held_out):
            best = found.held_out.iloc[-1]
            error = words.error(best.predicted, best.loss, part.unit, part.relative)
            lines.append(f"held-out error {error}")
        title = alt.TitleParams(part.title, subtitle=" · ".join(lines) or "no law yet")
        chart = loss_chart(part, found, 330, interactive=False)
        panels.append(chart.properties(width=430, title=title))
    return alt.hconcat(*panels, spacing=36).resolve_scale(color="independent")
