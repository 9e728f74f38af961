"""Everything a sweep's last table and its report say about a run folder, part by part."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from research.errors import UserError
from research.scaling.doubt.intervals import spread
from research.scaling.doubt.signs import law_for, objective_for
from research.scaling.doubt.table_checks import Finding
from research.scaling.fit import LawFit, fit_law
from research.scaling.frontier import fit_frontier
from research.scaling.holdout import Holdout, holdout
from research.scaling.isoflop.fit import IsoflopFit, disagreement, isoflop
from research.scaling.ladder import ladder
from research.scaling.laws import ADDITIVE, CHINCHILLA, FRONTIER, WITH_FLOOR, WITHOUT_FLOOR, Law
from research.scaling.plan.optimal import optimum
from research.scaling.table import Table


@dataclass(frozen=True)
class PartSummary:
    """One part's laws. A fit that could not be tried at all is None, with its reason in `refused`.

    `frontier` is a law of compute, or of size or data where compute is not known (see
    `of_one_variable`). `chinchilla` and `frontier` use every run; `held_out` and
    `frontier_held_out` all but the largest budget, which they predict. `findings` gathers every
    warning once.
    """

    table: Table
    chinchilla: LawFit | None
    frontier: LawFit | None
    isoflop: IsoflopFit
    held_out: Holdout
    frontier_held_out: Holdout
    findings: list[Finding]
    refused: dict[str, str]


def summarise(
    table: Table, *, bootstrap: int = 2000, level: float = 0.95, seed: int = 0
) -> PartSummary:
    """Fit every law to `table` and predict its largest budget; what it cannot carry is `refused`.

    Raises:
        UserError: a few losses of zero or less that look mistaken.
    """
    options: dict[str, Any] = {"bootstrap": bootstrap, "level": level, "seed": seed}
    objective = objective_for(None, table)
    refused: dict[str, str] = {}

    def tried(name: str, fit: Callable[..., LawFit], *law: Law) -> LawFit | None:
        try:
            found = fit(table, *law, objective=objective, **options)
        except UserError as error:
            refused[name] = str(error)
            return None
        if found.refused:
            refused[name] = found.refused
        return found

    both = tried("chinchilla", fit_law, law_for(CHINCHILLA, table))
    frontier = tried("frontier", of_one_variable)
    valleys = isoflop(table, **options)
    if valleys.refused:
        refused["isoflop"] = valleys.refused
    ahead, frontier_ahead = (holdout(table, law, **options) for law in (CHINCHILLA, FRONTIER))
    methods = compare_methods(both, valleys)
    findings = (both.findings if both else []) + valleys.findings + ([methods] if methods else [])
    findings = findings + ahead.findings + frontier_ahead.findings
    findings.sort(key=lambda finding: finding.code)
    return PartSummary(
        table, both, frontier, valleys, ahead, frontier_ahead, findings, refused=refused
    )


def of_one_variable(table: Table, **options) -> LawFit:
    """The frontier of `table`; without FLOPs the same law of its sizes, or else of its data.

    A ladder too short for a floor is fitted without one.

    Raises:
        UserError: too few rows for either, or none of N, D and C is known.
    """
    variable = next(iter(table.known("CND")), "C")
    try:
        if variable == "C":
            return fit_frontier(table, **options)
        return fit_law(table, WITH_FLOOR[variable], **options)
    except UserError:
        if ladder(table) is None or len(table) >= WITH_FLOOR[variable].minimum_rows:
            raise
        return fit_law(table, WITHOUT_FLOOR[variable], **options)


def compare_methods(fit: LawFit | None, valleys: IsoflopFit) -> Finding | None:
    """Check 7: does the law's exponent of N_opt agree with the valleys'? None where it does."""
    if fit is None or fit.parameters is None or fit.law.name not in ADDITIVE:
        return None
    exponent = fit.optimal(1.0, anyway=True).params_exponent
    error = spread(optimum(fit.draws, 1.0, fit.flops_model)[:, 3])
    return disagreement(valleys, exponent, float(error))
