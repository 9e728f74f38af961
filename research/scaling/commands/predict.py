"""`python -m research predict`: what a fitted law says of runs that are not there yet."""

import argparse
from typing import Any

import pandas as pd

from research.errors import UserError, nearest
from research.numbers import few
from research.scaling.commands.answer import add_answer_options, answer, estimates, predictions
from research.scaling.commands.options import (
    add_law_options,
    amount,
    law_options,
    read_rows,
    setting,
    settings,
)
from research.scaling.plan.fitted import FittedLaw, read_law
from research.scaling.plan.prediction import Prediction, predict
from research.scaling.table.columns import finite_numbers, positive_numbers

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
    content, options = law_options(args)
    given, frame, numbers = _given(args), None, None
    if args.table is not None:
        frame = read_rows(args.table, args.where, added=MADE if args.out else ())
        numbers = (frame.index + 1).tolist()
        fitted = read_law(content, options["own"])
        given = _named(frame, fitted) | given
        if not given:
            reads = ", ".join(fitted.law.variables)
            raise UserError(
                f"{args.table}: the law {fitted.law.name!r} reads {reads}: name their columns with"
                " --params, --data, --flops or --set NAME=COLUMN; it has"
                f" {few(frame.columns, 12)}"
            )
    elif args.where is not None:
        raise UserError("--where: only with --table")
    elif not given:
        raise UserError("--params, --data or --flops: say which run, or give a --table of runs")
    values = {name: _value(name, *said, frame, str(args.table)) for name, said in given.items()}
    found = predict(content, values, numbers=numbers, **options)
    text = None if frame is None else frame.assign(**_made(found)).to_csv(index=False)
    answer(args, found.to_json(), lines(found, numbers), text)
    return 0


def _given(args: argparse.Namespace) -> dict[str, tuple[str, str]]:
    """Variable -> the option that says what it is, and what that says."""
    words = {name: (f"--{option}", getattr(args, option)) for name, option in VARIABLES.items()}
    given = {name: said for name, said in words.items() if said[1] is not None}
    for name, word in settings(args).items():
        if name in given:
            raise UserError(f"--set {name}: it is {given[name][0]} already")
        given[name] = f"--set {name}", word
    return given


def _named(frame: pd.DataFrame, fitted: FittedLaw) -> dict[str, tuple[str, str]]:
    """As `_given`, of the columns that are called as those of the fitted table were."""
    found = {}
    for name in dict.fromkeys((*fitted.law.variables, "N", "D", "C")):
        option = VARIABLES.get(name)
        column = fitted.columns.get(option or f"column {name}", name)
        if column in frame:
            found[name] = f"--{option}" if option else f"--set {name}", column
    return found


def _value(name: str, option: str, word: str, frame: pd.DataFrame | None, source: str) -> Any:
    """The number that `word` is, or the column [rows] of `frame` that it names."""
    if frame is not None and word in frame:
        read = positive_numbers if name in VARIABLES else finite_numbers
        return read(frame, option, word, source)
    try:
        return (amount(option) if name in VARIABLES else setting(name))(word)
    except UserError:
        if frame is None:
            raise
        near = nearest(word, map(str, frame.columns))
        text = f"no column {word!r} in {source}{near}, and no number"
        raise UserError(f"{option}: {text}") from None


def _made(found: Prediction) -> dict[str, Any]:
    """The columns that are added: the prediction, a new run's interval, and the law's own."""
    runs, law = found.run_interval, found.loss_interval
    ends = [*((None, None) if runs is None else runs), *((None, None) if law is None else law)]
    made = zip(MADE, [found.loss, *ends], strict=True)
    return {name: values for name, values in made if values is not None}


def lines(found: Prediction, numbers: list[int] | None) -> list[str]:
    """One run, or a table of runs, then how far from the fitted ones, and the warnings."""
    said = [f"{found.target} by {found.law}"]
    if numbers is None:
        said += _one(found)
    else:
        columns = {**found.columns, found.target: found.loss}
        said += predictions(numbers, columns, found.run_interval, found.level)
    if found.run_interval is not None:
        said.append(f"  intervals: {found.method}")
    said += _places(found)
    said += [f"  warning {line}" for line in found.warnings]
    return said + [f"  warning of the fit {line}" for line in found.fit_warnings]


def _one(found: Prediction) -> list[str]:
    names = {"N": "params", "D": found.data_unit, "C": "FLOPs"}
    rows: list[tuple] = [
        (names.get(name, name), float(value[0]), None) for name, value in found.columns.items()
    ]
    loss, ends = float(found.loss[0]), (found.loss_interval, found.run_interval)
    law, own = (None if each is None else each[:, 0] for each in ends)
    rows.append((found.target, loss, law))
    rows += [] if own is None else [(f"a run's {found.target}", loss, own)]
    return estimates(found.level, rows)


def _places(found: Prediction) -> list[str]:
    """How far past the fitted runs each variable goes, in decades."""
    parts = []
    for name, past in found.beyond.items():
        ends = [f"{float(past.max()):.2g} decades above"] if past.max() > 0 else []
        ends += [f"{float(-past.min()):.2g} decades below"] if past.min() < 0 else []
        parts.append(f"{name} {' and '.join(ends) or 'inside'}")
    return [f"  of the fitted runs: {', '.join(parts)}"] if parts else []
