"""`python -m research isoflop`: the best size at each compute budget, and how it grows."""

import argparse
from dataclasses import replace

import numpy as np

from research.errors import UserError
from research.scaling.commands.answer import add_answer_options, aligned, answer, estimates
from research.scaling.commands.options import (
    add_draw_options,
    add_table_options,
    draw_options,
    read_tables,
)
from research.scaling.doubt.signs import SIGNED, refuse_odd_signs
from research.scaling.doubt.support import require_columns
from research.scaling.doubt.table_checks import (
    checkpoints,
    duplicates,
    found_by,
    mixed_conventions,
    paired_losses,
)
from research.scaling.isoflop.fit import METHODS, IsoflopFit, Valley, isoflop
from research.scaling.table import Table

EXAMPLE = """examples:
  python -m research isoflop runs/quickstart
  python -m research isoflop points.csv --params N --data D --loss L --flops C --out isoflop.json
  python -m research isoflop points.csv --params N --data D --loss L --flops C --group run \\
      --where "experiment == 'short warm-up'" --method projection --json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `isoflop`."""
    add_table_options(parser)
    parser.add_argument(
        "--method", help=f"{', '.join(METHODS)} (default: akima, or projection where it must)"
    )
    add_draw_options(parser, bootstrap=2000, level=0.95)
    add_answer_options(parser)


def run(args: argparse.Namespace) -> int:
    """Fit, print, and write isoflop.json; returns 0, also when the fit was refused (it says so).

    Raises:
        UserError: arguments or a table that cannot be read; nothing is written then.
    """
    table = next(iter(read_tables(args, signed_loss=True).values()))
    refuse_odd_signs(table)
    _refuse_constant(table)
    fit = isoflop(table, args.method, **draw_options(args))
    checks = (mixed_conventions, checkpoints, duplicates, paired_losses)
    fit = replace(fit, findings=found_by((*checks, lambda _: fit.findings), table))
    content = {**fit.to_json(), "convention": table.convention, "notes": list(table.notes)}
    answer(args, content, lines(fit))
    return 0


def _refuse_constant(table: Table) -> None:
    require_columns(table, "NDC", "a valley")
    for name, what in (("N", "N"), ("L", "a loss of")):
        values = table[name]
        if np.ptp(values) == 0:
            text = "a valley takes several sizes, and losses that differ"
            raise UserError(f"{table.source}: every row has {what} {values[0]:g}: {text}")


def lines(fit: IsoflopFit) -> list[str]:
    """The exponents, every budget with its optimum or why it was dropped, and the warnings."""
    said = [
        f"N_opt ~ C^a, D_opt ~ C^b by {fit.method}"
        f"   ({len(fit.kept)} of {len(fit.valleys)} budgets)"
    ]
    said += [] if fit.log else [f"  {SIGNED}"]
    if fit.refused:
        said.append(f"  refused: {fit.refused}")
    elif fit.params_exponent is not None and fit.data_exponent is not None:
        found = (
            ("a", fit.params_exponent, fit.params_interval),
            ("b", fit.data_exponent, fit.data_interval),
        )
        said += estimates(fit.level, found)
    said += aligned(("FLOPs", "N_opt", "error", "D_opt", "loss"), map(_optimum, fit.valleys))
    # What the table of optima has said already is no warning again.
    dropped = tuple(f"dropped: {valley.why}" for valley in fit.valleys if not valley.kept)
    shown = [found for found in fit.findings if not found.message.endswith(dropped)]
    return said + [f"  warning {found.line}" for found in shown]


def _optimum(valley: Valley) -> tuple[str, ...]:
    if not valley.kept:
        return f"{valley.flops:.3g}", f"dropped: {valley.why}"
    error = "" if valley.error is None else f"{valley.error:.0%}"
    best = (f"{valley.params:.4g}", error, f"{valley.data:.4g}", f"{valley.loss:.4f}")
    return f"{valley.flops:.3g}", *best
