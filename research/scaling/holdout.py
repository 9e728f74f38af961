"""The honest test of a law: leave out the largest budget, fit the rest, predict it."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from research.errors import UserError
from research.scaling.backtest import last_value
from research.scaling.doubt.signs import law_for, objective_for
from research.scaling.doubt.support import place, require_columns
from research.scaling.doubt.table_checks import Finding
from research.scaling.fit import LawFit, fit_law
from research.scaling.frontier import fit_frontier, frontier_rows
from research.scaling.isoflop.fit import budgets, has_budgets
from research.scaling.laws import CHINCHILLA, FRONTIER, Law
from research.scaling.table import Table

# Without isoFLOP groups "the largest budget" is every run within this factor of the largest C.
TOP_FACTOR = 1.8


@dataclass(frozen=True)
class Prediction:
    """One held-out run: what the law said before seeing it, and what was measured.

    `low` and `high` bound a new run's loss at `level` (noise included); `last_value` is the
    baseline that predicts no further progress. Errors are of log loss, or of the loss itself where
    losses may be below zero (then `log` is false).
    """

    id: str
    params: float
    data: float
    flops: float
    measured: float
    predicted: float
    low: float
    high: float
    last_value: float
    log: bool = True

    @property
    def error(self) -> float:
        """log(predicted / measured), about the relative error; or predicted less measured."""
        return self._error(self.predicted)

    @property
    def last_value_error(self) -> float:
        """The same of the last value."""
        return self._error(self.last_value)

    def _error(self, value: float) -> float:
        return float(np.log(value / self.measured)) if self.log else value - self.measured

    @property
    def inside(self) -> bool:
        """Whether the measured loss lies inside the interval."""
        return self.low <= self.measured <= self.high


@dataclass(frozen=True)
class Holdout:
    """A law fitted without the largest budget, and its predictions of that budget's runs.

    `predictions` is empty and `refused` holds the reason when the remaining runs cannot carry the
    law. `findings` holds check 21 when the law does not beat the last value.
    """

    law: str
    fit: LawFit | None
    flops: float
    predictions: list[Prediction]
    findings: list[Finding]
    refused: str | None

    @property
    def mean_error(self) -> float:
        """Mean absolute error over the held-out runs; nan when refused."""
        return _mean([abs(p.error) for p in self.predictions])

    @property
    def last_value_error(self) -> float:
        """The same of the last-value baseline."""
        return _mean([abs(p.last_value_error) for p in self.predictions])

    @property
    def num_inside(self) -> int:
        """How many measured losses lie inside their interval."""
        return sum(p.inside for p in self.predictions)

    def shown(self, error: float, sign: str = "") -> str:
        """An error as people read it: in percent, or of losses below zero in their unit."""
        log = all(p.log for p in self.predictions)
        return f"{error:{sign}.2%}" if log else f"{error:{sign}.4f}"


def _mean(values: list[float]) -> float:
    return float(np.mean(values)) if values else float("nan")


def largest_budget(table: Table) -> np.ndarray:
    """Mask [rows] of the runs at the largest budget (see `budgets`), or of the most compute."""
    if has_budgets(table):
        labels = budgets(table)
        return labels == labels.max()
    return table["C"] >= table["C"].max() / TOP_FACTOR


def holdout(
    table: Table,
    law: Law = CHINCHILLA,
    *,
    bootstrap: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> Holdout:
    """Fit `law` without the largest budget and predict its runs (frontier: its best run).

    A table that holds nothing to predict, or nothing to fit, is `refused` with its reason.
    """
    flops = float(table["C"].max())
    options: dict[str, Any] = {"bootstrap": bootstrap, "level": level, "seed": seed}
    options["objective"] = objective_for(None, table)
    try:
        top, rest = _split(table, law)
        if law.name == FRONTIER.name:
            fit = fit_frontier(rest, law=law_for(law, table), **options)
        else:
            fit = fit_law(rest, law_for(law, table), **options)
    except UserError as error:
        return Holdout(law.name, None, flops, [], [], str(error))
    if fit.refused:
        return Holdout(law.name, fit, flops, [], [], fit.refused)
    flops = float(table["C"][top].max())
    rows = np.flatnonzero(top)
    variables = {name: table[name][rows] for name in law.variables}
    # Measured runs: how far past a narrow range the law is sound is what this finds out.
    predicted = np.atleast_1d(fit.predict(anyway=True, **variables))
    low, high = fit.predict_interval(noise=True, anyway=True, **variables)
    baseline = last_value(rest, table["N"][rows])
    if law.name == FRONTIER.name:
        baseline = np.full(len(rows), rest["L"].min())
    labels = table["id"] if "id" in table.frame else np.arange(1, len(table) + 1)
    predictions = [
        Prediction(
            id=str(labels[row]),
            params=float(table["N"][row]),
            data=float(table["D"][row]),
            flops=float(table["C"][row]),
            measured=float(table["L"][row]),
            predicted=float(predicted[k]),
            low=float(low[k]),
            high=float(high[k]),
            last_value=float(baseline[k]),
            log=fit.log,
        )
        for k, row in enumerate(rows)
    ]
    result = Holdout(law.name, fit, flops, predictions, [], None)
    ours, last = result.mean_error, result.last_value_error
    if ours >= last:
        text = f"on the largest budget {law.name} errs by {result.shown(ours)}, no better than"
        text += f" the last value ({result.shown(last)})"
        found = Finding(21, "last value", text, {"law": ours, "last_value": last})
        return replace(result, findings=[found])
    return result


def _split(table: Table, law: Law) -> tuple[np.ndarray, Table]:
    """Mask [rows] of the runs to predict, and the table without the largest budget.

    Raises:
        UserError: a column is missing, no run is left to fit, or none on the frontier to predict.
    """
    require_columns(table, dict.fromkeys((*law.variables, "C")), "the largest budget")
    top = largest_budget(table)
    if top.all():
        raise UserError(f"{place(table)}: every run has the largest budget; add runs of less FLOPs")
    rest = table.select(~top, "without the largest budget")
    if law.name != FRONTIER.name:
        return top, rest
    # Of the frontier only its far end is predicted; with an envelope that may be several runs.
    best = top & frontier_rows(table)
    if not best.any():
        loss = float(table["L"][top].min())
        raise UserError(
            f"{place(table)}: no run of the largest budget is on the frontier: its best loss,"
            f" {loss:.5g}, was reached with fewer FLOPs"
        )
    return best & (table["C"] == table["C"][best].max()), rest
