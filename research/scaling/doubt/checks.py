"""What a fit must survive: support in the table, refusals, and warnings with their numbers.

Numbers are those of the house's list of checks; each is a function of the Evidence a fit leaves.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy

from research.scaling.doubt import intervals, rounding
from research.scaling.doubt.profile import Profile
from research.scaling.doubt.table_checks import Finding, found_by
from research.scaling.engine.design import Design
from research.scaling.engine.objective import Objective
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
    law, table = found.design.law, found.table
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
    bound = _at_bound(found)
    if bound:
        return f"check 9: {bound}; add runs that vary what it multiplies"
    polish = _polish(found)
    if polish > 0.1:
        return (
            f"check 8: not converged; one more step would move a parameter by {polish:.2g} errors:"
            " add runs, or take a law of fewer parameters"
        )
    if _gain_over_constant(found) < scipy.special.chdtri(len(found.best) - 1, 1 - found.level):
        return (
            "check 12: a constant loss fits as well; the runs differ by no more than their noise:"
            f" run {' and '.join(law.variables)} over a wider range"
        )
    return None


def _at_bound(found: Evidence) -> str | None:
    low, high = found.limits
    for j, parameter in enumerate(found.design.law.parameters):
        side = "upper" if found.best[j] >= high[j] else "lower" if found.best[j] <= low[j] else ""
        if side and side != parameter.ends:
            value = found.parameters[parameter.name]
            return f"{parameter.name} = {value:.4g} is at its {side} bound"
    return None


def _polish(found: Evidence) -> float:
    """Largest move of one full Newton step, in standard errors."""
    held = found.gradient == 0
    hessian = np.where(held[:, None] | held[None], np.eye(len(held)), found.hessian)
    step = np.linalg.lstsq(hessian, found.gradient, rcond=1e-12)[0]
    return float(np.max(np.abs(step) / np.maximum(found.errors, 1e-9)))


def _gain_over_constant(found: Evidence) -> float:
    target = found.criterion.target(found.table["L"])
    constant = found.criterion.cost(target - np.median(target)).sum()
    return 2 * (float(constant) - found.objective) / found.scale


def condition_number(hessian: np.ndarray) -> float:
    """Ratio of the extreme curvatures of the objective, in the engine's coordinates."""
    values = np.abs(np.linalg.eigvalsh(hessian))
    return float(values.max() / max(values.min(), 1e-300))


def gradient(found: Evidence) -> Finding | None:
    """8: tolerances: a polish step that still moves a parameter by 0.001 standard errors."""
    polish = _polish(found)
    if polish <= 1e-3:
        return None
    norm = float(np.linalg.norm(found.gradient))
    text = f"gradient norm {norm:.2g}; one more step moves a parameter by {polish:.2g} errors"
    return Finding(8, "gradient", text, {"norm": norm, "errors": polish})


def limits(found: Evidence) -> list[Finding]:
    """9: parameters that drop out of the law: no irreducible loss E, no diminishing returns."""
    result, (low, high) = [], found.limits
    for j, parameter in enumerate(found.design.law.parameters):
        at = {"lower": found.best[j] <= low[j], "upper": found.best[j] >= high[j], "": False}
        if not at[parameter.ends]:
            continue
        value = found.parameters[parameter.name]
        text = f"{parameter.name} went to its {parameter.ends} bound ({value:.2g}):"
        text += " these runs do not show its effect"
        if parameter.kind == "floor":
            text = f"{parameter.name} fell to its lower bound ({value:.2g}):"
            text += " these runs show no floor"
        name = "zero floor" if parameter.kind == "floor" else "at a limit"
        result.append(Finding(9, name, text, {parameter.name: value}))
    return result


def starts(found: Evidence) -> Finding | None:
    """10: under half of the starts reach the best objective, or several optima lie within 1%."""
    if found.share_at_best >= 0.5 and len(found.optima) == 1:
        return None
    text = f"{found.share_at_best:.0%} of the starts reach the best objective"
    if len(found.optima) > 1:
        text += f"; {len(found.optima)} distinct optima lie within 1% of it"
    numbers = {"share": found.share_at_best, "optima": len(found.optima)}
    return Finding(10, "starts", text, numbers)


def objective_sensitivity(found: Evidence) -> list[Finding]:
    """11: an exponent that moves by over one error with Huber's delta (Epoch: .365 to .406)."""
    result = []
    if not found.sensitivity:
        return result
    for j, parameter in enumerate(found.design.law.parameters):
        values = [row[parameter.name] for row in found.sensitivity]
        low, high = min(values), max(values)
        if parameter.kind != "exponent" or high - low <= max(found.errors[j], 1e-9):
            continue
        numbers = {"name": parameter.name, "range": [low, high], "error": float(found.errors[j])}
        text = f"{parameter.name} goes from {low:.4g} to {high:.4g} as Huber's delta goes from"
        text += f" 1e-4 to 1e-1 (its standard error is {found.errors[j]:.2g})"
        result.append(Finding(11, "objective", text, numbers))
    return result


def identification(found: Evidence) -> list[Finding]:
    """12: parameters whose profile stays open: as far as was looked, other values fit as well."""
    result = []
    for name, seen in found.profiles.items():
        if seen.identified:
            continue
        numbers = {"name": name, "low": seen.low, "high": seen.high, "open": seen.open_side}
        text = f"{name} is not identified ({seen.open_side}):"
        text += f" from {seen.low:.4g} to {seen.high:.4g} fits as well"
        result.append(Finding(12, "not identified", text, numbers))
    return result


def outliers(found: Evidence) -> Finding | None:
    """14: runs beyond 5 robust standard deviations, and where the exponents go without them."""
    rows, theta = found.without_outliers
    if not len(rows):
        return None
    after = found.design.to_parameters(theta)
    moves = []
    for j, parameter in enumerate(found.design.law.parameters):
        if parameter.kind == "exponent":
            before = found.parameters[parameter.name]
            moves.append(f"{parameter.name} {before:.4g} -> {after[j]:.4g}")
    numbers = {
        "rows": [found.table.row_number(int(i)) for i in rows[:50]],
        "without": dict(zip(found.design.law.names, map(float, after), strict=True)),
    }
    text = f"{len(rows)} runs lie over 5 robust deviations off; without them {', '.join(moves)}"
    return Finding(14, "outliers", text, numbers)


def rounded_losses(found: Evidence) -> Finding | None:
    """17: losses written to so few digits that their scatter is their rounding."""
    loss = found.table["L"]
    step, typical = rounding.step(loss), float(np.median(np.abs(loss)))
    scatter = 1.4826 * float(np.median(np.abs(found.residuals))) * (typical if found.log else 1.0)
    if step < 1e-3 * typical or step / np.sqrt(12) < 0.5 * scatter:
        return None
    text = f"losses are rounded to {step:g}, as coarse as their scatter about the law"
    numbers = {"step": step, "scatter": scatter}
    return Finding(17, "rounded", f"{text} ({scatter:.2g}): export every digit", numbers)


def split_losses(found: Evidence) -> Finding | None:
    """20: a column of names that explains the residuals: several kinds of loss in one fit."""
    frame, total = found.table.frame, float(np.var(found.residuals))
    for column in frame.columns:
        values = frame[column]
        told = column == "group" and found.table.checkpoints is not None  # runs, as check 15 says
        if told or values.dtype.kind in "fiub" or total < 1e-20:
            continue
        values = values.astype(str)
        if not 2 <= values.nunique() <= 20:
            continue
        groups = [found.residuals[values == value] for value in values.unique()]
        means, counts = [group.mean() for group in groups], [len(group) for group in groups]
        explained = float(np.average(np.square(means), weights=counts))
        share = explained / float(np.mean(found.residuals**2))
        if share > 0.5 and min(counts) >= 3:
            name = "group" if column == OWN_GROUP else str(column)
            numbers = {"column": name, "share": share}
            text = f"column {name!r} explains {share:.0%} of the residuals: is this one loss?"
            return Finding(20, "one loss", f"{text} --where picks one", numbers)
    return None


def narrow_interval(found: Evidence) -> list[Finding]:
    """16: few groups to resample, or an interval shorter than the scatter of the runs allows."""
    result = []
    num = len(found.best)
    if found.num_groups < 2 * num:
        numbers = {"groups": found.num_groups, "parameters": num}
        text = f"{found.num_groups} groups to resample for {num} parameters: intervals are rough"
        result.append(Finding(16, "few runs", text, numbers))
    slopes = found.design.jacobian(found.best[None], found.log)[0]
    noise = intervals.noise_scale(found.residuals, num)
    linear = noise * np.sqrt(np.abs(np.diag(np.linalg.pinv(slopes.T @ slopes))))
    for j, parameter in enumerate(found.design.law.parameters):
        if parameter.kind != "exponent" or noise < 1e-9 or found.errors[j] >= 0.5 * linear[j]:
            continue
        numbers = {
            "name": parameter.name,
            "bootstrap": float(found.errors[j]),
            "linear": float(linear[j]),
        }
        text = (
            f"the bootstrap error of {parameter.name}, {found.errors[j]:.2g}, is under half of the"
        )
        text += f" {linear[j]:.2g} that {len(found.residuals)} runs of this scatter allow"
        result.append(Finding(16, "interval too narrow", text, numbers))
    return result


def fit_findings(found: Evidence) -> list[Finding]:
    """Every warning of this file that a fit earns, in the order of the list."""
    checks = (gradient, limits, starts, objective_sensitivity, identification, outliers)
    return found_by((*checks, narrow_interval, rounded_losses, split_losses), found)
