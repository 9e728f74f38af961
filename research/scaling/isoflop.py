"""IsoFLOP valleys: the best size at each compute budget, and how it grows with compute.

Hoffmann 2022, approach 2: a parabola of loss in log N through the runs of one budget. Porian 2024:
the argmin of an Akima spline, which follows a lopsided valley but also its noise. Both are fitted;
a budget whose runs do not surround its minimum is dropped, and the reason kept.
"""

from dataclasses import dataclass

import numpy as np
from scipy.interpolate import Akima1DInterpolator

from research.errors import UserError
from research.scaling import intervals
from research.scaling.table import Table
from research.scaling.table_checks import Finding

METHODS = ("parabola", "akima")
# Budgets closer than this in log C are one budget when the table does not name them.
SAME_BUDGET = 0.1
# Runs further apart than this in log C are not one budget, however many lie between them.
BUDGET_SPAN = 0.4


@dataclass(frozen=True)
class Valley:
    """One budget: its runs (rows of the table, by size) and the best size, data and loss there.

    `params`, `data` and `loss` are None when the budget was dropped; `why` then says why.
    `parabola` [3] are the coefficients of loss in log N, highest power first, for drawing.
    """

    flops: float
    rows: np.ndarray
    params: float | None
    data: float | None
    loss: float | None
    kept: bool
    why: str | None
    parabola: np.ndarray | None


@dataclass(frozen=True)
class IsoflopFit:
    """N_opt = params_coefficient * C^params_exponent, and the same for data, over the kept budgets.

    Exponents are None when `refused` holds a reason. `draws` [num_draws, 2] are the exponents of N
    and of D; `line_draws` [num_draws, 2] slope and intercept of log N_opt on log C.
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

    @property
    def kept(self) -> list[Valley]:
        """The budgets that enter the law."""
        return [valley for valley in self.valleys if valley.kept]

    def to_json(self) -> dict:
        """Exponents, coefficients, intervals and one entry a budget; floats in full precision."""
        pair = {"params": self.params_coefficient, "data": self.data_coefficient}
        return {
            "method": self.method,
            "params_exponent": self.params_exponent,
            "params_interval": self.params_interval and list(self.params_interval),
            "data_exponent": self.data_exponent,
            "data_interval": self.data_interval and list(self.data_interval),
            "coefficients": pair,
            "level": self.level,
            "optima": [
                {
                    "flops": valley.flops,
                    "params": valley.params,
                    "data": valley.data,
                    "loss": valley.loss,
                    "kept": valley.kept,
                    "why": valley.why,
                }
                for valley in self.valleys
            ],
            "warnings": [finding.line for finding in self.findings],
            "refused": self.refused,
        }


def budgets(table: Table) -> np.ndarray:
    """Label [rows] of each row's budget: the nominal one where the table has it, else by C.

    Without a `budget` column rows are sorted by C and cut wherever the gap exceeds 10%; the label
    is then the geometric mean of the cluster's FLOPs.
    """
    if "budget" in table.frame:
        nominal = table["budget"].astype(float)
        if np.isfinite(nominal).all():
            return nominal
    order = np.argsort(table["C"], kind="stable")
    log_flops = np.log(table["C"][order])
    cluster = np.concatenate([[0], np.cumsum(np.diff(log_flops) > SAME_BUDGET)])
    means = np.bincount(cluster, log_flops) / np.bincount(cluster)
    labels = np.empty(len(order))
    labels[order] = np.exp(means[cluster])
    return labels


def has_budgets(table: Table) -> bool:
    """Whether the runs come in isoFLOP groups: 3 or more budgets, most with 3 runs, each narrow."""
    labels = budgets(table)
    values, counts = np.unique(labels, return_counts=True)
    spans = [np.ptp(np.log(table["C"][labels == value])) for value in values]
    return bool(len(values) >= 3 and np.median(counts) >= 3 and max(spans) <= BUDGET_SPAN)


def isoflop(
    table: Table,
    method: str = "parabola",
    *,
    bootstrap: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> IsoflopFit:
    """Find the valley of each budget and fit N_opt ~ C^a, D_opt ~ C^b through those kept.

    Intervals come from draws that add the noise measured about the parabolas to every loss and
    weigh the budgets anew (Bayesian bootstrap), expanded for the number of budgets.

    Raises:
        UserError: `method` is not "parabola" or "akima".
    """
    if method not in METHODS:
        raise UserError(f"isoflop method {method!r}: expected one of {', '.join(METHODS)}")
    labels = budgets(table)
    groups = [np.flatnonzero(labels == value) for value in np.unique(labels)]
    groups = [rows[np.argsort(table["N"][rows], kind="stable")] for rows in groups]
    valleys = [_valley(table, rows, method) for rows in groups]
    kept = [valley for valley in valleys if valley.kept]
    findings = [_dropped(valley) for valley in valleys if not valley.kept]
    noise = _noise(table, kept)
    common = {"method": method, "valleys": valleys, "level": level, "noise": noise}
    if len(kept) < 3:
        nothing = dict.fromkeys(
            ("params_exponent", "data_exponent", "params_interval", "data_interval")
        )
        return IsoflopFit(
            **common,
            **nothing,
            params_coefficient=None,
            data_coefficient=None,
            draws=np.zeros((0, 2)),
            line_draws=np.zeros((0, 2)),
            findings=findings,
            refused=f"check 6: {len(kept)} of {len(valleys)} budgets hold a minimum; it takes 3",
        )
    flops = np.log([valley.flops for valley in kept])
    point = np.log(np.array([[valley.params, valley.data] for valley in kept], float))
    slope, offset = _line(flops, point.T, np.ones((1, len(kept))))
    draws = _draws(table, kept, method, noise, bootstrap, seed)
    weights = intervals.bootstrap_weights(np.arange(len(kept)), bootstrap, seed + 1)
    slopes, offsets = _line(flops, draws, weights)
    low, high = intervals.percentile(slopes.T, level, len(kept) - 2)
    return IsoflopFit(
        **common,
        params_exponent=float(slope[0, 0]),
        data_exponent=float(slope[1, 0]),
        params_interval=(float(low[0]), float(high[0])),
        data_interval=(float(low[1]), float(high[1])),
        params_coefficient=float(np.exp(offset[0, 0])),
        data_coefficient=float(np.exp(offset[1, 0])),
        draws=slopes.T,
        line_draws=np.stack([slopes[0], offsets[0]], 1),
        findings=findings,
        refused=None,
    )


def _valley(table: Table, rows: np.ndarray, method: str) -> Valley:
    flops = float(np.exp(np.log(table["C"][rows]).mean()))
    x, y = _by_size(table, rows)

    def dropped(why: str, parabola: np.ndarray | None = None) -> Valley:
        return Valley(flops, rows, None, None, None, False, why, parabola)

    if np.ptp(np.log(table["C"][rows])) > BUDGET_SPAN:
        return dropped("its runs differ too much in FLOPs to be one budget")
    if len(x) < 3:
        return dropped(f"{len(x)} sizes; a minimum takes 3 or more")
    parabola = np.polyfit(x, y, 2)
    lowest = int(np.argmin(y))
    if lowest in (0, len(x) - 1):
        side = "smallest" if lowest == 0 else "largest"
        return dropped(f"the minimum is at the {side} size: add sizes beyond it", parabola)
    if min(lowest, len(x) - 1 - lowest) < 2:
        side = "smaller" if lowest < 2 else "larger"
        return dropped(f"one run only on the {side} side of the minimum", parabola)
    if parabola[0] <= 0:
        return dropped("the parabola is concave: the losses show no valley", parabola)
    best = float(_argmin(x, y[None], method)[0])
    if not x[0] < best < x[-1]:
        return dropped("the parabola's minimum lies outside the sizes that were run", parabola)
    loss = np.polyval(parabola, best) if method == "parabola" else Akima1DInterpolator(x, y)(best)
    data = _data_at(table, rows, best)
    return Valley(flops, rows, float(np.exp(best)), data, float(loss), True, None, parabola)


def _by_size(table: Table, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Log N and mean loss of each size of a budget, by size: seeds of one size are one point."""
    x, index = np.unique(np.log(table["N"][rows]), return_inverse=True)
    return x, np.bincount(index, table["L"][rows]) / np.bincount(index)


def _data_at(table: Table, rows: np.ndarray, log_params: float) -> float:
    """Data the budget buys at a size, along log D against log N (by 6ND a line of slope -1)."""
    x, index = np.unique(np.log(table["N"][rows]), return_inverse=True)
    data = np.bincount(index, np.log(table["D"][rows])) / np.bincount(index)
    return float(np.exp(np.interp(log_params, x, data)))


def _argmin(x: np.ndarray, losses: np.ndarray, method: str) -> np.ndarray:
    """Log N of the minimum [S] for losses [S, sizes] at log sizes x; nan without a minimum."""
    if method == "parabola":
        centre = x.mean()
        matrix = np.stack([(x - centre) ** 2, x - centre, np.ones_like(x)], 1)
        curve, slope, _ = np.linalg.pinv(matrix) @ losses.T
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(curve > 0, centre - slope / (2 * curve), np.nan)
    fine = np.linspace(x[0], x[-1], 2001)
    values = np.atleast_2d(Akima1DInterpolator(x, losses, axis=1)(fine))
    return fine[values.argmin(1)]


def _noise(table: Table, kept: list[Valley]) -> float:
    """Standard deviation of log loss about the parabolas, pooled over the kept budgets."""
    square, degrees = 0.0, 0
    for valley in kept:
        x, y = _by_size(table, valley.rows)
        fitted = np.polyval(np.polyfit(x, np.log(y), 2), x)
        square += float(np.sum((np.log(y) - fitted) ** 2))
        degrees += len(x) - 3
    return float(np.sqrt(square / degrees)) if degrees > 0 else 0.0


def _draws(table, kept, method, noise, bootstrap, seed) -> np.ndarray:
    """Log of best size and data [2, num_draws, budgets] with noise added to every loss."""
    generator = np.random.default_rng(seed)
    result = np.empty((2, bootstrap, len(kept)))
    for k, valley in enumerate(kept):
        x, y = _by_size(table, valley.rows)
        noisy = y * np.exp(noise * generator.standard_normal((bootstrap, len(x))))
        # A draw without a valley says only that the best size lies somewhere in the range.
        best = np.clip(_argmin(x, noisy, method), x[0], x[-1])
        best = np.where(np.isnan(best), generator.uniform(x[0], x[-1], bootstrap), best)
        sizes, index = np.unique(np.log(table["N"][valley.rows]), return_inverse=True)
        data = np.bincount(index, np.log(table["D"][valley.rows])) / np.bincount(index)
        result[0, :, k] = best
        result[1, :, k] = np.interp(best, sizes, data)
    return result


def _line(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weighted least squares of y [2, budgets] or [2, S, budgets] on x: slope, intercept [2, S]."""
    if y.ndim == 2:
        y = y[:, None]
    total = weights.sum(-1)
    centre = (weights * x).sum(-1) / total
    middle = (weights * y).sum(-1) / total
    spread = x - centre[:, None]
    slope = (weights * spread * (y - middle[..., None])).sum(-1) / (weights * spread**2).sum(-1)
    return slope, middle - slope * centre


def _dropped(valley: Valley) -> Finding:
    text = f"budget {valley.flops:.3g} FLOPs dropped: {valley.why}"
    return Finding(6, "isoflop", text, {"flops": valley.flops, "runs": len(valley.rows)})


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
