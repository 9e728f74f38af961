"""`python -m research predict`: what a fitted law says of runs that are not there yet."""

import argparse
from typing import TYPE_CHECKING, Any

from research.errors import UserError, nearest
from research.run.record import write_json, write_text
from research.scaling.commands.answer import add_answer_options, answer, prediction_lines
from research.scaling.commands.laws_json import (
    add_law_options,
    amount,
    assignments,
    law_content,
    own_law,
)

if TYPE_CHECKING:
    import pandas as pd

    from research.scaling.plan.prediction import Prediction

EXAMPLE = """examples:
  python -m research predict laws.json --params 163e6 --data 3.26e9
  python -m research predict laws.json --params 163M --flops 3.2e18 --json
  python -m research predict laws.json --table target.csv --params N --data D --out predictions.csv

Of --params, --data and --flops two give the third, as the fitted table counted FLOPs. With --table
each names a column (by default the one that the fitted table had), or a number for every row.
"""
VARIABLES = {"N": "params", "D": "data", "C": "flops", "U": "unique"}
MADE = ("prediction", "low", "high", "law_low", "law_high")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `predict`."""
    add = parser.add_argument
    add_law_options(parser, "predict")
    add("--params", metavar="N", help="parameters")
    add("--data", metavar="D", help="tokens or images")
    add("--flops", metavar="C", help="training FLOPs")
    add("--unique", metavar="U", help="unique tokens or images, where data repeat")
    add("--table", metavar="TABLE", help="predict each row of a table (CSV, JSON lines, Parquet)")
    add("--where", metavar="EXPRESSION", help="rows of the table to take")
    add_answer_options(parser, "write the table with its predictions as CSV, or one run as JSON")


def run(args: argparse.Namespace) -> int:
    """Predict, print, and write --out.

    Raises:
        UserError: a file that is no law, a refused law, a variable that is missing or unknown, or
            runs too far from those that were fitted; nothing is written then.
    """
    from research.scaling.plan.prediction import predict

    content, own = law_content(args), own_law(args)
    frame, numbers = None, None
    if args.table is None:
        if args.where is not None:
            raise UserError("--where: only with --table")
        given = _named_once(
            {
                name: amount(f"--{option}", getattr(args, option))
                for name, option in VARIABLES.items()
                if getattr(args, option) is not None
            },
            assignments(args.set),
        )
        if not given:
            raise UserError("--params, --data or --flops: say which run, or give a --table of runs")
    else:
        frame = _read(args)
        given = _columns(frame, content, own, args)
        numbers = [int(row) + 1 for row in frame.index]
    found = predict(content, given, own=own, anyway=args.anyway, numbers=numbers)
    if args.out and frame is not None:
        write_text(args.out, frame.assign(**_made(found)).to_csv(index=False))
    elif args.out:
        write_json(args.out, found.to_json())
    answer(args, found.to_json(), lines(found, numbers))
    return 0


def _named_once(given: dict[str, Any], also: dict[str, float]) -> dict[str, Any]:
    for name in also:
        if name in given:
            raise UserError(f"--set {name}: it is --{VARIABLES[name]} already")
        if name in VARIABLES and not also[name] > 0:
            raise UserError(f"--set {name}={also[name]:g}: expected a positive number")
    return {**given, **also}


def _read(args: argparse.Namespace) -> "pd.DataFrame":
    """The rows of --table that --where takes, each with its number in the file as its index."""
    from research.scaling.table import read_frame
    from research.scaling.table.columns import rows_where

    frame = read_frame(args.table).reset_index(drop=True)
    if args.where is not None:
        frame = frame[rows_where(frame, args.where, "--where", args.table)]
    if not len(frame):
        raise UserError(f"{args.table}: no rows" + (f" where {args.where}" if args.where else ""))
    for name in MADE:
        if args.out and name in frame:
            raise UserError(f"{args.table}: has a column {name!r} already; rename it")
    return frame


def _columns(frame, content, own, args: argparse.Namespace) -> dict[str, Any]:
    """Variable -> [rows]: the columns that options name, else those that the fitted table had."""
    from research.scaling.plan.fitted import read_law
    from research.scaling.table.columns import finite_numbers, positive_numbers

    fitted = read_law(content, own)
    given: dict[str, Any] = {}
    for name, option in VARIABLES.items():
        word = getattr(args, option)
        if word is None or word in frame:
            continue
        try:
            given[name] = amount(f"--{option}", word)
        except UserError:
            near = nearest(word, map(str, frame.columns))
            text = f"no column {word!r} in {args.table}{near}, and no number"
            raise UserError(f"--{option}: {text}") from None
    also, words = {}, []
    for word in args.set:
        name, _, column = word.partition("=")
        if column in frame:
            given[name.strip()] = finite_numbers(frame, f"--set {name}", column, args.table)
        else:
            words.append(word)
    also = assignments(words)
    named = {name: getattr(args, option) for name, option in VARIABLES.items()}
    known = {name: fitted.columns.get(option, name) for name, option in VARIABLES.items()}
    for name in dict.fromkeys((*fitted.law.variables, "N", "D", "C")):
        own_name = known.get(name) or fitted.columns.get(f"column {name}", name)
        column = named.get(name) or own_name
        if name in given or name in also or column not in frame:
            continue
        read = positive_numbers if name in VARIABLES else finite_numbers
        option = f"--{VARIABLES[name]}" if name in VARIABLES else f"--set {name}"
        given[name] = read(frame, option, column, args.table)
    if not given and not also:
        shown = ", ".join(map(str, frame.columns[:12]))
        reads = ", ".join(fitted.law.variables)
        raise UserError(
            f"{args.table}: the law {fitted.law.name!r} reads {reads}: name their columns with"
            f" --params, --data, --flops or --set NAME=COLUMN; it has {shown}"
        )
    return _named_once(given, also)


def _made(found: "Prediction") -> dict[str, Any]:
    """The columns that are added: the prediction, a new run's interval, and the law's own."""
    made = {"prediction": found.loss}
    for ends, low, high in (
        (found.run_interval, "low", "high"),
        (found.loss_interval, "law_low", "law_high"),
    ):
        if ends is not None:
            made |= {low: ends[0], high: ends[1]}
    return made


def lines(found: "Prediction", numbers: list[int] | None) -> list[str]:
    """One run, or a table of runs, then how far from the fitted ones, and the warnings."""
    said = [f"{found.target} by {found.law}"]
    if numbers is None:
        said += _one(found)
    else:
        loss = (found.target, found.loss)
        said += prediction_lines(numbers, found.columns, loss, found.run_interval, found.level)
    if found.run_interval is not None:
        said.append(f"  intervals: {found.method}")
    said += [f"  {line}" for line in _places(found)]
    said += [f"  warning {line}" for line in found.warnings]
    return said + [f"  warning of the fit {line}" for line in found.fit_warnings]


def _one(found: "Prediction") -> list[str]:
    names = {"N": "params", "D": found.data_unit, "C": "FLOPs"}
    said = [f"  {names.get(n, n):<13}{float(v[0]):>12.5g}" for n, v in found.columns.items()]
    rows = [(found.target, found.loss_interval), (f"a run's {found.target}", found.run_interval)]
    for name, ends in rows:
        if ends is None and name != found.target:
            continue
        text = ""
        if ends is not None:
            text = f"   {found.level:.0%} interval {float(ends[0, 0]):.5g} {float(ends[1, 0]):.5g}"
        said.append(f"  {name:<13}{float(found.loss[0]):>12.6g}{text}")
    return said


def _places(found: "Prediction") -> list[str]:
    """How far past the fitted runs each variable goes, in decades."""
    parts = []
    for name, past in found.beyond.items():
        ends = [f"{float(past.max()):.2g} decades above"] if past.max() > 0 else []
        ends += [f"{float(-past.min()):.2g} decades below"] if past.min() < 0 else []
        parts.append(f"{name} {' and '.join(ends) or 'inside'}")
    return [f"of the fitted runs: {', '.join(parts)}"] if parts else []
