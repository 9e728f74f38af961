"""Losses of a recipe's seeds against the record's, and the table that keeps both and failures."""

import csv
import dataclasses
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import scipy.stats

from research.errors import UserError
from research.golf.contest import Contest, name_of
from research.run import files

RECORD, FAILURE = "record", "failure"


@dataclass(frozen=True)
class Row:
    """A recipe at a budget, as the table has it: `losses` in full precision, blanks between."""

    date: str
    revision: str  # "+": no commit has the code
    recipe: str
    digest: str
    data: str
    budget: float
    n: int
    mean: float
    sd: float
    losses: str
    flops: int
    params: int
    active: int
    lookup: int
    seconds: float
    against: str = ""
    p_value: str = ""
    verdict: str = ""
    why: str = ""

    @property
    def values(self) -> list[float]:
        return [float(word) for word in self.losses.split()]


COLUMNS = tuple(field.name for field in dataclasses.fields(Row))


def row(contest: Contest, about: dict[str, str], budget: float, runs: Sequence[Path]) -> Row:
    """What the finished runs of a recipe's seeds at a budget say, not yet judged.

    Args:
        about: the columns that say which recipe and code it was.
    """
    found: list[Any] = [files.read_result(run) for run in runs]
    losses = [files.loss(each) if each["status"] == "finished" else math.nan for each in found]
    params = found[0]["params"]
    return Row(
        **about,
        data=contest.fingerprint[:12],
        budget=budget,
        n=len(losses),
        mean=round(float(np.mean(losses)), 5),
        sd=round(float(np.std(losses, ddof=1)), 5),
        losses=" ".join(map(repr, losses)),
        flops=round(found[0]["flops"]),
        params=params["total"],
        active=params["active"],
        lookup=params.get("lookup", 0),
        seconds=round(sum(each.get("seconds") or 0.0 for each in found) / len(found), 1),
    )


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
    """The row with its last columns, which say what it comes to against the record.

    Each budget is tested at `contest.level` over the number of budgets (Bonferroni), so that a
    recipe no better than the record takes one at any of them with at most that probability. What
    no commit has cannot be run by others, and is no record.
    """
    if lost := sum(not math.isfinite(loss) for loss in row.values):
        why = f"{lost} of {row.n} runs diverged"
        return dataclasses.replace(row, verdict=FAILURE, why=why)
    won, why = True, "the first row of its budget"
    if record:
        p = p_value(row.values, record.values, contest.margin)
        level = contest.level / len(contest.budgets)
        won, gain = p < level, float(np.mean(record.values) - np.mean(row.values))
        why = f"{abs(gain):.4f} {'below' if gain > 0 else 'above'} the record's mean; "
        why += f"margin {contest.margin:g}, p {'<' if won else '>='} {level:.2g}"
        against = f"{record.recipe} {record.digest}"
        row = dataclasses.replace(row, against=against, p_value=f"{p:.2g}")
    if won and row.revision.endswith("+"):
        won, why = False, f"{why}; no record, for no commit has this code"
    return dataclasses.replace(row, verdict=RECORD if won else FAILURE, why=why)


def lines(rows: Sequence[Row], header: bool) -> str:
    """CSV of rows."""
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    if header:
        writer.writeheader()
    for each in rows:
        writer.writerow({**dataclasses.asdict(each), "budget": name_of(each.budget)})
    return out.getvalue()


def read(contest: Contest, path: str) -> list[Row]:
    """The rows of a table.

    Raises:
        UserError: when it cannot be read, or a row of it is not one of this contest.
    """
    found = []
    try:
        with open(path, newline="") as file:
            for cells in (reader := csv.DictReader(file)):
                found.append(_row(contest, cells, f"--record {path}:{reader.line_num}"))
    except (ValueError, OSError, csv.Error) as error:
        raise UserError(f"--record {path}: {getattr(error, 'strerror', None) or error}") from error
    return found


def _row(contest: Contest, cells: dict, where: str) -> Row:
    try:
        row = msgspec.convert(cells, Row, strict=False)
        losses = row.values
    except ValueError as error:
        raise UserError(f"{where}: {error}; expected {','.join(COLUMNS)}") from error
    if row.data != contest.fingerprint[:12] or row.budget not in contest.budgets:
        raise UserError(
            f"{where}: a row of another contest, data {row.data} at {row.budget:g} FLOPs; this one "
            f"is of {contest.fingerprint[:12]}"
        )
    if row.verdict not in (RECORD, FAILURE):
        raise UserError(f"{where}: verdict {row.verdict!r} is neither {RECORD} nor {FAILURE}")
    if len(losses) < 2 or row.verdict == RECORD and not all(map(math.isfinite, losses)):
        raise UserError(f"{where}: losses {row.losses!r}: expected two numbers or more")
    return row


def records(rows: Sequence[Row]) -> dict[float, Row]:
    """The record of each budget: the lowest mean of a row that was one."""
    best = sorted((each for each in rows if each.verdict == RECORD), key=lambda row: -row.mean)
    return {each.budget: each for each in best}
