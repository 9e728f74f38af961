"""The figures of the book: drawn beforehand, as SVG, so that a page needs no script to show them.

An answer is drawn as what its verb measures: best rates against their axis, steps against the
batch, a score against what it is a power of, and otherwise loss against compute.
"""

import base64

import altair as alt
import numpy as np
import pandas as pd
import vl_convert

from research.report import export, grammar, theme
from research.report.book_answers import SIZES, Answer
from research.report.grammar import layered, mark, span
from research.scaling.table.expression import rows_where

WIDTH, HEIGHT = 360, 230  # pixels: about a phone's width, so that letters keep their size there
MOST_COLOURS = 5
COUNTED = {"params", "size", "tokens", "images", "data", "steps"}
OTHERS = "others"


def draw(table: pd.DataFrame, answer: Answer) -> tuple[alt.LayerChart, str] | None:
    """Draw an answer about `table` and say what is drawn; None where there is nothing to draw."""
    if answer.verb == "transfer" and answer.content:
        return _transfer(answer)
    if answer.verb == "batch" and answer.content:
        return _batch(answer)
    if answer.args is None and answer.verb != "table":
        return None
    args = vars(answer.args) if answer.args else {}
    if where := args.get("where"):
        table = table[rows_where(table, where, "--where", answer.command)]
    y = args.get("loss") or "loss"
    over = (args.get("over") or [None])[0]
    spent = (args.get("flops") or "flops", "budget", *SIZES, "step")
    x = over or next((name for name in spent if name in table), "")
    if y not in table or x not in table or not len(table):
        return None
    by = args.get("by") or "arm"
    by = by if by in table else next((name for name in ("part", *SIZES) if name in table), x)
    rows = pd.DataFrame({"x": table[x], "y": table[y], "of": table[by].astype(str)}).dropna()
    if by in SIZES:  # from small to large, all of them
        rows = rows.assign(of=table[by]).sort_values("of", kind="stable")
    named = [name.strip() for name in (args.get("arms") or "").split(",") if name.strip()]
    return _against(rows, (x, y), named, lowest=over is None)


def _against(
    rows: pd.DataFrame, axes: tuple[str, str], named: list, lowest: bool
) -> tuple[alt.LayerChart, str] | None:
    """Draw rows x, y, of: every run a point, and a line of the lowest so far or of the means."""
    known = list(dict.fromkeys(rows.of))
    shown = named or (known if _sizes(known) else known[:MOST_COLOURS])
    rows = rows[rows.x > 0].assign(of=rows.of.where(rows.of.isin(shown), OTHERS))
    if rows.empty:
        return None
    lines = rows[rows.of != OTHERS]
    if lowest:
        lines = pd.concat([_lowest(own) for _, own in lines.groupby("of", sort=False)])
        said = "each point a run, each line the lowest loss so far"
    else:
        lines = lines.groupby(["of", "x"], as_index=False).y.mean()
        said = "each point a run, each line their means"
    x, y = _axis(rows.x, "x", axes[0]), grammar.loss(rows.y, "y", _title(axes[1]))
    order = [name for name in shown if name in set(rows.of)]
    others = mark(rows[rows.of == OTHERS], "published", x, y) if OTHERS in set(rows.of) else None
    own = rows[rows.of != OTHERS]
    layers = [others] if others is not None else []
    layers += [
        mark(lines, "line", x, y, color=_color(order)),
        mark(own, "run", x, y, color=_color(order), shape=_shape(order)),
    ]
    said += ", others in grey" if others is not None else ""
    return _sized(layers), f"{_title(axes[1]).capitalize()} against {_title(axes[0])}: {said}."


def _lowest(rows: pd.DataFrame) -> pd.DataFrame:
    """The lowest y at each x, where it is lower than at every smaller x.

    Runs of one budget differ a little in what they spent: x within 5% of the one below is one x.
    """
    rows = rows.sort_values("x")
    budget = (rows.x.pct_change() > 0.05).cumsum()
    best = rows.loc[rows.groupby(budget).y.idxmin()]
    return best[best.y < best.y.cummin().shift(fill_value=np.inf)]


def _transfer(answer: Answer) -> tuple[alt.LayerChart, str] | None:
    rows = [
        {"of": arm["arm"] or "all", "x": best["place"], **best["rate"]}
        for arm in answer.content["arms"]
        for best in arm["best"]
        if best["rate"]
    ]
    rows = pd.DataFrame(rows, columns=["of", "x", "value", "low", "high"], dtype=None)
    if rows.empty:
        return None
    over = str(answer.content["arms"][0]["over"])
    rows = rows.fillna({"low": rows.value, "high": rows.value})
    order = list(dict.fromkeys(rows.of))
    x = _axis(rows.x, "x", over)
    # An end far away would flatten what is known: intervals are cut to twice that span.
    reach = [rows.value.min() / 4, rows.value.max() * 4]
    y = grammar.log_axis(alt.Y, reach, "value", "Best rate", format="~g")
    layers = [
        mark(rows, "line", x, y, color=_color(order)),
        span(rows, "minimum-interval", y, x, color=_color(order)),
        mark(rows, "run", x, y, color=_color(order), shape=_shape(order)),
    ]
    return _sized(layers), f"The best learning rate against {_title(over)}, with intervals."


def _batch(answer: Answer) -> tuple[alt.LayerChart, str]:
    """Steps to the loss against the batch, and S (1 + B_crit / B) as fitted."""
    points, lines = [], []
    for each in answer.content["networks"]:
        of = f"size {each['size']:g}, to {each['target']:.4g}"
        points += [{"of": of, "x": row["batch"], "y": row["steps"]} for row in each["steps"]]
        critical, fewest = each["critical_batch"]["value"], each["fewest_steps"]["value"]
        batches = [row["batch"] for row in each["steps"]]
        between = np.geomspace(min(batches), max(batches), 40)
        lines += [{"of": of, "x": b, "y": fewest * (1 + critical / b)} for b in between]
    rows, law = pd.DataFrame(points), pd.DataFrame(lines)
    order = list(dict.fromkeys(rows.of))
    x = grammar.log_axis(alt.X, rows.x, "x", "Batch (examples)", format="~g")
    y = grammar.log_axis(alt.Y, [*rows.y, *law.y], "y", "Steps to the loss", format="~g")
    layers = [
        mark(law, "line", x, y, color=_color(order)),
        mark(rows, "run", x, y, color=_color(order), shape=_shape(order)),
    ]
    return _sized(layers), "Steps to a loss against the batch; the line is the law."


def _axis(values: pd.Series, field: str, name: str) -> alt.X:
    if name in ("flops", "budget"):
        x = grammar.resource({}, values, "C")
        x.shorthand = f"{field}:Q"
        return x
    if name in COUNTED:
        return grammar.counts(alt.X, values, field, _title(name))
    return grammar.log_axis(alt.X, values, field, _title(name), format="~g")


def _title(column: str) -> str:
    words = {"flops": "compute (FLOPs)", "params": "parameters", "budget": "budget (FLOPs)"}
    return words.get(column, column.rpartition(".")[2].replace("_", " "))


def _sizes(order: list) -> bool:
    """Whether what is told apart are numbers, which have an order, and not names."""
    return all(isinstance(each, (int, float)) for each in order)


def _color(order: list) -> alt.Color:
    legend = alt.Legend(title=None, columns=3, labelLimit=130) if len(order) > 1 else None
    if _sizes(order):
        return alt.Color("of:O", sort=order, legend=alt.Legend(title=None, columns=5, format="~s"))
    return alt.Color("of:N", sort=order, legend=legend)


def _shape(order: list) -> alt.Shape | alt.ShapeValue:
    if _sizes(order):
        return alt.ShapeValue("circle")
    return alt.Shape("of:N", sort=order, legend=None)


def _sized(layers: list[alt.Chart]) -> alt.LayerChart:
    return layered(*layers, height=HEIGHT).properties(width=WIDTH)


def pictures(chart: alt.LayerChart) -> dict[str, str]:
    """The chart as a data URL of an SVG in each theme of a page."""
    export.register_fonts()
    found = {}
    for name in ("light", "dark"):
        config = theme.config(name) | {"font": f"'{theme.PRINT_LABEL_FONT}', sans-serif"}
        drawing = vl_convert.vegalite_to_svg({**export.to_spec(chart), "config": config})
        coded = base64.b64encode(drawing.encode()).decode()
        found[name] = f"data:image/svg+xml;base64,{coded}"
    return found
