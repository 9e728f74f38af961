"""What a fit must survive: support in the table, refusals, and warnings with their numbers.

Numbers are those of the house's list of checks; each is a function of the Evidence a fit leaves.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import scipy

from research.scaling.doubt import intervals
from research.scaling.doubt.profile import Profile
from research.scaling.doubt.table_checks import Finding, found_by
from research.scaling.engine.design import Design
from research.scaling.engine.objective import Objective
from research.scaling.laws import Parameter
from research.scaling.table import OWN_GROUP, Table


@dataclass(frozen=True)
class Evidence:
    """Everything the optimiser saw, in its own coordinates unless said otherwise.

    `residuals` [rows] are of log loss, or without `log` (losses below zero) of the loss itself.
    `best`, `start`, `errors`, `gradient` are [P]; `without_outliers` is (rows, theta without them).
    """

    table: Table
    design: Design
    best: np.ndarray
    start: np.ndarray
    limits: tuple[np.ndarray, np.ndarray]
    parameters: dict[str, float]
    residuals: np.ndarray
    errors: np.ndarray
    gradient: np.ndarray
    hessian: np.ndarray
    share_at_best: float
    optima: list[dict[str, Any]]
    profiles: dict[str, Profile]
    sensitivity: list[dict[str, float]]
    without_outliers: tuple[np.ndarray, np.ndarray]
    scale: float
    objective: float
    criterion: Objective
    level: float
    num_groups: int
    log: bool = True


def refusal(found: Evidence) -> str | None:
    """The reason not to give this fit as an answer and what would mend it, or None."""
    reason, split = _refusal(found), split_losses(found)
    # Two losses in one column are no law: whatever else went wrong follows from that.
    return f"check 20: {split.message} ({reason})" if reason and split else reason


def _refusal(found: Evidence) -> str | None:
    law, table, polish = found.design.law, found.table, _polish(found)
    if table.mixed:
        return f"check 1: rows that may not be mixed: {'; '.join(table.mixed)}; fit one at a time"
    if len(table) < law.minimum_rows:
        have = f"{len(table)} runs for {len(law.parameters)} parameters"
        return f"check 16: {have}; run at least {law.minimum_rows}"
    if np.abs(found.best - found.start).max() < 1e-9:
        return (
            "check 9: the fit is equal to its start; the optimiser did not move:"
            " add runs over a wider range"
        )
    for parameter, side in _at_bounds(found):
        if side != parameter.ends:
            value = f"{parameter.name} = {found.parameters[parameter.name]:.4g}"
            return f"check 9: {value} is at its {side} bound; add runs that vary what it multiplies"
    if polish > 0.1:
        return (
            f"check 8: not converged; one more step would move a parameter by {polish:.2g} errors:"
            " add runs, or take a law of fewer parameters"
        )
    target = found.criterion.target(table["L"])
    constant = float(found.criterion.cost(target - np.median(target)).sum())
    gain = 2 * (constant - found.objective) / found.scale
    if gain < scipy.special.chdtri(len(found.best) - 1, 1 - found.level):
        return (
            "check 12: a constant loss fits as well; the runs differ by no more than their noise:"
            f" run {' and '.join(law.variables)} over a wider range"
        )
    return None


def _at_bounds(found: Evidence) -> list[tuple[Parameter, str]]:
    """Parameters that ended at a bound, and at which: "lower" or "upper"."""
    low, high = found.best <= found.limits[0], found.best >= found.limits[1]
    parameters = enumerate(found.design.law.parameters)
    return [(p, "upper" if high[j] else "lower") for j, p in parameters if low[j] or high[j]]


def _polish(found: Evidence) -> float:
    """Largest move of one full Newton step, in standard errors."""
    held = found.gradient == 0
    hessian = np.where(held[:, None] | held[None], np.eye(len(held)), found.hessian)
    step = np.linalg.lstsq(hessian, found.gradient, rcond=1e-12)[0]
    return float(np.max(np.abs(step) / np.maximum(found.errors, 1e-9)))


def condition_number(hessian: np.ndarray) -> float:
    """Ratio of the extreme curvatures of the objective, in the engine's coordinates."""
    values = np.abs(np.linalg.eigvalsh(hessian))
    return float(values.max() / max(values.min(), 1e-300))


def _exponents(found: Evidence) -> list[tuple[int, str]]:
    """Place and name of each exponent among the law's parameters."""
    parameters = enumerate(found.design.law.parameters)
    return [(j, parameter.name) for j, parameter in parameters if parameter.kind == "exponent"]


def gradient(found: Evidence) -> Finding | None:
    """8: tolerances: a polish step that still moves a parameter by 0.001 standard errors."""
    polish, norm = _polish(found), float(np.linalg.norm(found.gradient))
    if polish <= 1e-3:
        return None
    text = "gradient norm {norm:.2g}; one more step moves a parameter by {errors:.2g} errors"
    return Finding.of(8, "gradient", text, norm=norm, errors=polish)


def limits(found: Evidence) -> list[Finding]:
    """9: parameters that drop out of the law: no irreducible loss E, no diminishing returns."""
    result = []
    for parameter, side in _at_bounds(found):
        if side == parameter.ends:
            name, value = parameter.name, found.parameters[parameter.name]
            kind, text = "at a limit", f"{name} went to its {side} bound ({value:.2g}):"
            text += " these runs do not show its effect"
            if parameter.kind == "floor":
                kind, text = "zero floor", f"{name} fell to its lower bound ({value:.2g}):"
                text += " these runs show no floor"
            result.append(Finding(9, kind, text, {name: value}))
    return result


def starts(found: Evidence) -> Finding | None:
    """10: under half of the starts reach the best objective, or several optima lie within 1%."""
    share, optima = found.share_at_best, len(found.optima)
    if share >= 0.5 and optima == 1:
        return None
    text = "{share:.0%} of the starts reach the best objective"
    text += "; {optima} distinct optima lie within 1% of it" if optima > 1 else ""
    return Finding.of(10, "starts", text, share=share, optima=optima)


def objective_sensitivity(found: Evidence) -> list[Finding]:
    """11: an exponent that moves by over one error with Huber's delta (Epoch: .365 to .406)."""
    result = []
    text = (
        "{name} goes from {range[0]:.4g} to {range[1]:.4g} as Huber's delta goes from 1e-4 to 1e-1"
        " (its standard error is {error:.2g})"
    )
    for j, name in _exponents(found) if found.sensitivity else ():
        values, error = [row[name] for row in found.sensitivity], float(found.errors[j])
        if np.ptp(values) > max(error, 1e-9):
            ends = [min(values), max(values)]
            result.append(Finding.of(11, "objective", text, name=name, range=ends, error=error))
    return result


def identification(found: Evidence) -> list[Finding]:
    """12: parameters whose profile stays open: as far as was looked, other values fit as well."""
    text = "{name} is not identified ({open}): from {low:.4g} to {high:.4g} fits as well"
    return [
        Finding.of(
            12, "not identified", text, name=p.name, low=p.low, high=p.high, open=p.open_side
        )
        for p in found.profiles.values()
        if not p.identified
    ]


def outliers(found: Evidence) -> Finding | None:
    """14: runs beyond 5 robust standard deviations, and where the exponents go without them."""
    rows, theta = found.without_outliers
    if not len(rows):
        return None
    after = dict(
        zip(found.design.law.names, found.design.to_parameters(theta).tolist(), strict=True)
    )
    names = [name for _, name in _exponents(found)]
    moves = ", ".join(f"{name} {found.parameters[name]:.4g} -> {after[name]:.4g}" for name in names)
    numbers = {"rows": [found.table.row_number(int(i)) for i in rows[:50]], "without": after}
    text = f"{len(rows)} runs lie over 5 robust deviations off; without them {moves}"
    return Finding(14, "outliers", text, numbers)


def narrow_interval(found: Evidence) -> list[Finding]:
    """16: few groups to resample, or an interval shorter than the scatter of the runs allows."""
    result, num = [], len(found.best)
    if found.num_groups < 2 * num:
        text = "{groups} groups to resample for {parameters} parameters: intervals are rough"
        numbers = {"groups": found.num_groups, "parameters": num}
        result.append(Finding.of(16, "few runs", text, **numbers))
    slopes = found.design.jacobian(found.best[None], found.log)[0]
    noise = intervals.noise_scale(found.residuals, num)
    linear = noise * np.sqrt(np.abs(np.diag(np.linalg.pinv(slopes.T @ slopes))))
    text = "the bootstrap error of {name}, {bootstrap:.2g}, is under half of the {linear:.2g} that"
    text += f" {len(found.residuals)} runs of this scatter allow"
    for j, name in _exponents(found):
        if noise >= 1e-9 and found.errors[j] < 0.5 * linear[j]:
            numbers = {"bootstrap": float(found.errors[j]), "linear": float(linear[j])}
            result.append(Finding.of(16, "interval too narrow", text, name=name, **numbers))
    return result


def rounded_losses(found: Evidence) -> Finding | None:
    """17: losses written to so few digits that their scatter is their rounding."""
    loss = found.table["L"]
    step, typical = _step(loss), float(np.median(np.abs(loss)))
    scatter = 1.4826 * float(np.median(np.abs(found.residuals))) * (typical if found.log else 1.0)
    if step < 1e-3 * typical or step / np.sqrt(12) < 0.5 * scatter:
        return None
    text = (
        "losses are rounded to {step:g}, as coarse as their scatter about the law ({scatter:.2g})"
    )
    return Finding.of(17, "rounded", f"{text}: export every digit", step=step, scatter=scatter)


def _step(values: np.ndarray) -> float:
    """The largest power of ten, up to 1, that every value is a multiple of; 0 below 1e-6."""
    for places in range(7):
        scaled = values * 10.0**places
        if (np.abs(scaled - np.round(scaled)) <= 1e-9 * np.abs(scaled)).all():
            return 10.0**-places
    return 0.0


def split_losses(found: Evidence) -> Finding | None:
    """20: a column of names that explains the residuals: several kinds of loss in one fit."""
    frame, squares = found.table.frame, pd.Series(found.residuals**2)
    if np.var(found.residuals) < 1e-20:
        return None
    for column in frame.columns:
        values = frame[column]
        told = column == "group" and found.table.checkpoints is not None  # runs, as check 15 says
        if told or values.dtype.kind in "fiub" or not 2 <= values.astype(str).nunique() <= 20:
            continue
        groups = pd.Series(found.residuals).groupby(values.astype(str).to_numpy())
        share = float(np.sum(groups.mean() ** 2 * groups.size()) / squares.sum())
        if share > 0.5 and groups.size().min() >= 3:
            name = "group" if column == OWN_GROUP else str(column)
            text = "column {column!r} explains {share:.0%} of the residuals: is this one loss?"
            text += " --where picks one"
            return Finding.of(20, "one loss", text, column=name, share=share)
    return None


def fit_findings(found: Evidence) -> list[Finding]:
    """Every warning of this file that a fit earns, in the order of the list."""
    checks = (gradient, limits, starts, objective_sensitivity, identification, outliers)
    return found_by((*checks, narrow_interval, rounded_losses, split_losses), found)
