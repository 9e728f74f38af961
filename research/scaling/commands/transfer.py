"""`python -m research transfer`: how far the best rate moves with width, depth or horizon."""

import argparse
from typing import Any

import pandas as pd

from research.errors import UserError, nearest
from research.run import storage
from research.run.record import read_json
from research.scaling.commands.answer import add_answer_options, aligned, answer, write_figure
from research.scaling.commands.options import add_arm_options, add_table_options, read_tables
from research.scaling.table import Table
from research.scaling.transfer import FEWEST, Estimate, Transfer, transfer

EXAMPLE = """examples:
  python -m research transfer runs/transfer --over size --out transfer.json
  python -m research transfer runs/transfer --over model.depth --part text_depth --figure depth.png
  python -m research transfer rates.csv --over width --rate lr --loss L --by optimizer --json

At each value of --over the best rate is the vertex of a parabola in log2 rate through the losses
about the lowest; a line through them says how it moves: as a power, and in factors of two from the
first value to the last. The regret is the share by which the loss of the last value is higher at
the best rate of the first. Of a run folder --over and --rate may also be keys of a run's config.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `transfer`."""
    add_table_options(parser)
    add = parser.add_argument
    add("--over", required=True, metavar="COLUMN", help="what grows: size, D, model.depth")
    add("--rate", default="learning_rate", metavar="COLUMN", help="what is tuned at each")
    add_arm_options(parser, "draw one part")
    add_answer_options(parser)


def run(args: argparse.Namespace) -> int:
    """Measure, print, and write what was asked for.

    Raises:
        UserError: tables that cannot be used, or an axis that no part varies.
    """
    found = {}
    for part, table in _parts(args).items():
        labels = (
            table.frame[args.by] if args.by in table.frame else pd.Series("", table.frame.index)
        )
        for arm in dict.fromkeys(labels):
            own = table.select((labels == arm).to_numpy())
            found[part, str(arm)] = transfer(own, args.over, args.rate, args.level)
    rows = [{"part": part, "arm": arm, **each.to_json()} for (part, arm), each in found.items()]
    if args.figure:
        write_figure(args.figure, lambda: _chart(found, args.rate))
    answer(args, {"arms": rows}, _lines(found, args.level))
    return 0


def _parts(args: argparse.Namespace) -> dict[str, Table]:
    """The tables in which --over takes several values, with the columns that are asked for."""
    tables = read_tables(args)
    if args.part:
        tables = {args.part: tables[args.part]}
    if storage.is_folder(args.source):
        for table in tables.values():
            _add_keys(table, (args.over, args.rate))
    known = [str(name) for table in tables.values() for name in table.frame]
    for option in ("over", "rate"):
        if (name := getattr(args, option)) not in known:
            raise UserError(
                f"--{option}: no column {name!r} in {args.source}{nearest(name, known)}"
            )
    several = {
        part: table
        for part, table in tables.items()
        if args.over in table.frame and table.frame[args.over].nunique() >= FEWEST
    }
    if not several:
        raise UserError(f"--over {args.over}: fewer than {FEWEST} values in {args.source}")
    return several


def _add_keys(table: Table, keys: tuple[str, ...]) -> None:
    """Give `table`, of a run folder, the columns that are keys of its runs' configs."""
    for key in {*keys} - {*table.frame}:
        values = []
        for run in table.frame["id"]:
            value = read_json(storage.path(table.source) / run / "config.json")
            for name in key.split("."):
                value = value.get(name) if isinstance(value, dict) else None
            values.append(value)
        if any(value is not None for value in values):
            table.frame[key] = values


def _lines(found: dict[tuple[str, str], Transfer], level: float) -> list[str]:
    head = (
        "",
        "factors of two",
        f"{level:.0%}",
        "power",
        f"{level:.0%}",
        "regret",
        f"{level:.0%}",
        "",
    )
    rows = [(f"{part} {arm}".strip(), *_cells(each)) for (part, arm), each in found.items()]
    said = aligned(head, rows)
    for (part, arm), each in found.items():
        rates = ", ".join(
            f"{best.place:g}: {best.rate.value:.3g}" if best.rate else f"{best.place:g}: {best.why}"
            for best in each.best
        )
        said.append(f"  {f'{part} {arm}'.strip()}, best rate at {each.over} {rates}")
    return said


def _cells(found: Transfer) -> tuple[str, ...]:
    if found.moved is None or found.exponent is None or found.regret is None:
        return (f"refused: {found.refused}",)
    bound = "at least " * found.at_least
    return (
        *(f"{found.moved.value:+.2f}", _ends(found.moved, "+.2f")),
        *(f"{found.exponent.value:.2f}", _ends(found.exponent, ".2f")),
        *(f"{bound}{found.regret.value:.2%}", _ends(found.regret, ".2%"), found.says),
    )


def _ends(found: Estimate, style: str) -> str:
    return f"[{found.low:{style}}, {found.high:{style}}]"


def _chart(found: dict[tuple[str, str], Transfer], rate: str) -> Any:
    from research.report import law_figures

    if len(parts := {part for part, _ in found}) > 1:
        raise UserError(
            f"--figure draws one part: name one of {', '.join(sorted(parts))} by --part"
        )
    return law_figures.transfer({arm: each for (_, arm), each in found.items()}, rate)
