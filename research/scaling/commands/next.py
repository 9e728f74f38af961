"""`python -m research next`: which runs to make next for the runs you want to predict."""

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from research.errors import UserError
from research.scaling.commands.answer import add_answer_options, aligned, answer, predictions
from research.scaling.commands.options import (
    add_column_options,
    at_least,
    column_pairs,
    read_rows,
)
from research.scaling.doubt.signs import SIGNED, odd_signs
from research.scaling.next.runs import NextRuns, next_runs
from research.scaling.table.cells import as_numbers, blank
from research.scaling.table.columns import finite_numbers, named_column, positive_numbers
from research.scaling.table.expression import evaluate
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
    add("--seed", type=at_least("--seed", 0), default=0, help="of the fits' starts")
    add_answer_options(parser, "write the target with prediction, low and high, as CSV")


def run(args: argparse.Namespace) -> int:
    """Choose, predict, print, and write --out; returns 0, also when runs have to be made first.

    Raises:
        UserError: arguments or tables that cannot be used; nothing is written then.
    """
    if not args.loss:
        raise UserError(f"--loss: name the column of {args.pool} that holds it")
    options = _variables(args)
    numbers = {option: column for option, column in options.values()}
    pool = read_rows(args.pool, args.where, {**numbers, "--cost": args.cost})
    target = read_rows(args.target, args.where, numbers, added=MADE if args.out else ())
    candidates, wanted = (
        {
            name: positive_numbers(frame, option, column, path)
            for name, (option, column) in options.items()
        }
        for frame, path in ((pool, args.pool), (target, args.target))
    )
    result = next_runs(
        candidates,
        _cost(pool, args.cost, args.pool),
        losses_of(pool, args.loss, args.pool),
        wanted,
        budget=args.budget,
        law=args.law,
        level=args.level,
        seed=args.seed,
    )
    labels, text = pool.index.to_numpy() + 1, None
    content = {
        **result.to_json(),
        "rows": labels[result.rows].tolist(),
        "waiting": labels[result.waiting].tolist(),
        "target_rows": (target.index + 1).tolist(),
        "scores": scores(target, args.loss, result),
        "warnings": _checkpoints(pool, candidates),
    }
    if result.prediction is None:
        args.out = None  # there is nothing to write yet
    else:
        made = dict(zip(MADE, (result.prediction, result.low, result.high), strict=True))
        text = target.assign(**made).to_csv(index=False)
    said = [*_chosen(candidates, result, content), *_predicted(wanted, result, content, args.out)]
    answer(args, content, [*said, *(f"warning {line}" for line in content["warnings"])], text)
    return 0


def _variables(args: argparse.Namespace) -> dict[str, tuple[str, str]]:
    """Variable -> (option, column)."""
    given = {"N": ("--params", args.params), "D": ("--data", args.data)}
    given["U"] = ("--unique", args.unique)
    given |= {name: (f"--column {name}", column) for name, column in column_pairs(args).items()}
    found = {name: (option, column) for name, (option, column) in given.items() if column}
    if not found:
        raise UserError("--params, --data or --column: name at least one variable of the law")
    return found


def _cost(frame: pd.DataFrame, cost: str, source: str) -> np.ndarray:
    """Cost [rows]: a column, or an expression of columns."""
    if cost not in frame and cost.isidentifier():
        named_column(frame, "--cost", cost, source)
    if cost not in frame:
        frame = pd.DataFrame({cost: evaluate(frame, cost, "--cost", source)}, frame.index)
    return positive_numbers(frame, "--cost", cost, source)


def losses_of(frame: pd.DataFrame, column: str, source: str) -> Callable[[int], float]:
    """The losses of a pool, read cell by cell; empty cells are runs to be made."""
    values = named_column(frame, "--loss", column, source)
    numbers, _ = as_numbers(values, frame.attrs.get("decimal", ""))
    empty = blank(values)
    cells = pd.DataFrame({column: numbers.where(numbers.notna(), values)})
    seen: dict[int, float] = {}

    def read(row: int) -> float:
        if empty.iloc[row]:
            return float("nan")
        seen[row] = float(finite_numbers(cells.iloc[[row]], "--loss", column, source)[0])
        if odd_signs(np.array(list(seen.values()))).any():
            low = min(seen, key=lambda row: seen[row])
            raise UserError(
                f"{source}: column {column!r} is not positive in row {values.index[low] + 1}"
                f" ({seen[low]}), and far below the others: leave it empty where there is none"
            )
        return seen[row]

    return read


def _checkpoints(pool: pd.DataFrame, columns: dict[str, np.ndarray]) -> list[str]:
    """Check 15: rows of the pool that look like checkpoints of a few runs, by their N and D alone.

    Losses are read only where they are paid for, and are taken to fall.
    """
    if not {"N", "D"} <= set(columns):
        return []
    series = series_of(pool.assign(N=columns["N"], D=columns["D"], L=1 / columns["D"]))
    if series is None:
        return []
    return [
        f"[15 checkpoints] {len(pool)} rows of the pool look like checkpoints of"
        f" {len(set(series[0]))} runs: each is priced and trusted as a run of its own, and the"
        " intervals are too narrow; keep one row a run, by --where"
    ]


def scores(target: pd.DataFrame, loss: str, result: NextRuns) -> dict[str, Any] | None:
    """R2, RMSE and coverage where the target has losses: measured after predicting."""
    if result.prediction is None or loss not in target:
        return None
    measured = pd.to_numeric(target[loss], errors="coerce").to_numpy(float)
    known = np.isfinite(measured)
    if known.sum() < 2:
        return None
    rows = np.array([measured, result.prediction, result.low, result.high])[:, known]
    measured, predicted, low, high = rows
    squares, spread = np.sum((measured - predicted) ** 2), np.sum((measured - measured.mean()) ** 2)
    return {
        "r2": float(1 - squares / spread) if spread else None,
        "rmse": float(np.sqrt(squares / len(measured))),
        "inside": float(np.mean((low <= measured) & (measured <= high))),
        "num_rows": len(measured),
    }


def _chosen(candidates: dict[str, np.ndarray], result: NextRuns, content: dict) -> list[str]:
    """The rows of the pool that were chosen, in order, and which of them have to be run."""
    rows = [
        (
            str(k + 1),
            str(label),
            *(f"{float(values[row]):.6g}" for values in candidates.values()),
            f"{result.costs[k]:.6g}",
            f"{result.shares[k]:.3%}",
            "to run" if row in result.waiting else "",
        )
        for k, (row, label) in enumerate(zip(result.rows, content["rows"], strict=True))
    ]
    said = aligned(("", "row", *candidates, "cost", "share so far", ""), rows)
    if not result.waiting:
        return said
    one = len(result.waiting) == 1
    how = "it, fill it" if one else "them, fill them"
    return [
        *said,
        f"row{'' if one else 's'} {', '.join(map(str, content['waiting']))}"
        f" {'was' if one else 'were'} chosen and {'has' if one else 'have'} no loss:"
        f" run {how} in, and run the command again",
    ]


def _predicted(target, result: NextRuns, content: dict, out: str | None) -> list[str]:
    """The laws, the predictions where they are not written to `out`, and their scores."""
    if result.prediction is None:
        return []
    shares = {name: share for name, share in result.weights.items() if share > 0.005}
    laws = ", ".join(f"{name} {share:.0%}" for name, share in shares.items())
    kind = "log loss" if result.log else "loss"
    said = [f"laws: {laws}; noise of {kind} {result.noise:.2g}", *([] if result.log else [SIGNED])]
    if not out:
        columns = {**target, "prediction": result.prediction}
        ends = (result.low, result.high)
        said += predictions(content["target_rows"], columns, ends, result.level)
    found = content["scores"]
    if found:
        r2 = "R2 undefined (one value)" if found["r2"] is None else f"R2 {found['r2']:.3f}"
        said.append(
            f"target ({found['num_rows']} losses, read after predicting): {r2},"
            f" RMSE {found['rmse']:.4g}, {found['inside']:.0%} in the {result.level:.0%} interval"
        )
    return said
