"""Losses of a recipe's seeds against the record's, and the table that keeps both and failures."""

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy.stats

from research.errors import UserError
from research.golf.contest import Contest, name_of
from research.run import files

COLUMNS = (
    "date", "revision", "recipe", "digest", "data", "budget", "n", "mean", "sd", "losses", "flops",
    "params", "active", "lookup", "seconds", "against", "p_value", "verdict", "why",
)  # fmt: skip
RECORD, FAILURE = "record", "failure"

Row = dict[str, Any]


def p_value(losses: Sequence[float], record: Sequence[float], margin: float) -> float:
    """Of the hypothesis that the mean of `losses` is not below that of `record` less `margin`.

    One-sided, by Welch's t over seeds: two recipes need not spread alike.
    """
    below = np.asarray(record, float) - margin
    if np.ptp(losses) == np.ptp(below) == 0:  # no spread: t is infinite
        return float(np.mean(losses) >= np.mean(below))
    found = scipy.stats.ttest_ind(losses, below, equal_var=False, alternative="less")
    return float(found.pvalue)


def judge(contest: Contest, row: Row, record: Row | None) -> Row:
    """What a row and the record it is held against come to: its last columns.

    Each budget is tested at `contest.level` over the number of budgets (Bonferroni), so that a
    recipe no better than the record takes one at any of them with at most that probability.
    """
    losses = row["losses"]
    if not all(map(math.isfinite, losses)):
        lost = sum(not math.isfinite(loss) for loss in losses)
        return {"verdict": FAILURE, "why": f"{lost} of {len(losses)} runs diverged"}
    if record is None:
        return {"verdict": RECORD, "why": "the first row of its budget"}
    p = p_value(losses, record["losses"], contest.margin)
    level = contest.level / len(contest.budgets)
    found = {"against": f"{record['recipe']} {record['digest']}", "p_value": f"{p:.2g}"}
    gain = record["mean"] - row["mean"]
    said = f"{abs(gain):.4f} {'below' if gain > 0 else 'above'} the record's mean"
    told = f"{said}; margin {contest.margin:g}, p {'<' if p < level else '>='} {level:.2g}"
    return {**found, "verdict": RECORD if p < level else FAILURE, "why": told}


def row(contest: Contest, about: Row, budget: float, runs: Sequence[Path]) -> Row:
    """What the finished runs of a recipe's seeds at a budget say.

    Args:
        about: the columns that say which recipe and code it was.
    """
    found = [files.read_result(run) for run in runs]
    losses = [_loss(each) for each in found]
    first: Any = found[0]
    return {
        **about,
        "data": contest.fingerprint[:12],
        "budget": budget,
        "n": len(losses),
        "mean": float(np.mean(losses)),
        "sd": float(np.std(losses, ddof=1)) if len(losses) > 1 else 0.0,
        "losses": losses,
        "flops": first["flops"],
        "params": first["params"]["total"],
        "active": first["params"]["active"],
        "lookup": first["params"].get("lookup", 0),
        "seconds": sum(each.get("seconds") or 0.0 for each in found) / len(found),
    }


def _loss(result: Any) -> float:
    value = (result.get("score") or {}).get("value")
    return float(value) if result["status"] == "finished" and value is not None else math.nan


def text(row: Row) -> list[str]:
    """The cells of a row in the order of COLUMNS; losses in full precision, one after another."""
    written = {**row, "budget": name_of(row["budget"]), "flops": f"{row['flops']:.6g}"}
    written["losses"] = " ".join(map(repr, row["losses"]))
    written |= {key: f"{row[key]:.5f}" for key in ("mean", "sd")}
    written["seconds"] = f"{row['seconds']:.1f}"
    return [str(written.get(column, "")) for column in COLUMNS]


def lines(rows: Sequence[Row], header: bool) -> str:
    """CSV of rows."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerows([COLUMNS] if header else [])
    writer.writerows(text(row) for row in rows)
    return out.getvalue()


def records(contest: Contest, path: str, asked: bool) -> dict[float, Row]:
    """The record of each budget in a table of rows: the lowest mean of a row that was one.

    Args:
        asked: whether the user named the table; else there need not be one yet.

    Raises:
        UserError: when the table cannot be read, or a row of it is not one of this contest.
    """
    if not Path(path).is_file():
        if asked:
            raise UserError(f"--record {path}: no such file")
        return {}
    try:
        frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (ValueError, OSError) as error:
        raise UserError(f"--record {path}: {error}") from error
    if missing := [column for column in COLUMNS if column not in frame]:
        raise UserError(f"--record {path}: no column {missing[0]!r}; expected {','.join(COLUMNS)}")
    best: dict[float, Row] = {}
    for number, cells in enumerate(frame.to_dict("records"), start=2):
        found = _parsed(cells, f"--record {path}:{number}")
        if found["data"] != contest.fingerprint[:12] or found["budget"] not in contest.budgets:
            raise UserError(
                f"--record {path}:{number}: a row of another contest, data {found['data']} at "
                f"{found['budget']:g} FLOPs; this one is of {contest.fingerprint[:12]}"
            )
        former = best.get(found["budget"])
        if found["verdict"] == RECORD and not (former and former["mean"] <= found["mean"]):
            best[found["budget"]] = found
    return best


def _parsed(cells: dict[Any, str], where: str) -> Row:
    try:
        losses = [float(word) for word in cells["losses"].split()]
        row = {**cells, "losses": losses, "budget": float(cells["budget"])}
    except ValueError as error:
        raise UserError(f"{where}: {error}") from error
    if cells["verdict"] not in (RECORD, FAILURE):
        raise UserError(f"{where}: verdict {cells['verdict']!r} is neither {RECORD} nor {FAILURE}")
    if len(losses) < 2 or cells["verdict"] == RECORD and not all(map(math.isfinite, losses)):
        raise UserError(f"{where}: losses {cells['losses']!r}: expected two numbers or more")
    return {**row, "mean": float(np.mean(losses))}
