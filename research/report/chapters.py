"""Make a part's chapter: its figures with captions, and its laws in words."""

import math

import altair as alt

from research.numbers import count, interval, percent, power_of_ten
from research.report import export, figures, law_figures, outlook, words
from research.report.findings import Drop, Findings, Quantity
from research.report.load import Part
from research.report.page import Chapter, Figure


def make_chapter(part: Part, found: Findings) -> Chapter:
    """Return the chapter of `part`: what `found` says of it, drawn and in words."""
    labels = part_labels(part)
    wide = [_loss_figure(part, found, labels)]
    if len(found.parabolas) and part.runs.budget.notna().any():
        wide.append(_isoflop_figure(part, found, labels))
    return Chapter(
        part=part,
        description=_description(part),
        sentences=sentences(part, found),
        refusals=found.refusals,
        tiles=_tiles(part, found),
        parameters=[_parameter(quantity) for quantity in found.quantities],
        wide=wide,
        pair=_optimum_figures(part, found, labels) + _gap_figure(part, found, labels),
        outlook=_outlook_figures(part, found, labels),
        doubts=_doubt_figures(part, found),
        residuals=_residual_figures(part, found, labels),
        curves=_curve_figures(part, labels),
        warnings=[{"part": part.title, **warning} for warning in found.warnings],
    )


def part_labels(part: Part) -> figures.Labels:
    """Return the axis titles of `part`, each with its unit and its convention."""
    return figures.Labels(
        loss=f"Validation loss ({part.unit}, {part.kind})",
        params=f"Parameters N ({part.params_convention.replace('_', '-')})",
        amount=f"Data D ({part.data_unit})",
        curve_loss=f"Loss while training ({part.unit})",
    )


def sentences(part: Part, found: Findings) -> list[str]:
    """Return the headline laws, a sentence each with its interval."""
    lines = []
    if found.drop is not None:
        lines.append(words.drop_sentence(found.drop, part.unit, _relative(part)))
    if found.rung is not None:
        lines.append(words.rung_sentence(found.rung, part.unit, part.data_unit))
    for what, exponent in (("parameters", found.size), (part.data_unit, found.data)):
        if exponent is not None:
            lines.append(words.growth_sentence(what, exponent))
    if len(found.held_out):
        best = found.held_out.iloc[-1]
        predicted = Quantity("", "", best.predicted, best.low, best.high)
        budget = best.C if math.isnan(best.budget) else best.budget
        lines.append(
            words.prediction_sentence(predicted, best.loss, part.unit, budget, _relative(part))
        )
        if len(found.held_out) > 1:
            lines.append(_held_out_sentence(part, found))
    if part.floor is not None:
        lines.append(_floor_sentence(part))
    return lines


def _relative(part: Part) -> bool:
    """Return whether a share of the loss means anything: a density's bits may pass zero."""
    losses = part.runs[part.runs.usable].loss
    return (losses > 0).all() and (part.floor is None or part.floor["value"] > 0)


def _drop_words(part: Part, drop: Drop) -> str:
    if _relative(part):
        return f"−{percent(drop.share)}"
    return f"−{drop.before - drop.after:.2g} {part.unit}"


def _held_out_sentence(part: Part, found: Findings) -> str:
    held = found.held_out
    error = words.error_words(held.predicted, held.loss, part.unit, _relative(part))
    inside = int(held.loss.between(held.low, held.high).sum())
    return (
        f"Over all {len(held)} held-out runs the mean error is {error}; "
        f"{inside} of {len(held)} lie inside their interval."
    )


def _floor_sentence(part: Part) -> str:
    floor = (part.floor or {})["value"]
    losses = part.runs[part.runs.usable].loss
    below = int((losses < floor).sum())
    verdict = "no run goes below it" if not below else f"{below} runs go below it: look for a leak"
    return (
        f"The entropy of this source is known, {floor:.4g} {part.unit}; the best run is "
        f"{losses.min() - floor:.3g} above it, and {verdict}."
    )


def _description(part: Part) -> str:
    usable = part.runs[part.runs.usable]
    units = {
        "N": (count, "parameters"),
        "D": (count, part.data_unit),
        "C": ("{:.2g}".format, "FLOPs"),
    }
    spans = [
        f"{shown(usable[name].min())} to {shown(usable[name].max())} {unit}"
        for name, (shown, unit) in units.items()
        if usable[name].notna().any()
    ]
    return (
        f"{part.family} on {part.data}: {', '.join([f'{len(part.runs)} runs', *spans])}. "
        f"Loss in {part.unit}: {part.kind}, on validation data."
    )


def _tiles(part: Part, found: Findings) -> list[dict[str, str]]:
    tiles = []
    if found.drop is not None:
        tiles.append(
            (
                _drop_words(part, found.drop),
                f"loss for ten times the {words.GROWS[found.drop.axis]}",
            )
        )
    if found.size is not None:
        tiles.append((f"C^{found.size.value:.2f}", "growth of the optimal parameters"))
    if len(found.held_out):
        row = found.held_out.iloc[-1]
        error = words.error_words(row.predicted, row.loss, part.unit, _relative(part))
        tiles.append((error, "error at the held-out budget"))
    return [{"value": value, "meaning": meaning} for value, meaning in tiles]


def _parameter(quantity: Quantity) -> dict[str, str]:
    return {
        "law": quantity.law,
        "name": quantity.name,
        "value": f"{quantity.value:.5g}",
        "interval": interval(quantity.low, quantity.high, ".4g") or "not known",
        "meaning": quantity.meaning,
    }


def _figure(part: Part, name: str, heading: str, caption: str, chart, height: int) -> Figure:
    """Return the figure `name` of `part`, its box `height` pixels high until it is drawn."""
    return Figure(f"{part.name}-{name}", heading, caption, export.to_spec(chart), height)


def _loss_figure(part: Part, found: Findings, labels: figures.Labels) -> Figure:
    held = (
        " Diamonds were held out of the fit; the filled one is the best of them, with the interval "
        "predicted for it."
        if len(found.held_out)
        else ""
    )
    fit = (
        "The line is the fitted law with its 95% band, dashed beyond the runs it was fitted on."
        if len(found.law)
        else "No law is drawn: the fit was refused."
    )
    caption = (
        "Each point is a run, each faint line its learning curve (hover to follow one). "
        f"A ring marks the best run at each budget. {fit}{held}"
    )
    if found.rung is not None:
        caption += " The open triangle is the next rung of the ladder, with a run's interval."
    chart = loss_chart(part, found, labels, 400)
    heading = f"Loss against {words.GROWS[found.axis]}"
    return _figure(part, "loss", heading, caption, chart, 430)


def loss_chart(
    part: Part, found: Findings, labels: figures.Labels, height: int, interactive: bool = True
) -> alt.LayerChart:
    """Draw loss against compute for `part`."""
    return figures.loss_against_compute(
        labels,
        found.runs,
        part.curves,
        found.frontier,
        found.law,
        found.held_out,
        None if part.floor is None else part.floor["value"],
        height,
        interactive,
        found.axis,
        found.rung,
    )


def _isoflop_figure(part: Part, found: Findings, labels: figures.Labels) -> Figure:
    lost = found.minima[~found.minima.kept]
    dropped = "".join(
        f" Dropped: {power_of_ten(row.budget)} FLOPs, {row.reason}."  # type: ignore[arg-type]
        for row in lost.itertuples()
    )
    chart = figures.isoflop(labels, found.runs, found.parabolas, found.minima)
    caption = (
        "Runs of equal compute, with a parabola for the eye. The diamond is the best size, "
        "by a spline through the runs or a shape that all budgets share; the bar is its interval, "
        f"from redrawing the runs with their noise.{dropped}"
    )
    return _figure(part, "isoflop", "The best size at each budget", caption, chart, 360)


def _optimum_figures(part: Part, found: Findings, labels: figures.Labels) -> list[Figure]:
    drawn = []
    for name, field, law, what, title in (
        ("optimal-size", "N", found.size_law, "size", labels.params),
        ("optimal-data", "D", found.data_law, "data", labels.amount),
    ):
        points = found.optima.rename(columns={f"{field}_low": "low", f"{field}_high": "high"})
        if not len(points):
            continue
        caption = (
            "Minima of the isoFLOP curves, and the power law through them with its 95% band."
            if len(law)
            else "Minima of the isoFLOP curves; too few for a law."
        )
        chart = figures.optimum(points, law, field, f"Optimal {title[0].lower()}{title[1:]}")
        drawn.append(_figure(part, name, f"Compute-optimal {what}", caption, chart, 280))
    return drawn


def _gap_figure(part: Part, found: Findings, labels: figures.Labels) -> list[Figure]:
    if part.floor is None:
        return []
    chart = figures.floor_gap(labels, found.runs, part.floor["value"], part.unit)
    caption = (
        f"The source's entropy is {part.floor['value']:.5g} {part.floor['unit']} "
        f"({part.floor['kind']}: {part.floor['source']})."
    )
    heading = "How far above the known entropy"
    return [_figure(part, "floor-gap", heading, caption, chart, 350)]


def _residual_figures(part: Part, found: Findings, labels: figures.Labels) -> list[Figure]:
    if not len(found.residuals):
        return []
    charts = {field: figures.residuals(labels, found.residuals, field) for field in ("N", "D", "C")}
    return [
        _figure(part, f"residuals-{field}", f"Residuals against {field}", "", chart, 240)
        for field, chart in charts.items()
    ]


def _outlook_figures(part: Part, found: Findings, labels: figures.Labels) -> list[Figure]:
    """Return what the law promises, and its exponents among published ones."""
    drawn = []
    beyond = f"dashed beyond the largest that was run, out to {outlook.BEYOND:g} times it"
    if len(found.plan):
        loss, split = (
            draw(labels, found.plan)
            for draw in (law_figures.plan_loss, law_figures.plan_allocation)
        )
        caption = f"The law's loss at the best size of each budget, with its 95% band; {beyond}."
        drawn.append(_figure(part, "plan-loss", "What more compute buys", caption, loss, 290))
        caption = f"Parameters and data at the optimum, with 95% bands; {beyond}."
        drawn.append(_figure(part, "plan-split", "How to spend it", caption, split, 290))
    for name, heading, rows, title, what in (
        ("size-exponents", "Growth of the best size, beside published laws", found.size_exponents,
         "Exponent a (N_opt ~ C^a)", "best sizes"),
        ("loss-exponents", "Fall of the loss, beside published laws", found.loss_exponents,
         "Exponent of loss above its floor", "losses"),
    ):  # fmt: skip
        if len(rows):
            caption = (
                "Diamonds are ours, with their 95% intervals. Published laws measure other data, "
                f"losses and counts: their {what} cannot be laid over ours, their exponents can."
            )
            chart = law_figures.exponents(rows, title)
            drawn.append(_figure(part, name, heading, caption, chart, 60 + 22 * len(rows)))
    return drawn


def _doubt_figures(part: Part, found: Findings) -> list[Figure]:
    """Return what tells whether to trust the law: each figure that its table allows."""
    drawn = []
    if len(found.ladder):
        best = found.ladder.iloc[0]
        verdict = "No law beats the last value." if best.baseline else f"{best.law} errs least."
        caption = (
            "Each law was fitted without the largest budget and predicts its runs; "
            f"the last value predicts no progress. {verdict}"
        )
        chart = law_figures.ladder(found.ladder)
        heading = "Which law predicts the largest budget"
        drawn.append(_figure(part, "ladder", heading, caption, chart, 200))
    if len(found.coverage):
        caption = (
            "Of runs held out in turn (the most compute, the largest size), the share inside "
            "intervals of each level. On the dashed line intervals keep their word, below it they "
            f"are too short. Bars: 95%, for {found.coverage.runs.iloc[0]:.0f} different runs."
        )
        chart = law_figures.coverage(found.coverage)
        drawn.append(_figure(part, "coverage", "How often its intervals hold", caption, chart, 290))
    if len(found.profiles):
        caption = (
            "One parameter is held, the others follow as best they can. Where the "
            "misfit crosses 1 the interval ends; a line that stays below is not identified."
        )
        chart = law_figures.profiles(found.profiles)
        heading = "How well each parameter is known"
        drawn.append(_figure(part, "profiles", heading, caption, chart, 270))
    if len(found.trade_off):
        caption = (
            "Loss at the largest budget when it is spent on a smaller or a larger "
            "model than the law's optimum, with the 95% band."
        )
        chart = law_figures.trade_off(found.trade_off)
        heading = "What a size other than the best costs"
        drawn.append(_figure(part, "trade-off", heading, caption, chart, 270))
    return drawn


def _curve_figures(part: Part, labels: figures.Labels) -> list[Figure]:
    """Return the curves in the unit of the score, and as optimised where that is another loss."""
    curves = part.curves.dropna(subset=["loss", "train_loss"])
    ratio = curves.train_loss / curves.loss
    kinds = [("loss", "curves", "Learning curves", f"Mean loss of the batches, in {part.unit}.")]
    if len(curves) and ratio.max() / ratio.min() > 1.01:
        kinds.append(("train_loss", "training-loss", "Training loss", "What was optimised."))
    hint = (
        "Hover to read a run. Runs of one size share a trunk of constant learning rate; each "
        "cooldown branches off and drops."
    )
    charts = {field: figures.learning_curves(labels, part.curves, field) for field, *_ in kinds}
    return [
        _figure(part, name, heading, f"{caption} {hint}", charts[field], 350)
        for field, name, heading, caption in kinds
        if part.curves[field].notna().sum() > 1
    ]


def headline(chapters: list[tuple[Part, Findings]]) -> alt.HConcatChart:
    """Draw loss against compute of the parts side by side: the story in one picture."""
    panels = []
    for part, found in chapters:
        lines = []
        if found.drop is not None:
            lines.append(f"10x compute: {_drop_words(part, found.drop)} loss")
        if found.size is not None:
            lines.append(f"best N grows as C^{found.size.value:.2f}")
        if len(found.held_out):
            row = found.held_out.iloc[-1]
            error = words.error_words(row.predicted, row.loss, part.unit, _relative(part))
            lines.append(f"held-out error {error}")
        title = alt.TitleParams(part.title, subtitle=" · ".join(lines) or "no law yet")
        chart = loss_chart(part, found, part_labels(part), 330, interactive=False)
        panels.append(chart.properties(width=430, title=title))
    return alt.hconcat(*panels, spacing=36).resolve_scale(color="independent")
