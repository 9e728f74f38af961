"""`python -m research extrapolate`: what learning curves will do, from several laws at once."""

import argparse

from research.scaling.commands.answer import add_answer_options, aligned, answer
from research.scaling.extrapolate.curves import from_frame
from research.scaling.extrapolate.forecast import AUTO, NAMES, Extrapolation, check_law, extrapolate
from research.scaling.table import read_frame

EXAMPLE = """example:
  python -m research extrapolate curves.csv --curve "Task,Model" --x "Seen Examples" --y Loss \\
      --fit "Training == 1" --law auto --out predictions.csv

Rows beyond the fitted ones of their curve are predicted; their y is never read and may be absent.
Rows of one x are averaged (seeds), and points that leave a curve and come back (spikes) are set
aside. Each law is also fitted with the last points of every curve left out; `auto` weighs the laws
by what those backtests show, curve by curve. Curves that share the first of several --curve columns
(a domain) lend each other more than others.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `extrapolate`."""
    add = parser.add_argument
    add(
        "source",
        metavar="CURVES",
        help="a table (CSV, JSON lines, W&B export, Parquet; - is standard input)",
    )
    add(
        "--curve",
        metavar="COLUMNS",
        help="columns that tell curves apart: A,B (default: one curve)",
    )
    add("--x", required=True, metavar="COLUMN", help="what grows: examples, tokens, FLOPs, sizes")
    add("--y", required=True, metavar="COLUMN", help="loss or error, positive, or an accuracy")
    add("--fit", required=True, metavar="EXPRESSION", help='rows to fit: "Training == 1"')
    add("--where", metavar="EXPRESSION", help="rows to take at all: \"Split == 'val'\"")
    add(
        "--best",
        type=float,
        metavar="VALUE",
        help="what y rises to, 1 or 100 for an accuracy; 0: y falls (default: told by its values)",
    )
    add("--law", default=AUTO, help=f"{AUTO}, or one of {', '.join(NAMES)}")
    add("--level", type=float, default=0.9, help="of the intervals")
    add_answer_options(parser, "write the predicted rows here, as CSV")


def run(args: argparse.Namespace) -> int:
    """Extrapolate, print the backtests, and write the predictions; returns 0.

    Raises:
        UserError: a file, column, expression or value that cannot be used; nothing is written then.
    """
    check_law(args.law)
    curves = from_frame(
        read_frame(args.source),
        curve=args.curve,
        x=args.x,
        y=args.y,
        fit=args.fit,
        where=args.where,
        best=args.best,
        source=args.source,
    )
    result = extrapolate(curves, args.law, args.level)
    frame = result.frame()
    rows = frame[["law", "prediction", "low", "high"]].assign(row=frame.index + 1)
    content = {**result.to_json(), "predictions": rows.to_dict("records")}
    answer(args, content, lines(result), frame.to_csv(index=False))
    return 0


def lines(result: Extrapolation) -> list[str]:
    """The backtests as an aligned table, then what they say, line by line."""
    found = [
        f"{len(result.prediction)} rows of {len(result.curves)} curves predicted;"
        f" {result.num_backtests} backtests, each leaving out the last points of a curve"
    ]
    if result.backtests:
        best = result.curves.score.best
        error = f"RMSE of log {f'({best:g} - y)' if best else 'y'}"
        found += aligned(
            ("law", error, "leads curves"),
            [
                (test.law, f"{test.rmse:.4g}", "" if test.law == AUTO else str(test.leads))
                for test in result.backtests
            ],
        )
    if result.coverage is not None:
        found.append(
            f"  {result.level:.0%} intervals hold {result.coverage:.0%} of the points left out"
        )
    for group in result.last_value_wins:
        found.append(f"  no single law beats the last value in: {group}")
    return found + [f"  note: {note}" for note in result.notes]
