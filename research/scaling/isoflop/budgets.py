"""IsoFLOP budgets: which runs belong to one, and the points (one a size) that they give."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from research.scaling.doubt.signs import loss_base
from research.scaling.table import Table

# Gaps in log C no larger than this never part two budgets, larger than the second always do.
SAME_BUDGET = 0.1
OTHER_BUDGET = 0.4
# Runs further apart than this in log C are not one budget, however many lie between them.
BUDGET_SPAN = 0.4


@dataclass(frozen=True)
class Points:
    """Every (budget, size) of a table, by budget and then size: arrays [P].

    `index` numbers the budget, 0 to count - 1, `x` is log N, `y` the log of loss less `base` (mean
    over seeds, moved to its budget's compute), `log_data` log D, `repeats` how many runs that
    differ it stands for, `group` what shares its noise.
    """

    index: np.ndarray
    log_flops: np.ndarray
    x: np.ndarray
    y: np.ndarray
    log_data: np.ndarray
    repeats: np.ndarray
    group: np.ndarray
    base: float = 0.0

    @property
    def log(self) -> bool:
        """Whether `y` is log loss itself: every loss is positive."""
        return self.base == 0

    @property
    def noise_unit(self) -> float:
        """What a unit of `y` is: 1 of log loss, or as much loss where losses may be below zero."""
        return 1.0 if self.log else float(np.exp(np.median(self.y)))

    @property
    def count(self) -> int:
        """Number of budgets."""
        return int(self.index.max()) + 1

    @property
    def budgets(self) -> np.ndarray:
        """Log C of each budget [B]."""
        return np.bincount(self.index, self.log_flops) / np.bincount(self.index)

    def rows(self, budget: int) -> np.ndarray:
        """Where the points of a budget are, by size."""
        return np.flatnonzero(self.index == budget)


def budgets(table: Table) -> np.ndarray:
    """Label [rows] of each row's budget: the nominal one where the table has it, else by C.

    Without a `budget` column rows are sorted by C and cut at the gaps that stand out: budgets that
    were only nearly hit stay whole. The label is then the geometric mean of the cluster's FLOPs.
    C must be known (see Table.known); no rows have no labels.
    """
    if not len(table):
        return np.zeros(0)
    if "budget" in table.frame and pd.api.types.is_numeric_dtype(table.frame["budget"]):
        nominal = table["budget"].astype(float)
        if np.isfinite(nominal).all():
            return _rounded(nominal)
    order = np.argsort(table["C"], kind="stable")
    log_flops = np.log(table["C"][order])
    cluster = np.concatenate([[0], np.cumsum(np.diff(log_flops) > _cut(np.diff(log_flops)))])
    means = np.bincount(cluster, log_flops) / np.bincount(cluster)
    labels = np.empty(len(order))
    labels[order] = np.exp(means[cluster])
    return labels


def _rounded(nominal: np.ndarray) -> np.ndarray:
    """Nominal budgets [rows] that differ in their last digits only made one, its smallest value."""
    values = np.unique(nominal)
    new = np.concatenate([[True], np.diff(values) > 1e-6 * np.abs(values[1:])])
    first = values[np.flatnonzero(new)]
    return first[np.searchsorted(first, nominal, side="right") - 1]


def _cut(gaps: np.ndarray) -> float:
    """The gap above which rows sorted by C part: where sorted gaps take their largest leap."""
    between = np.sort(gaps[(gaps > SAME_BUDGET) & (gaps < OTHER_BUDGET)])
    edges = np.concatenate([[SAME_BUDGET], between, [OTHER_BUDGET]])
    leap = int(np.argmax(np.diff(np.log(edges))))
    return float(np.sqrt(edges[leap] * edges[leap + 1])) if len(between) else SAME_BUDGET


def has_budgets(table: Table) -> bool:
    """Whether the runs come in isoFLOP groups: 3 or more budgets, most with 3 runs, each narrow."""
    if not len(table) or not {"N", "C"} <= set(table.known(("N", "C"))):
        return False
    labels = budgets(table)
    values, counts = np.unique(labels, return_counts=True)
    spans = [np.ptp(np.log(table["C"][labels == value])) for value in values]
    return bool(len(values) >= 3 and np.median(counts) >= 3 and max(spans) <= BUDGET_SPAN)


def budget_rows(table: Table) -> list[np.ndarray]:
    """Rows of each budget, smallest budget first, each by size."""
    labels = budgets(table)
    groups = [np.flatnonzero(labels == value) for value in np.unique(labels)]
    groups.sort(key=lambda rows: np.log(table["C"][rows]).mean())
    return [rows[np.argsort(table["N"][rows], kind="stable")] for rows in groups]


def points(table: Table, groups: list[np.ndarray]) -> Points:
    """One point a size of each of these budgets: seeds are averaged, copies of a row count once.

    Runs that missed their budget are moved to it along the slope of the lowest losses against C.
    """
    base = loss_base(table["L"])
    logs = np.log(table["L"] - base)
    rows, sizes = np.concatenate(groups), [len(each) for each in groups]
    log_flops = np.repeat([np.log(table["C"][each]).mean() for each in groups], sizes)
    missed = np.log(table["C"][rows]) - log_flops
    runs = pd.DataFrame(
        {
            "index": np.repeat(np.arange(len(groups)), sizes),
            "x": np.log(table["N"][rows]),
            "log_flops": log_flops,
            "loss": table["L"][rows],
            "y": logs[rows] - _drift(table, groups, logs) * missed,
            "log_data": np.log(table["D"][rows]) - missed,
            "group": table["group"][rows],
        }
    )
    each = runs.drop_duplicates(["index", "x", "loss"]).groupby(["index", "x"])
    found = each[["log_flops", "y", "log_data"]].mean()
    found["repeats"] = each.size().astype(float)
    own = [f"seeds {budget} {x}" for budget, x in found.index]
    found["group"] = each["group"].first().where(each["group"].nunique() == 1, own)
    return Points(
        **{str(name): each.to_numpy() for name, each in found.reset_index().items()}, base=base
    )


def _drift(table: Table, groups: list[np.ndarray], logs: np.ndarray) -> float:
    """Power of C by which the lowest loss of a budget falls; 0 when budgets were met exactly."""
    log_flops = [np.log(table["C"][rows]) for rows in groups]
    if max(np.ptp(each) for each in log_flops) < 1e-6 or len(groups) < 2:
        return 0.0
    lowest = [logs[rows].min() for rows in groups]
    return float(np.polyfit([each.mean() for each in log_flops], lowest, 1)[0])
