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

from dataclasses import dataclass, field, replace

import numpy as np

from research.errors import UserError, nearest
from research.scaling.doubt import intervals
from research.scaling.doubt.signs import loss_base
from research.scaling.doubt.support import lacking_column
from research.scaling.doubt.table_checks import Finding
from research.scaling.isoflop import projection
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
    REASONS,
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

    A dropped budget has none of the three, and `why` says the reason. `error` is the standard error
    of log params. `parabola` [3] are the coefficients of loss in log N, highest power first, for
    drawing.
    """

    flops: float
    rows: np.ndarray
    why: str | None = None
    params: float | None = None
    data: float | None = None
    loss: float | None = None
    error: float | None = None
    parabola: np.ndarray | None = None

    @property
    def kept(self) -> bool:
        """Whether it enters the law."""
        return self.params is not None

    def to_json(self) -> dict:
        """What is said of it, floats in full precision."""
        shown = {name: getattr(self, name) for name in ("flops", "params", "data", "loss", "why")}
        more = {"kept": self.kept, "log_params_error": self.error, "runs": len(self.rows)}
        return {**shown, **more}


@dataclass(frozen=True)
class IsoflopFit:
    """N_opt = params_coefficient * C^params_exponent, and the same for data, over the kept budgets.

    Exponents are None when `refused` holds a reason. `draws` [num_draws, 3] are the exponents of N
    and of D and log params_coefficient; `noise` is the standard deviation of log loss at the floor
    of a valley, or without `log` (losses of zero or less) of the loss there; `methods` the exponent
    of N_opt by each method that gives one.
    """

    method: str
    level: float
    log: bool
    valleys: list[Valley]
    findings: list[Finding] = field(default_factory=list)
    refused: str | None = None
    noise: float = 0.0
    params_exponent: float | None = None
    data_exponent: float | None = None
    params_interval: tuple[float, float] | None = None
    data_interval: tuple[float, float] | None = None
    params_coefficient: float | None = None
    data_coefficient: float | None = None
    draws: np.ndarray = field(default_factory=lambda: np.zeros((0, 3)))
    methods: dict[str, float] = field(default_factory=dict)

    @property
    def kept(self) -> list[Valley]:
        """The budgets that enter the law."""
        return [valley for valley in self.valleys if valley.kept]

    def to_json(self) -> dict:
        """Exponents, coefficients, intervals and one entry a budget; floats in full precision."""
        names = ("method", "level", "noise", "methods", "refused")
        names += ("params_exponent", "params_interval", "data_exponent", "data_interval")
        return {
            **{name: getattr(self, name) for name in names},
            "coefficients": {"params": self.params_coefficient, "data": self.data_coefficient},
            "optima": [valley.to_json() for valley in self.valleys],
            "warnings": [finding.line for finding in self.findings],
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
    fit = IsoflopFit(method or METHODS[0], level, loss_base(table["L"]) == 0, [])
    lacking = lacking_column(table, "NDC", "a valley")
    if lacking:
        return replace(fit, refused=lacking)
    groups = budget_rows(table)
    narrow = [np.ptp(np.log(table["C"][rows])) <= BUDGET_SPAN for rows in groups]
    usable = [rows for rows, one in zip(groups, narrow, strict=True) if one]
    odd = [rows for rows, one in zip(groups, narrow, strict=True) if not one]
    runs = points(table, usable) if usable else None
    reason = "no budget holds runs of equal FLOPs" if runs is None else _hopeless(runs)
    if runs is None or reason:
        return replace(fit, refused=reason, valleys=_dropped(table, groups, reason))
    shape = projection.fit(runs)
    redraws, notes = redraw(runs, shape, bootstrap, seed)
    found = {name: budget_minima(runs, redraws, name) for name in METHODS[:2]}
    shaped, chosen = _valley_shaped(runs), fit.method
    if method is None and shaped and found[chosen].num_kept < FEWEST:
        text = f"{found[chosen].num_kept} of {runs.count} budgets hold a minimum of their own"
        notes.append(Finding(6, "isoflop", f"{text}: one shape fitted to all of them (projection)"))
        chosen = "projection"
    if chosen == "projection":
        found[chosen] = projected_minima(runs, shape, redraws)
    minima = found[chosen]
    fitted = [_valley(rows, runs, minima, k) for k, rows in enumerate(usable)]
    fitted += _dropped(table, odd, "its runs differ too much in FLOPs to be one budget")
    fitted.sort(key=lambda valley: valley.flops)
    notes = [_note(valley) for valley in fitted if valley.why] + notes
    noise = shape.noise * runs.noise_unit
    fit = replace(fit, method=chosen, valleys=fitted, findings=notes, noise=noise)
    if chosen == "projection" and not shaped:
        reason = "the losses do not curve upwards in size beyond their noise: no valley"
        return replace(fit, refused=f"check 6: {reason}")
    if minima.num_kept < FEWEST:
        reason = f"{minima.num_kept} of {len(groups)} budgets hold a minimum; it takes {FEWEST}"
        return replace(fit, refused=f"check 6: {reason}")
    return _with_law(fit, runs, shape, found)


def _with_law(
    fit: IsoflopFit, runs: Points, shape: projection.Projection, found: dict[str, Minima]
) -> IsoflopFit:
    """`fit` with the power law through the minima of its method, and what others say of it."""
    lines = {name: power_law(runs, shape, each) for name, each in found.items()}
    lines = {name: line for name, line in lines.items() if line is not None}
    slope, offset, missed = lines[fit.method]
    methods = {name: float(line[0][0]) for name, line in lines.items()}
    methods.setdefault("projection", shape.exponent)
    (size_low, data_low), (size_high, data_high) = _interval(slope, missed[:, :2], fit.level)
    return replace(
        fit,
        findings=fit.findings + _doubts(found, methods, fit.method, lines),
        params_exponent=float(slope[0]),
        data_exponent=float(slope[1]),
        params_interval=(float(size_low), float(size_high)),
        data_interval=(float(data_low), float(data_high)),
        params_coefficient=float(np.exp(offset[0])),
        data_coefficient=float(np.exp(offset[1])),
        draws=np.append(slope, offset[0]) - missed,
        methods=methods,
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


def _valley(rows: np.ndarray, runs: Points, minima: Minima, k: int) -> Valley:
    """The budget `k`, whose runs are `rows` of the table, as its minimum is or is not there."""
    own = runs.rows(k)
    x, y = runs.x[own], runs.y[own]
    parabola = np.polyfit(x, runs.base + np.exp(y), 2) if len(x) >= 3 else None
    valley = Valley(float(np.exp(runs.budgets[k])), rows, parabola=parabola)
    if minima.fault[0, k]:
        why = REASONS[int(minima.fault[0, k])].format(sizes=len(x))
        return replace(valley, why=why)
    place = minima.place[:1, k]
    outside = not x[0] < place < x[-1]
    return replace(
        valley,
        params=float(np.exp(place[0])),
        data=float(np.exp(log_data(runs, k, place)[0])),
        loss=runs.base + float(np.exp(minima.level[k])),
        error=float(minima.error[k]),
        why="its minimum is outside its sizes: placed by the other budgets" if outside else None,
    )


def _dropped(table: Table, groups: list[np.ndarray], why: str | None) -> list[Valley]:
    """Budgets that were not even looked at."""
    return [Valley(float(np.exp(np.log(table["C"][rows]).mean())), rows, why) for rows in groups]


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


def _note(valley: Valley) -> Finding:
    what = "" if valley.kept else " dropped"
    text = f"budget {valley.flops:.3g} FLOPs{what}: {valley.why}"
    return Finding(6, "isoflop", text, {"flops": valley.flops, "runs": len(valley.rows)})


def _doubts(
    found: dict[str, Minima], methods: dict[str, float], chosen: str, lines: dict[str, Line]
) -> list[Finding]:
    """7: methods that disagree; and redraws that mostly lose their budgets to check 6."""
    notes = []
    akima, parabola = found["akima"], found["parabola"]
    both = (akima.fault[0] == 0) & np.isfinite(parabola.place[0])
    gap = np.abs(parabola.place[0] - akima.place[0]) / np.hypot(akima.error, parabola.error)
    error = {name: float(intervals.spread(line[2][:, 0])) for name, line in lines.items()}
    far = {
        name: abs(value - methods[chosen]) / max(np.hypot(error[chosen], error.get(name, 0)), 1e-12)
        for name, value in methods.items()
    }
    lopsided = both.any() and (np.median(gap[both]) > 1 or gap[both].max() > 3)
    lopsided = lopsided or far.get("parabola", 0) > 1
    if lopsided or max(far.values()) > 1:
        text = ", ".join(f"{name} a={value:.4f}" for name, value in methods.items())
        if lopsided:
            text = f"lopsided valley: {text}; the parabola follows its flanks, not its floor"
        numbers = {"exponents": methods, "errors": error, "apart": far}
        notes.append(Finding(7, "methods disagree", text, numbers))
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
