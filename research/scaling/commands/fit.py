"""`python -m research fit`: a law from a table or a run folder, its intervals and its doubts."""

import argparse
from dataclasses import replace
from typing import Any

import numpy as np

from research.errors import UserError
from research.scaling import laws
from research.scaling.choice import calibrated, choose
from research.scaling.commands.answer import add_answer_options, answer, estimates
from research.scaling.commands.options import (
    add_draw_options,
    add_table_options,
    at_least,
    draw_options,
    read_tables,
)
from research.scaling.doubt.catalogue import CHECKS
from research.scaling.doubt.signs import OBJECTIVES, SIGNED, objective_for, signed_too
from research.scaling.engine.objective import Objective
from research.scaling.fit import LawFit, fit_law
from research.scaling.frontier import fit_frontier
from research.scaling.isoflop.fit import has_budgets, isoflop
from research.scaling.laws import Law
from research.scaling.study_laws import no_law
from research.scaling.summary import compare_methods
from research.scaling.table import Table

AUTO = "auto"
EXAMPLE = """examples:
  python -m research fit runs/quickstart --law chinchilla --out laws.json
  python -m research fit table.csv --params N --data D --loss L --law chinchilla --out laws.json
  python -m research fit table.csv --params N --data D --loss L --law auto --json
  python -m research fit tasks.csv --loss error --column loss=val_loss --law loss_to_error \\
      --choices 4

Every warning cites one of 23 checks: --checks lists them. Losses of zero or less are fitted by l2,
and take a law whose floor may be below zero: signed_chinchilla, signed_frontier, vocabulary.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `fit`."""
    add_table_options(parser)
    add = parser.add_argument
    known = ", ".join([*laws.LAWS, *laws.SIGNED_LAWS])
    add("--law", default="chinchilla", help=f"auto, a file LAW.py, or {known}")
    drop, choices = at_least("--drop-highest", 0), at_least("--choices", 2)
    add("--drop-highest", type=drop, default=0, metavar="K", help="leave out the K highest losses")
    add(
        "--choices",
        type=choices,
        metavar="K",
        help="answers to choose from, where --loss is an error",
    )
    add("--checks", action=_Checks, nargs=0, help="list the 23 checks that warnings cite, and exit")
    add("--objective", help=OBJECTIVES)
    add_draw_options(parser, bootstrap=4000, level=0.95)
    add_answer_options(parser)


class _Checks(argparse.Action):
    """Print the checks and leave, as --help does."""

    def __call__(self, parser, *_) -> None:
        print(CHECKS)
        parser.exit()


def run(args: argparse.Namespace) -> int:
    """Fit, print, and write laws.json; returns 0, also when the law was refused (it says so).

    Raises:
        UserError: arguments or a table that cannot be fitted at all; nothing is written then.
    """
    law = None if args.law == AUTO else laws.get(args.law)
    tables = read_tables(args, signed_too(args.objective), args.choices)
    first, shown, parts = next(iter(tables)), [], {}
    for part, table in tables.items():
        table = _drop_highest(table, args.drop_highest)
        try:
            found = _fit(table, law, objective_for(args.objective, table), draw_options(args))
        except UserError as error:
            # A small part of a study (a check, a baseline) must not cost the others their laws.
            if part == first:
                raise
            name = law.name if law else args.law
            found = [f"refused: {error}"], no_law(table, name, args.level, str(error))
        lines, parts[part] = found
        if law is not None and laws.named(law.name) is None:
            parts[part]["law_file"] = args.law  # a hint: it is not run unless named again
        shown += [*([part] if part else []), *lines, ""]
    content = {**parts[first], "parts": parts} if first else parts[first]
    answer(args, content, shown, checksum=True)
    return 0


def _drop_highest(table: Table, count: int) -> Table:
    if not count:
        return table
    if count >= len(table):
        raise UserError(f"--drop-highest {count}: {table.source} has {len(table)} rows")
    bound = np.sort(table["L"])[-count]
    return table.select(table["L"] < bound, f"losses of {bound:.6g} and above left out")


def _fit(
    table: Table, law: Law | None, objective: Objective, options: dict[str, Any]
) -> tuple[list[str], dict[str, Any]]:
    choice = None
    if law is None:
        choice = choose(table, objective=objective, level=options["level"], seed=options["seed"])
        if choice.law is None:
            more = "add runs of more compute, or name a law with --law"
            raise UserError(f"{table.source}: refused by check 21: {choice.line}; {more}")
        law = choice.law
    if law.name == laws.FRONTIER.name:
        fit = fit_frontier(table, objective=objective, **options)
    else:
        fit = fit_law(table, law, objective=objective, **options)
        fit = _with_valleys(fit, table, options)
    if choice is not None:
        fit = choice.calibrate(fit)
    elif _quick(law) and law.name not in (laws.FRONTIER.name, laws.SIZE.name):
        fit = calibrated(fit, table, objective=objective, seed=options["seed"])
    lines = [*law_lines(fit), *(f"  warning {line}" for line in fit.warnings)]
    content = {**fit.to_json(), "notes": list(table.notes), "columns": dict(table.columns)}
    if choice is not None:
        lines.insert(1, f"  chosen: {choice.line}")
        content["choice"] = choice.to_json()
    return lines, content


def _quick(law: Law) -> bool:
    """Whether its backtests take seconds: of other laws each is minutes."""
    return bool(law.terms) or law.name in laws.SIGNED_LAWS


def _with_valleys(fit: LawFit, table: Table, options: dict[str, Any]) -> LawFit:
    """Add checks 6 and 7 where the table holds isoFLOP groups."""
    if not has_budgets(table):
        return fit
    valleys = isoflop(table, **options)
    methods = compare_methods(fit, valleys)
    more = valleys.findings + ([methods] if methods else [])
    return replace(fit, findings=sorted([*fit.findings, *more], key=lambda found: found.code))


def law_lines(fit: LawFit) -> list[str]:
    """The fitted law as an aligned table, why it is refused, and the next rung of a ladder."""
    runs = f"{fit.num_runs} runs"
    if fit.num_groups != fit.num_runs:
        runs += f" in {fit.num_groups} groups"
    lines = [f"{fit.law.formula}   ({runs}, {fit.convention})"]
    if fit.refused:
        lines.append(f"  refused: {fit.refused}")
    elif fit.parameters and fit.intervals:
        remarks = {True: "", False: "not identified"}
        lines += estimates(
            fit.level,
            [
                (name, value, fit.intervals[name], remarks[fit.profiles[name].identified])
                for name, value in fit.parameters.items()
            ],
        )
        kinds = " | ".join(dict.fromkeys(fit.interval_method.values()))
        lines.append(f"  intervals: {kinds}; of predictions: {fit.prediction_method}")
        lines.append(
            f"  objective {fit.objective:.10g} ({fit.criterion.name}),"
            f" noise of {'log ' if fit.log else ''}loss {fit.noise:.3g}"
        )
        lines += [] if fit.log else [f"  {SIGNED}"]
    if fit.ladder is not None and fit.rung is not None:
        rung = fit.rung
        at = ", ".join(f"{name} = {value:.4g}" for name, value in rung.at.items())
        lines.append(f"  next rung: {at}: loss {rung.loss:.4f} [{rung.low:.4f}, {rung.high:.4f}]")
    if fit.ladder is not None and fit.ladder.ratio is not None:
        lines.append(f"  {fit.ladder.advice}")
    return lines
