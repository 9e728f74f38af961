"""`python -m research power`: with which powers of columns a number grows, arm by arm."""

import argparse
from typing import Any

import pandas as pd

from research.errors import UserError
from research.scaling.commands.answer import add_answer_options, aligned, answer, write_figure
from research.scaling.commands.options import add_arm_options, add_table_options, read_tables
from research.scaling.transfer import Estimate, positive, positive_losses, power_law

EXAMPLE = """examples:
  python -m research power runs/coordinate_check --over size --loss activations_output
  python -m research power runs/coordinate_check --over size --part text --figure growth.png
  python -m research power rates.csv --loss lr --over width --json

--loss is what grows: a score of a run folder (its main one by default), or a column of a table such
as the best rates of many sizes and horizons (Li et al. 2025). y = c x^a ..., by least squares of
logarithms; intervals are Student's t of the scatter about the line, seeds and misfit alike.
"""

Powers = dict[str, Estimate]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `power`."""
    add_table_options(parser)
    add = parser.add_argument
    add("--over", required=True, action="append", metavar="COLUMN", help="x; may be repeated")
    add_arm_options(parser, "draw it against the one --over")
    add_answer_options(parser)


def run(args: argparse.Namespace) -> int:
    """Fit, print, and write what was asked for.

    Raises:
        UserError: tables that cannot be used, or columns whose powers they do not tell.
    """
    tables = read_tables(args)
    tables = {args.part: tables[args.part]} if args.part else tables
    found, points = {}, []
    for part, table in tables.items():
        y = positive_losses(table)
        labels = table.frame.get(args.by, pd.Series("", table.frame.index)).astype(str)
        x = {name: positive(table, "--over", name) for name in args.over}
        for arm in dict.fromkeys(labels):
            own = (labels == arm).to_numpy()
            columns = {name: values[own] for name, values in x.items()}
            found[part, arm] = power_law(y[own], columns, args.level)
            name = f"{part} {arm}".strip()
            points.append(pd.DataFrame({**columns, "L": y[own]}).assign(arm=name))
    if args.figure:
        unit = args.loss or next(iter(tables.values())).loss_unit
        write_figure(args.figure, lambda: _chart(pd.concat(points), args.over, unit))
    rows = [
        {"part": part, "arm": arm, **{name: each.to_json() for name, each in powers.items()}}
        for (part, arm), powers in found.items()
    ]
    answer(args, {"arms": rows}, _lines(found, args))
    return 0


def _lines(found: dict[tuple[str, str], Powers], args: argparse.Namespace) -> list[str]:
    head = ["", *(word for name in args.over for word in (f"power of {name}", f"{args.level:.0%}"))]
    rows = []
    for (part, arm), powers in found.items():
        cells = [f"{part} {arm}".strip()]
        for name in args.over:
            value, low, high = powers[name]
            cells += [f"{value:+.3f}", f"[{low:+.3f}, {high:+.3f}]"]
        rows.append(cells)
    return aligned(head, rows)


def _chart(points: pd.DataFrame, over: list[str], title: str) -> Any:
    from research.report import law_figures

    if len(over) > 1:
        raise UserError("--figure draws against one column: name --over once")
    return law_figures.power(points, over[0], title)
