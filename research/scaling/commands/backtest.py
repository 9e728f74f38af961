"""`python -m research backtest`: which law predicts the runs that it was not shown."""

import argparse

from research.scaling import laws
from research.scaling.backtest import LAST_VALUE, Backtest, Scored, backtest
from research.scaling.commands.answer import add_answer_options, aligned, answer
from research.scaling.commands.options import (
    add_draw_options,
    add_table_options,
    draw_options,
    read_tables,
)
from research.scaling.doubt.signs import OBJECTIVES, SIGNED, objective_for, signed_too

EXAMPLE = """examples:
  python -m research backtest runs/quickstart --holdout flops:0.3decade
  python -m research backtest table.csv --params N --data D --loss L --holdout params:largest
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `backtest`."""
    add_table_options(parser)
    add = parser.add_argument
    add(
        "--holdout",
        default="flops:0.5decade",
        help="flops:0.5decade, params:largest, data:1decade or an expression on the columns",
    )
    add("--law", action="append", help="a law to test; may be repeated (default: all that apply)")
    add("--objective", help=OBJECTIVES)
    add_draw_options(parser, bootstrap=400, level=0.9)
    add_answer_options(parser)


def run(args: argparse.Namespace) -> int:
    """Test every law, print them by held-out error, and write the result.

    Raises:
        UserError: arguments or a table that cannot be used; nothing is written then.
    """
    chosen = [laws.get(name) for name in args.law] if args.law else None
    table = next(iter(read_tables(args, signed_too(args.objective)).values()))
    objective = objective_for(args.objective, table)
    result = backtest(table, args.holdout, chosen, objective=objective, **draw_options(args))
    answer(args, {**result.to_json(), "convention": table.convention}, lines(result))
    return 0


def lines(result: Backtest) -> list[str]:
    """The table of laws, best first, then the warnings."""
    held, fitted = int(result.mask.sum()), int((~result.mask).sum())
    said = [
        f"{held} runs held out ({result.holdout}), {fitted} fitted; errors are of {result.unit}"
    ]
    said += [] if result.log else [f"  {SIGNED}"]
    said += aligned(("law", "RMSE", "bias", f"in {result.level:.0%}"), map(_tested, result.tested))
    best = result.tested[0]
    if best.law != LAST_VALUE and not best.refused:
        gain = 1 - best.rmse / result[LAST_VALUE].rmse
        said.append(f"{best.law} errs least, {gain:.0%} less than the last value")
    return said + [f"  warning {finding.line}" for finding in result.findings]


def _tested(law: Scored) -> tuple[str, ...]:
    if law.refused:
        return law.law, f"refused: {law.refused}"
    held = "" if law.coverage is None else f"{law.coverage:.0%}"
    return law.law, f"{law.rmse:.4f}", f"{law.bias:+.4f}", held
