"""Fit a law to a table of runs: every start, every bootstrap draw, and the doubts, in one call."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from research.errors import UserError
from research.scaling.doubt import checks, intervals, reach, refits
from research.scaling.doubt.law_checks import law_findings
from research.scaling.doubt.profile import Profile, profile
from research.scaling.doubt.refits import Influence
from research.scaling.doubt.support import require_support
from research.scaling.doubt.table_checks import Finding, table_findings
from research.scaling.engine.objective import HUBER, Objective
from research.scaling.engine.solve import solve
from research.scaling.ladder import Ladder, ladder
from research.scaling.laws import ADDITIVE, CHINCHILLA, SIGNED_LAWS, WITH_FLOOR, WITHOUT_FLOOR, Law
from research.scaling.plan.optimal import FlopsModel, Optimum, flops_model, optimum
from research.scaling.table import Table

# Draws kept in laws.json, for whoever predicts from it.
KEPT_DRAWS = 400
# What laws.json holds of a LawFit as it is.
WRITTEN = (
    *("parameters", "level", "interval_method", "prediction_method", "inflation", "num_tested"),
    *("objective", "num_runs", "num_groups", "convention", "loss_unit", "data_unit", "noise"),
    *("log", "warnings", "refused", "rejected", "gradient_norm", "condition_number"),
    *("share_at_best", "optima", "sensitivity", "source", "part"),
)


@dataclass(frozen=True)
class Rung:
    """A run that would go on as the others did: N, D and C as known, and a new run's loss there."""

    at: dict[str, float]
    loss: float
    low: float
    high: float


@dataclass(frozen=True)
class LawFit:
    """A law fitted to a table, and what may honestly be said about it.

    `parameters` and `intervals` are None when `refused` holds a reason; what the optimiser found
    is then in `rejected`. `draws` [num_draws, P] are bootstrap draws of the published parameters;
    `noise` is the standard deviation about the law of log loss, or of the loss itself where losses
    may be below zero (then `log` is false); `span` the range of each column. Intervals of
    predictions, in log loss, are `inflation` times as wide as the draws have them:
    so wide that they held `num_tested` runs in the table's own backtests (backtest.calibrated), or
    of one variable as `intervals.short` says. `ladder` is what the runs climb, if they do.
    """

    law: Law
    parameters: dict[str, float] | None
    intervals: dict[str, tuple[float, float]] | None
    interval_method: dict[str, str]
    level: float
    objective: float
    criterion: Objective
    gradient_norm: float
    condition_number: float
    share_at_best: float
    optima: list[dict[str, Any]]
    num_runs: int
    num_groups: int
    noise: float
    residuals: np.ndarray
    convention: str
    loss_unit: str
    data_unit: str
    source: str
    part: str | None
    flops_model: FlopsModel
    sensitivity: list[dict[str, float]]
    profiles: dict[str, Profile]
    draws: np.ndarray
    influence: list[Influence]
    span: dict[str, tuple[float, float]]
    findings: list[Finding] = field(default_factory=list)
    refused: str | None = None
    rejected: dict[str, float] | None = None
    log: bool = True
    inflation: float = 1.0
    num_tested: int = 0
    ladder: Ladder | None = None

    @property
    def prediction_method(self) -> str:
        """What the intervals of predictions are."""
        if not self.num_tested:
            wide = f" widened x{self.inflation:.2f}, as {self.num_groups} runs ask"
            return "bootstrap" + (wide if self.inflation > 1 else "")
        return f"bootstrap widened x{self.inflation:.2f} by backtests ({self.num_tested} runs)"

    @property
    def warnings(self) -> list[str]:
        """One line a finding: its check's number and name, and the numbers behind it."""
        return [finding.line for finding in self.findings]

    @property
    def degrees(self) -> float:
        """Degrees of freedom of the percentiles (see doubt/intervals.py)."""
        return intervals.degrees_of_freedom(self.num_groups, len(self.law.parameters))

    def predict(self, *, anyway: bool = False, **variables: Any) -> np.ndarray:
        """Loss of the law at N and D, or C, arrays of one shape [rows] or numbers.

        Raises:
            UserError: the fit was refused; or, without `anyway`, the runs span too little to
                be left over 10 times behind (check 13).
        """
        parameters = self._accepted()
        self._within_reach(variables, anyway)
        return self.law.loss(parameters, **variables)

    def predict_interval(
        self, noise: bool = False, *, anyway: bool = False, **variables: Any
    ) -> np.ndarray:
        """Interval [2, rows] at `level` of the law's loss, or with `noise` of a new run's loss.

        `prediction_method` says how it is made.

        Raises:
            UserError: as `predict`.
        """
        rows = {name: np.atleast_1d(np.asarray(v, float)) for name, v in variables.items()}
        middle = self.predict(anyway=anyway, **rows)
        with np.errstate(all="ignore"):
            drawn = self.law.loss(self.draws, **rows)
        size = len(self.law.parameters)
        spread = intervals.Spread(self.noise, self.num_groups, size, self.log, self.inflation)
        return spread.interval(middle, drawn, self.level, noise)

    def optimal(self, flops: float, *, anyway: bool = False) -> Optimum:
        """The best N and D for `flops`, with intervals (of the laws in ADDITIVE).

        Raises:
            UserError: another law, or as `predict`.
        """
        if self.law.name not in ADDITIVE:
            raise UserError(f"the law {self.law.name!r} has no compute-optimal size")
        point = np.array([self._accepted()[name] for name in self.law.names])
        self._within_reach({"C": flops}, anyway)
        best = optimum(point, flops, self.flops_model)
        with np.errstate(all="ignore"):
            spread = optimum(self.draws, flops, self.flops_model)
        low, high = intervals.percentile(spread, self.level, self.degrees)
        scaled, back = (np.log, np.exp) if self.log else (np.asarray, np.asarray)
        loss = scaled(np.array([low[2], high[2]]))
        low[2], high[2] = back(intervals.widen(loss, scaled(best[2]), self.inflation))
        ends = [(float(a), float(b)) for a, b in zip(low, high, strict=True)]
        return Optimum(
            flops=float(flops),
            params=float(best[0]),
            data=float(best[1]),
            loss=float(best[2]),
            params_interval=ends[0],
            data_interval=ends[1],
            loss_interval=ends[2],
            params_exponent=float(best[3]),
            data_exponent=float(best[4]),
            params_exponent_interval=ends[3],
            data_exponent_interval=ends[4],
        )

    def _within_reach(self, variables: Mapping[str, Any], anyway: bool) -> None:
        wanted = dict(variables)
        if {"N", "D"} <= set(wanted):
            size, data = (np.asarray(wanted[name], float) for name in ("N", "D"))
            wanted["C"] = self.flops_model.flops(size, data)
        refused = reach.refusal(self.span, wanted, self.law.variables)
        if refused and not anyway:
            raise UserError(f"{refused}; anyway=True predicts it nevertheless")

    def _accepted(self) -> Mapping[str, float]:
        if self.parameters is None:
            raise UserError(f"the fit was refused: {self.refused}")
        return self.parameters

    @property
    def rung(self) -> Rung | None:
        """The next rung of the ladder and its loss; None off a ladder, or where it was refused."""
        if self.ladder is None or self.parameters is None:
            return None
        at = dict(self.ladder.next)
        if not set(self.law.variables) <= set(at):
            return None
        variables = {name: at[name] for name in self.law.variables}
        (low,), (high,) = self.predict_interval(noise=True, anyway=True, **variables)
        loss = float(self.predict(anyway=True, **variables))
        return Rung(at, loss, float(low), float(high))

    def to_json(self) -> dict[str, Any]:
        """The content of laws.json, floats in full precision."""
        bounds = self.intervals and {name: list(pair) for name, pair in self.intervals.items()}
        return {
            "law": self.law.name,
            "formula": self.law.formula,
            "paper": self.law.source,
            **{name: getattr(self, name) for name in WRITTEN},
            "intervals": bounds,
            "objective_kind": self.criterion.description,
            "num_draws": len(self.draws),
            "draws": self.draws[:KEPT_DRAWS].tolist(),
            "range": {name: list(ends) for name, ends in self.span.items()},
            "ratio": self.ladder and self.ladder.to_json(),
            "next_rung": None if self.rung is None else asdict(self.rung),
            "flops": asdict(self.flops_model),
            "checks": [finding.to_json() for finding in self.findings],
            "influence": [each.to_json() for each in self.influence],
            "identified": {name: p.identified for name, p in self.profiles.items()},
        }


def fit_law(
    table: Table,
    law: Law = CHINCHILLA,
    *,
    bootstrap: int = 4000,
    level: float = 0.95,
    seed: int = 0,
    objective: Objective = HUBER,
) -> LawFit:
    """Fit `law` to `table`; by default Huber(1e-3) on log loss, summed (Hoffmann 2022, app. D.2).

    Raises:
        UserError: when the table cannot carry the law at all: no more rows than parameters, one N
            or one D only, or a constant loss. Softer failures come back as `refused`.
    """
    require_support(table, law)
    loss, ones, groups = table["L"], np.ones(len(table)), table["group"]
    log = bool((loss > 0).all()) and (objective.log or law.name not in SIGNED_LAWS)
    _refuse_signs(table, law, objective, log)
    found_by = solve(
        law,
        {name: table[name] for name in law.variables},
        loss,
        groups,
        objective=objective,
        bootstrap=bootstrap,
        seed=seed,
    )
    design, best, draws = found_by.design, found_by.best, found_by.draws
    target, limits = objective.target(loss), design.bounds(loss)
    residuals = design.predict(best[None], log)[0] - (np.log(loss) if log else loss)
    num_groups = len(np.unique(groups))
    published = design.to_parameters(best)
    draws_published = design.to_parameters(draws)
    fitted = residuals if objective.log else design.predict(best[None], False)[0] - target
    scale = intervals.huber_scale(fitted, len(best), objective)
    profiles = profile(
        design, loss, published, draws_published, objective=objective, scale=scale, level=level
    )
    degrees = intervals.degrees_of_freedom(num_groups, len(best))
    shown, method = _intervals(law, draws_published, profiles, level, degrees, found_by.method)
    point = dict(zip(law.names, map(float, published), strict=True))
    value, gradient, hessian = design.evaluate(best[None], target, ones, objective)
    held = (best <= limits[0]) | (best >= limits[1])
    if objective.lad:  # a vertex has no gradient; `vertex.polish` has found no way down
        value, held = np.abs(fitted).sum(keepdims=True), np.ones_like(held)
    share, optima = refits.distinct(design, found_by.ends)
    found = checks.Evidence(
        table=table,
        design=design,
        best=best,
        start=found_by.start,
        limits=limits,
        parameters=point,
        residuals=residuals,
        errors=intervals.spread(draws),
        gradient=np.where(held, 0.0, gradient[0]),
        hessian=hessian[0],
        share_at_best=share,
        optima=optima,
        profiles=profiles,
        sensitivity=refits.sensitivity(design, best, loss, limits) if log else [],
        without_outliers=refits.without_outliers(design, best, loss, limits, residuals, objective),
        scale=scale,
        objective=float(value[0]),
        criterion=objective,
        level=level,
        num_groups=num_groups,
        log=log,
    )
    refused = checks.refusal(found)
    of_one = law in (*WITH_FLOOR.values(), *WITHOUT_FLOOR.values())
    return LawFit(
        law=law,
        parameters=None if refused else point,
        intervals=None if refused else shown,
        interval_method=method,
        level=level,
        objective=found.objective,
        criterion=objective,
        gradient_norm=float(np.linalg.norm(found.gradient)),
        condition_number=checks.condition_number(hessian[0]),
        share_at_best=share,
        optima=optima,
        num_runs=len(table),
        num_groups=num_groups,
        noise=intervals.noise_scale(residuals, len(best)),
        residuals=residuals,
        convention=table.convention,
        loss_unit=table.loss_unit,
        data_unit=table.data_unit,
        source=table.source,
        part=table.part,
        flops_model=flops_model(table["N"], table["D"], table["C"]),
        sensitivity=found.sensitivity,
        profiles=profiles,
        draws=draws_published,
        influence=refits.influence(design, best, target, groups, limits, objective, found.errors),
        span=table.span(dict.fromkeys(("N", "D", "C", *law.variables))),
        log=log,
        inflation=intervals.short(num_groups, len(best)) if of_one else 1.0,
        ladder=ladder(table),
        findings=_findings(table, law, found),
        refused=refused,
        rejected=point if refused else None,
    )


def _refuse_signs(table: Table, law: Law, objective: Objective, log: bool) -> None:
    if log:
        return
    low = np.flatnonzero(table["L"] <= 0)
    where = f" in row {table.row_number(int(low[0]))}" if len(low) else ""
    said = f"{table.source}: the loss {table.columns.get('L', 'L')!r} is not positive{where}"
    if objective.log:
        raise UserError(f"{said}; {objective.name} takes its logarithm: give --objective l2")
    if not law.signed:
        own = f"signed_{law.name}"
        raise UserError(
            f"{said}, and the law {law.name!r} is positive; give --law"
            f" {f'{own}, ' if own in SIGNED_LAWS else ''}or another whose floor may be below zero,"
            " such as vocabulary"
        )


def _findings(table: Table, law: Law, found: checks.Evidence) -> list[Finding]:
    every = [*table_findings(table, law), *law_findings(table, law), *checks.fit_findings(found)]
    return sorted(every, key=lambda finding: finding.code)


def _intervals(law, draws, profiles, level, degrees, kind):
    """Bootstrap intervals; where the profile is open they reach as far as it was looked at."""
    ends = intervals.percentile(draws, level, degrees).T
    shown, method = {}, {}
    for name, (low, high) in zip(law.names, ends, strict=True):
        seen = profiles[name]
        method[name] = kind
        if not seen.identified:
            low, high = np.nanmin([low, seen.low]), np.nanmax([high, seen.high])
            method[name] = f"not identified ({seen.open_side}): bootstrap and profile together"
        shown[name] = (float(low), float(high))
    return shown, method
