"""IsoFLOP valleys: the best size at each compute budget, and how it grows with compute.

Three ways: `akima`, the minimum of a spline through each budget's runs (Porian 2024), the default;
`parabola`, the minimum of a parabola through them (Hoffmann 2022, approach 2), which a lopsided
valley misleads; `projection`, one shape for all valleys (projection.py), the steadiest on few runs
but as true as its shape. What the methods disagree about is said.

Minima are weighed by their errors: the runs are redrawn about the shared shape with the noise that
the table shows, and every budget goes through the same method and the same rules for being dropped
as the real one, so that intervals hold what selection does. Measured on 400 planted Chinchilla
surfaces (4 to 8 budgets of 5 to 9 sizes, off centre by half a decade, 0.3 to 3% noise): the 95%
intervals of the exponent cover .951 (akima), .958 (parabola) and .959 (projection), their median
widths being .30, .09 and .08. Few draws (300) lose a hundredth or two of that.
"""

from dataclasses import dataclass, field

import numpy as np

from research.errors import UserError, nearest
from research.scaling.doubt import intervals
from research.scaling.doubt.signs import loss_base
from research.scaling.doubt.support import lacking_column
from research.scaling.doubt.table_checks import Finding
from research.scaling.isoflop import projection, valleys
from research.scaling.isoflop.budgets import (
    BUDGET_SPAN,
    Points,
    budget_rows,
    budgets,
    has_budgets,
    points,
)
from research.scaling.isoflop.minima import (
    FEWEST,
    Line,
    Minima,
    budget_minima,
    log_data,
    power_law,
    projected_minima,
    redraw,
)
from research.scaling.table import Table

__all__ = ["METHODS", "IsoflopFit", "Valley", "budgets", "disagreement", "has_budgets", "isoflop"]

METHODS = ("akima", "parabola", "projection")


@dataclass(frozen=True)
class Valley:
    """One budget: its runs (rows of the table, by size) and the best size, data and loss there.

    `params`, `data` and `loss` are None when the budget was dropped; `why` then says why. `error`
    is the standard error of log params. `parabola` [3] are the coefficients of loss in log N,
    highest power first, for drawing.
    """

    flops: float
    rows: np.ndarray
    params: float | None
    data: float | None
    loss: float | None
    kept: bool
    why: str | None
    parabola: np.ndarray | None
    error: float | None = None


@dataclass(frozen=True)
class IsoflopFit:
    """N_opt = params_coefficient * C^params_exponent, and the same for data, over the kept budgets.

    Exponents are None when `refused` holds a reason. `draws` [num_draws, 2] are the exponents of N
    and of D; `line_draws` [num_draws, 2] slope and intercept of log N_opt on log C; `noise` is the
    standard deviation of log loss at the floor of a valley, or without `log` (losses of zero or
    less) of the loss there; `others` the exponent of N_opt by each
    method that gives one.
    """

    method: str
    valleys: list[Valley]
    params_exponent: float | None
    data_exponent: float | None
    params_interval: tuple[float, float] | None
    data_interval: tuple[float, float] | None
    params_coefficient: float | None
    data_coefficient: float | None
    level: float
    noise: float
    draws: np.ndarray
    line_draws: np.ndarray
    findings: list[Finding]
    refused: str | None
    others: dict[str, float] = field(default_factory=dict)
    log: bool = True

    @property
    def kept(self) -> list[Valley]:
        """The budgets that enter the law."""
        return [valley for valley in self.valleys if valley.kept]

    def to_json(self) -> dict:
        """Exponents, coefficients, intervals and one entry a budget; floats in full precision."""
        return {
            "method": self.method,
            "params_exponent": self.params_exponent,
            "params_interval": self.params_interval and list(self.params_interval),
            "data_exponent": self.data_exponent,
            "data_interval": self.data_interval and list(self.data_interval),
            "coefficients": {"params": self.params_coefficient, "data": self.data_coefficient},
            "level": self.level,
            "noise": self.noise,
            "methods": self.others,
            "optima": [
                {
                    "flops": valley.flops,
                    "params": valley.params,
                    "data": valley.data,
                    "loss": valley.loss,
                    "kept": valley.kept,
                    "why": valley.why,
                    "log_params_error": valley.error,
                    "runs": len(valley.rows),
                }
                for valley in self.valleys
            ],
            "warnings": [finding.line for finding in self.findings],
            "refused": self.refused,
        }


def isoflop(
    table: Table,
    method: str | None = None,
    *,
    bootstrap: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> IsoflopFit:
    """Find the valley of each budget and fit N_opt ~ C^a, D_opt ~ C^b through those kept.

    Without a `method` it is akima, or projection (with a warning) where fewer than 3 budgets hold
    a minimum of their own. Rows of one group share their noise (checkpoints of one run).

    Raises:
        UserError: `method` is none of METHODS.
    """
    if method is not None and method not in METHODS:
        known = ", ".join(METHODS)
        raise UserError(f"--method: no method {method!r}{nearest(method, METHODS)}; one of {known}")
    chosen = method or METHODS[0]
    lacking = lacking_column(table, "NDC", "a valley")
    if lacking:
        return _refusal(table, [], chosen, level, lacking)
    groups = budget_rows(table)
    usable = [rows for rows in groups if np.ptp(np.log(table["C"][rows])) <= BUDGET_SPAN]
    runs = points(table, usable) if usable else None
    reason = "no budget holds runs of equal FLOPs" if runs is None else _hopeless(runs)
    if runs is None or reason:
        return _refusal(table, groups, chosen, level, reason or "")
    shape = projection.fit(runs)
    redraws, notes = redraw(runs, shape, bootstrap, seed)
    found = {name: budget_minima(runs, redraws, name) for name in METHODS[:2]}
    shaped = _valley_shaped(runs)
    if method is None and shaped and (found[chosen].fault[0] == 0).sum() < FEWEST:
        chosen = "projection"
        notes.append(_taken_over(found[METHODS[0]]))
    if chosen == "projection":
        found[chosen] = projected_minima(runs, shape, redraws)
    fitted = [_valley(table, usable, runs, shape, found[chosen], k) for k in range(runs.count)]
    odd = [rows for rows in groups if not any(rows is each for each in usable)]
    fitted += [_odd(table, rows) for rows in odd]
    fitted.sort(key=lambda valley: valley.flops)
    notes = [_dropped(valley) for valley in fitted if valley.why] + notes
    num_kept = int((found[chosen].fault[0] == 0).sum())
    if num_kept < FEWEST or (chosen == "projection" and not shaped):
        reason = f"check 6: {num_kept} of {len(groups)} budgets hold a minimum; it takes {FEWEST}"
        if chosen == "projection":
            reason = (
                "check 6: the losses do not curve upwards in size beyond their noise: no valley"
            )
        noise = shape.noise * runs.noise_unit
        return _refusal(table, groups, chosen, level, reason, fitted, notes, noise)
    lines = {name: power_law(runs, shape, minima) for name, minima in found.items()}
    lines = {name: line for name, line in lines.items() if line is not None}
    slope, offset, spread = lines[chosen]
    others = {name: float(line[0][0]) for name, line in lines.items()}
    others.setdefault("projection", shape.exponent)
    low, high = _interval(slope, spread[:, :2], level)
    notes += _doubts(found, others, chosen, lines)
    draws = slope - spread[:, :2]
    return IsoflopFit(
        method=chosen,
        valleys=fitted,
        params_exponent=float(slope[0]),
        data_exponent=float(slope[1]),
        params_interval=(float(low[0]), float(high[0])),
        data_interval=(float(low[1]), float(high[1])),
        params_coefficient=float(np.exp(offset[0])),
        data_coefficient=float(np.exp(offset[1])),
        level=level,
        noise=shape.noise * runs.noise_unit,
        draws=draws,
        line_draws=np.stack([draws[:, 0], offset[0] - spread[:, 2]], 1),
        findings=notes,
        refused=None,
        others=others,
        log=runs.log,
    )


def _interval(slope: np.ndarray, missed: np.ndarray, level: float) -> np.ndarray:
    """Ends [2, 2] of the slopes of N and D: as far as redraws miss, to their side and to either.

    Where methods lean (minima pressed against the smallest sizes) the first is the longer one.
    """
    either = np.quantile(np.abs(missed), level, axis=0)
    below, above = np.quantile(missed, [0.5 - level / 2, 0.5 + level / 2], axis=0)
    return np.stack([slope - np.maximum(either, above), slope + np.maximum(either, -below)])


def _hopeless(runs: Points) -> str | None:
    """Why not even the shared shape can be fitted, or None."""
    several = np.bincount(runs.index) >= 2
    if several.sum() < FEWEST:
        return f"check 6: {several.sum()} budgets with 2 sizes or more; it takes {FEWEST}"
    spare = len(runs.y) - runs.count - 5
    if spare < 1:
        return f"{len(runs.y)} sizes over {runs.count} budgets: too few runs to see a valley"
    return None


def _valley(table, usable, runs, shape, minima: Minima, k: int) -> Valley:
    rows, own = usable[k], runs.rows(k)
    x, y = runs.x[own], runs.y[own]
    parabola = np.polyfit(x, runs.base + np.exp(y), 2) if len(x) >= 3 else None
    flops, fault = float(np.exp(runs.budgets[k])), int(minima.fault[0, k])
    if fault:
        why = valleys.REASONS[fault].format(sizes=len(x))
        return Valley(flops, rows, None, None, None, False, why, parabola)
    place = minima.place[0, k]
    if minima.method == "projection":
        loss = shape.level[k]
        outside = not x[0] < place < x[-1]
        why = "its minimum is outside its sizes: placed by the other budgets" if outside else None
    else:
        _, level = valleys.minimum(x, y[None], minima.method)
        loss, why = level[0], None
    data = log_data(runs, k, minima.place[:1, k])[0]
    size, data, loss = (float(np.exp(value)) for value in (place, data, loss))
    loss += runs.base
    return Valley(flops, rows, size, data, loss, True, why, parabola, float(minima.error[k]))


def _odd(table: Table, rows: np.ndarray) -> Valley:
    flops = float(np.exp(np.log(table["C"][rows]).mean()))
    why = "its runs differ too much in FLOPs to be one budget"
    return Valley(flops, rows, None, None, None, False, why, None)


def _valley_shaped(runs: Points) -> bool:
    """Whether losses curve upwards, by 2 standard errors: one second derivative for all budgets.

    Least squares, each budget with a level and a slope of its own. Noise that drowns the curvature
    leaves the projection free to put its minima anywhere.
    """
    columns = [(runs.x - runs.x.mean()) ** 2]
    for k in range(runs.count):
        own = runs.index == k
        columns += [own.astype(float), np.where(own, runs.x - runs.x[own].mean(), 0.0)]
    design = np.stack(columns, 1)
    solution = np.linalg.lstsq(design, runs.y, rcond=None)[0]
    spare = max(len(runs.y) - np.linalg.matrix_rank(design), 1)
    variance = np.sum((runs.y - design @ solution) ** 2) / spare
    error = np.sqrt(variance * np.linalg.pinv(design.T @ design)[0, 0])
    return bool(solution[0] > 2 * error)


def _refusal(table, groups, method, level, reason, fitted=None, notes=None, noise=0.0):
    if fitted is None:
        fitted = [_odd(table, rows) for rows in groups]
        fitted = [Valley(**{**each.__dict__, "why": reason}) for each in fitted]
        notes = []
    return IsoflopFit(
        method=method,
        valleys=fitted,
        params_exponent=None,
        data_exponent=None,
        params_interval=None,
        data_interval=None,
        params_coefficient=None,
        data_coefficient=None,
        level=level,
        noise=noise,
        draws=np.zeros((0, 2)),
        line_draws=np.zeros((0, 2)),
        findings=notes or [],
        refused=reason,
        log=loss_base(table["L"]) == 0,
    )


def _dropped(valley: Valley) -> Finding:
    what = "" if valley.kept else " dropped"
    text = f"budget {valley.flops:.3g} FLOPs{what}: {valley.why}"
    return Finding(6, "isoflop", text, {"flops": valley.flops, "runs": len(valley.rows)})


def _taken_over(minima: Minima) -> Finding:
    kept = int((minima.fault[0] == 0).sum())
    text = f"{kept} of {minima.fault.shape[1]} budgets hold a minimum of their own"
    return Finding(6, "isoflop", f"{text}: one shape fitted to all of them (projection)", {})


def _doubts(
    found: dict[str, Minima],
    others: dict[str, float],
    chosen: str,
    lines: dict[str, Line],
) -> list[Finding]:
    """7: methods that disagree; and redraws that mostly lose their budgets to check 6."""
    notes = []
    akima, parabola = found["akima"], found["parabola"]
    both = (akima.fault[0] == 0) & np.isfinite(parabola.place[0])
    gap = np.abs(parabola.place[0] - akima.place[0]) / np.hypot(akima.error, parabola.error)
    told = ", ".join(f"{name} a={value:.4f}" for name, value in others.items())
    error = {name: float(intervals.spread(line[2][:, 0])) for name, line in lines.items()}
    far = {
        name: abs(value - others[chosen]) / max(np.hypot(error[chosen], error.get(name, 0)), 1e-12)
        for name, value in others.items()
    }
    numbers = {"exponents": others, "errors": error, "apart": far}
    lopsided = both.any() and (np.median(gap[both]) > 1 or gap[both].max() > 3)
    if lopsided or far.get("parabola", 0) > 1:
        text = f"lopsided valley: {told}; the parabola follows its flanks, not its floor"
        notes.append(Finding(7, "methods disagree", text, numbers))
    elif max(far.values()) > 1:
        notes.append(Finding(7, "methods disagree", told, numbers))
    share = float(np.mean((found[chosen].fault == 0).sum(1) >= FEWEST))
    if share < 0.5:
        text = f"{FEWEST} budgets survive check 6 in {share:.0%} of redraws: a lucky table"
        notes.append(Finding(6, "isoflop", text, {"share": share}))
    return notes


def disagreement(fit: IsoflopFit, exponent: float, error: float) -> Finding | None:
    """7: the valleys' exponent of N_opt and the law's differ by over one standard error.

    `exponent` and `error` are the law's; the error of the difference holds both.
    """
    if fit.params_exponent is None:
        return None
    both = float(np.hypot(error, intervals.spread(fit.draws)[0]))
    gap = abs(fit.params_exponent - exponent)
    if gap <= both:
        return None
    numbers = {"isoflop": fit.params_exponent, "law": exponent, "error": both}
    text = f"N_opt grows as C^{fit.params_exponent:.3f} by isoFLOP, C^{exponent:.3f} by the law"
    return Finding(
        7, "methods disagree", f"{text}: {gap / both:.1f} standard errors apart", numbers
    )
