"""`python -m research next`: which runs to make next for the runs you want to predict."""

import argparse
from typing import Any

import numpy as np
import pandas as pd

from research.errors import UserError
from research.run.record import write_text
from research.scaling.commands.answer import add_answer_options, answer, prediction_lines
from research.scaling.commands.options import add_column_options, column_pairs, say
from research.scaling.doubt.signs import SIGNED, odd_signs
from research.scaling.next.runs import Losses, NextRuns, next_runs
from research.scaling.table import asked, read_frame
from research.scaling.table.cells import as_numbers, blank, remedy
from research.scaling.table.columns import (
    evaluated,
    named_column,
    positive_numbers,
)
from research.scaling.table.series import series_of

EXAMPLE = """examples:
  python -m research next --pool pool.csv --params N --data D --loss L --cost "6*N*D" \\
      --target target.csv --budget 0.1 --out predictions.csv
  python -m research next --pool pool.csv --params N --column experts=num_experts --loss L \\
      --cost gpu_hours --target target.csv

--loss is read only in rows that are chosen; --where takes rows of both tables. Leave a loss empty
where a run has not been made: the command then lists the runs to make next. Fill them in and run it
again; when the budget is spent it predicts the target.
"""
MADE = ("prediction", "low", "high")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `next`."""
    add = parser.add_argument
    add(
        "--pool",
        metavar="TABLE",
        required=True,
        help="runs that could be made (CSV, JSON lines, Parquet)",
    )
    add("--target", metavar="TABLE", required=True, help="runs to predict; needs no loss")
    add_column_options(parser)
    add("--cost", metavar="COLUMN", required=True, help='a column, or an expression: "6*N*D"')
    add("--law", default="auto", help="auto averages every law that reads these variables")
    add("--budget", type=float, default=0.1, help="share of the whole pool's cost (default 0.1)")
    add("--level", type=float, default=0.9, help="of the intervals")
    add("--seed", type=int, default=0, help="of the fits' starts")
    add_answer_options(parser, "write the target with prediction, low and high, as CSV")


def run(args: argparse.Namespace) -> int:
    """Choose, predict, print, and write --out; returns 0, also when runs have to be made first.

    Raises:
        UserError: arguments or tables that cannot be used; nothing is written then.
    """
    if not args.loss:
        raise UserError(f"--loss: name the column of {args.pool} that holds it")
    if args.seed < 0:
        raise UserError(f"--seed {args.seed}: expected 0 or more")
    options = _variables(args)
    numbers = {option: column for option, column in options.values()}
    cost = {**numbers, "--cost": args.cost}
    pool = _read(args.pool, cost, args.where)
    target = _read(args.target, numbers, args.where)
    for name in MADE:
        if args.out and name in target:
            raise UserError(f"{args.target}: has a column {name!r} already; rename it")
    columns = [
        {
            name: positive_numbers(frame, option, column, path)
            for name, (option, column) in options.items()
        }
        for frame, path in ((pool, args.pool), (target, args.target))
    ]
    result = next_runs(
        columns[0],
        _cost(pool, args.cost, args.pool),
        losses_of(pool, args.loss, args.pool),
        columns[1],
        budget=args.budget,
        law=args.law,
        level=args.level,
        seed=args.seed,
    )
    content = {**result.to_json(), "rows": _labels(pool, result.rows)}
    content["waiting"] = _labels(pool, result.waiting)
    content["target_rows"] = _labels(target, list(range(len(target))))
    content["scores"] = scores(target, args.loss, result)
    content["warnings"] = _checkpoints(pool, columns[0])
    if result.prediction is not None and args.out:
        made = zip(MADE, (result.prediction, result.low, result.high), strict=True)
        write_text(args.out, target.assign(**dict(made)).to_csv(index=False))
    answer(
        args,
        content,
        lines(pool, options, columns[1], result, content, args.out),
        written=result.prediction is not None,
    )
    return 0


def _checkpoints(pool: pd.DataFrame, columns: dict[str, np.ndarray]) -> list[str]:
    """Check 15: rows of the pool that look like checkpoints of a few runs, by their N and D alone.

    Losses are read only where they are paid for, and are taken to fall.
    """
    if not {"N", "D"} <= set(columns):
        return []
    frame = pool.assign(N=columns["N"], D=columns["D"], L=1 / columns["D"])
    series = series_of(frame)
    if series is None:
        return []
    return [
        f"[15 checkpoints] {len(pool)} rows of the pool look like checkpoints of"
        f" {len(set(series[0]))} runs: each is priced and trusted as a run of its own, and the"
        " intervals are too narrow; keep one row a run, by --where"
    ]


def _variables(args: argparse.Namespace) -> dict[str, tuple[str, str]]:
    """Variable -> (option, column)."""
    given = {"N": ("--params", args.params), "D": ("--data", args.data)}
    given["U"] = ("--unique", args.unique)
    found = {name: (option, column) for name, (option, column) in given.items() if column}
    for name, column in column_pairs(args.column).items():
        found[name] = (f"--column {name}", column)
    if not found:
        raise UserError("--params, --data or --column: name at least one variable of the law")
    return found


def _read(path: str, numbers: dict[str, str], where: str | None) -> pd.DataFrame:
    frame, notes = asked(read_frame(path), numbers, path, where=where)
    say(notes)
    return frame


def _cost(frame: pd.DataFrame, cost: str, source: str) -> np.ndarray:
    """Cost [rows]: a column, or an expression of columns."""
    if cost in frame:
        return positive_numbers(frame, "--cost", cost, source)
    if cost.isidentifier():
        named_column(frame, "--cost", cost, source)
    value = evaluated(frame, cost, "--cost", source)
    if np.isscalar(value):
        value = pd.Series(value, index=frame.index)  # every run costs the same
    if not isinstance(value, pd.Series):
        raise UserError(f"--cost: {cost!r} is not one number for each row")
    return positive_numbers(pd.DataFrame({cost: value}), "--cost", cost, source)


def losses_of(frame: pd.DataFrame, column: str, source: str) -> Losses:
    """The losses of a pool, read cell by cell; empty cells are runs to be made."""
    values = named_column(frame, "--loss", column, source)
    numbers, _ = as_numbers(values, frame.attrs.get("decimal", ""))
    empty = blank(values)
    seen: dict[int, float] = {}

    def read(row: int) -> float:
        if empty.iloc[row]:
            return float("nan")
        value = float(numbers.iloc[row])
        if np.isnan(value):
            label, cell = values.index[row] + 1, str(values.iloc[row])
            raise UserError(
                f"{source}: column {column!r} is not a number in row {label} ({cell!r})"
                f"{remedy(cell)}"
            )
        seen[row] = value
        if np.isinf(value):
            label = values.index[row] + 1
            raise UserError(f"{source}: column {column!r} is infinite in row {label}")
        if odd_signs(np.array(list(seen.values()))).any():
            low = min(seen, key=lambda row: seen[row])
            raise UserError(
                f"{source}: column {column!r} is not positive in row {values.index[low] + 1}"
                f" ({seen[low]}), and far below the others: leave it empty where there is none"
            )
        return value

    return Losses(read)


def scores(target: pd.DataFrame, loss: str, result: NextRuns) -> dict[str, Any] | None:
    """R2, RMSE and coverage where the target has losses: measured after predicting."""
    if result.prediction is None or loss not in target:
        return None
    measured = pd.to_numeric(target[loss], errors="coerce").to_numpy(float)
    known = np.isfinite(measured)
    if known.sum() < 2:
        return None
    measured = measured[known]
    predicted, low, high = (
        np.array(value)[known] for value in (result.prediction, result.low, result.high)
    )
    spread = float(((measured - measured.mean()) ** 2).sum())
    errors = float(((measured - predicted) ** 2).sum())
    return {
        "r2": 1 - errors / spread if spread else None,
        "rmse": float(np.sqrt(errors / len(measured))),
        "inside": float(np.mean((low <= measured) & (measured <= high))),
        "num_rows": len(measured),
    }


def _labels(frame: pd.DataFrame, rows: list[int]) -> list[int]:
    """Row numbers of the file, from 1."""
    return [int(frame.index[row]) + 1 for row in rows]


def lines(pool, options, target, result: NextRuns, content: dict[str, Any], out) -> list[str]:
    """What was chosen in order, the laws, the predictions and the scores, as text."""
    warnings = [f"warning {line}" for line in content["warnings"]]
    shown = {name: pool[column].to_numpy() for name, (_, column) in options.items()}
    head = " ".join(f"{name:>12}" for name in shown)
    text = [f"{'':>4} {'row':>6} {head} {'cost':>12} {'share so far':>13}"]
    for k, (row, label) in enumerate(zip(result.rows, content["rows"], strict=True)):
        values = " ".join(f"{float(value[row]):>12.6g}" for value in shown.values())
        mark = "   to run" if row in result.waiting else ""
        paid = f"{result.costs[k]:>12.6g} {result.shares[k]:>13.3%}"
        text.append(f"{k + 1:>4} {label:>6} {values} {paid}{mark}")
    if result.waiting:
        one = len(result.waiting) == 1
        numbers = ", ".join(map(str, content["waiting"]))
        text.append(
            f"row{'' if one else 's'} {numbers} {'was' if one else 'were'} chosen and "
            f"{'has' if one else 'have'} no loss: run {'it, fill it' if one else 'them, fill them'}"
            " in, and run the command again"
        )
        return text + warnings
    laws = ", ".join(
        f"{name} {share:.0%}" for name, share in result.weights.items() if share > 0.005
    )
    kind = "log loss" if result.log else "loss"
    text.append(f"laws: {laws}; noise of {kind} {result.noise:.2g}")
    text += [] if result.log else [SIGNED]
    if not out:
        text += prediction_lines(
            content["target_rows"],
            target,
            ("prediction", result.prediction),
            (result.low, result.high),
            result.level,
        )
    found = content["scores"]
    if found:
        r2 = "R2 undefined (one value)" if found["r2"] is None else f"R2 {found['r2']:.3f}"
        text.append(
            f"target ({found['num_rows']} losses, read after predicting): {r2},"
            f" RMSE {found['rmse']:.4g}, {found['inside']:.0%} in the {result.level:.0%} interval"
        )
    return text + warnings
