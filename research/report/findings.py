"""What the law lab says of each part of a study, as tables the figures can draw."""

import math
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import scipy

from research.errors import UserError
from research.report import doubts, outlook
from research.report.load import Study
from research.scaling.doubt import intervals
from research.scaling.doubt.support import place
from research.scaling.fit import LawFit, Rung
from research.scaling.holdout import Prediction, largest_budget
from research.scaling.isoflop.fit import IsoflopFit, Valley
from research.scaling.laws import Law
from research.scaling.plan.optimal import flops_model, optimum
from research.scaling.study_laws import DRAWS, fitted, study_laws
from research.scaling.summary import PartSummary, summarise
from research.scaling.table import Table, read_runs

POINTS = 60
BEYOND = 3.0  # a law is drawn up to this many times the largest compute that was run
GROWS = {"C": "compute", "N": "parameters", "D": "data"}
MEANINGS = {
    "E": "loss that neither size nor data takes away",
    "A": "size of the term in N",
    "B": "size of the term in D",
    "alpha": "how fast parameters pay",
    "beta": "how fast data pay",
}


@dataclass(frozen=True)
class Quantity:
    """A fitted number with its interval (not-a-number where none is known)."""

    law: str
    name: str
    value: float
    low: float = math.nan
    high: float = math.nan
    meaning: str = ""


@dataclass(frozen=True)
class Drop:
    """What ten times the compute does, from `start` FLOPs: loss `before` and `after`.

    `share` of the loss goes, with its interval `low` to `high`. Where compute is not known `axis`
    is what grows in its place, "N" or "D".
    """

    start: float
    before: float
    after: float
    share: float
    low: float
    high: float
    axis: str = "C"


@dataclass(frozen=True)
class Findings:
    """Laws of one part, with N in parameters, D in data, C in FLOPs and loss in the part's unit.

    A table of what could not be found has no rows. `axis` is what loss is drawn against: "C", or
    "N" or "D" where compute is not known.

    Attributes:
        runs: the part's table with the column held_out set.
        frontier: columns `axis`, loss: the best run at each budget, as the law saw them.
        law: columns `axis`, loss, low, high, extrapolated.
        held_out: runs with predicted, low and high, the best last.
        parabolas: columns budget, N, loss, kept.
        minima: columns budget, C, loss, kept, reason, and N and D, each with _low and _high; of a
            budget without a minimum its best run, and no D.
        size_law, data_law: columns C, N or D, low, high, extrapolated.
        residuals: runs with residual, measured over fitted loss minus one (%).
        tables: of doubts.py and outlook.py, each by the name of its figure.
        rung: the next rung where the runs are a ladder.
        drop: what the last tenfold of compute did to the loss.
        size, data: the exponents of N_opt and D_opt against C.
        quantities: every fitted number.
        refusals: why a law could not be fitted, in sentences.
        warnings: of the checks, each with `check` and `text`.
    """

    runs: pd.DataFrame
    frontier: pd.DataFrame
    law: pd.DataFrame
    held_out: pd.DataFrame
    axis: str = "C"
    parabolas: pd.DataFrame = field(default_factory=pd.DataFrame)
    minima: pd.DataFrame = field(default_factory=pd.DataFrame)
    size_law: pd.DataFrame = field(default_factory=pd.DataFrame)
    data_law: pd.DataFrame = field(default_factory=pd.DataFrame)
    residuals: pd.DataFrame = field(default_factory=pd.DataFrame)
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    rung: Rung | None = None
    drop: Drop | None = None
    size: Quantity | None = None
    data: Quantity | None = None
    quantities: list[Quantity] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    warnings: list[dict[str, str]] = field(default_factory=list)


def find(study: Study, loss: str | None = None) -> dict[str, Findings]:
    """What laws.json says of every part; a part no law fits still has its runs, and the reason.

    Laws of another score `loss` than the main one are fitted here.
    """
    laws = fitted(read_runs(study.folder, loss=loss)) if loss else study_laws(study.folder)
    return {part.name: _found(part.runs, laws[part.name]) for part in study.parts}


def _found(runs: pd.DataFrame, laws: PartSummary | str) -> Findings:
    return _unfitted(runs, laws) if isinstance(laws, str) else _findings(runs, laws)


def find_in(runs: pd.DataFrame, rows: Table) -> Findings:
    """The same for one table; `runs` are its rows as a page draws them."""
    return _findings(runs, summarise(rows, bootstrap=DRAWS))


def _unfitted(runs: pd.DataFrame, reason: str) -> Findings:
    return Findings(
        runs=runs,
        frontier=_best_by_budget(runs),
        law=law_line(None, np.array([]), 0.0, "C"),
        held_out=_held_out([], runs),
        refusals=[f"No fit could be tried. {reason}."],
        warnings=[{"check": "none ran", "text": "no fit could be tried, so no check ran"}],
    )


def _findings(runs: pd.DataFrame, lab: PartSummary) -> Findings:
    runs = runs.assign(held_out=runs.id.isin([p.id for p in lab.held_out.predictions]))
    axis = scale_axis(lab.table)
    scale = lab.table[axis]
    least, most = float(scale.min()), float(scale.max())
    chinchilla = _accepted(lab.chinchilla)
    best = chinchilla or _accepted(lab.frontier)
    ahead = lab.held_out if lab.held_out.predictions else lab.frontier_held_out
    # The line drawn is the one that made the prediction: it has not seen the largest budget.
    drawn, seen = best, most
    if ahead.predictions:
        drawn, seen = ahead.fit, float(scale[~largest_budget(lab.table)].max())
    rung = None if lab.frontier is None else lab.frontier.rung
    grid = np.geomspace(least, max(most * BEYOND, rung.at[axis] if rung else 0.0), POINTS)
    parabolas, minima = draw_valleys(lab.isoflop, lab.table)
    size_law, data_law = _optimal_lines(lab.isoflop, lab.table, grid)
    plan = outlook.plan_curve(chinchilla, least, most)
    tables = {
        "multiplier": doubts.multiplier(lab.table),
        "ladder": doubts.ladder(lab.table),
        "coverage": doubts.covered(lab.table),
        "profiles": doubts.profiles(chinchilla),
        "trade_off": doubts.trade_off(chinchilla, most),
        "plan_loss": plan,
        "plan_split": plan,
        "size_exponents": outlook.size_exponents(chinchilla, lab.isoflop),
        "loss_exponents": outlook.loss_exponents(lab.frontier, chinchilla),
    }
    exponents = _exponents(lab.isoflop, chinchilla, float(lab.table["C"].max()))
    return Findings(
        runs=runs,
        axis=axis,
        frontier=_best_by_budget(runs[~runs.held_out]).rename(columns={"C": axis}),
        law=law_line(drawn, grid, seen, axis),
        held_out=_held_out(ahead.predictions, runs),
        parabolas=parabolas,
        minima=minima,
        size_law=size_law,
        data_law=data_law,
        residuals=_residuals(runs, _accepted(lab.held_out.fit) or chinchilla),
        tables=tables,
        rung=rung,
        drop=None if best is None else _drop(best, most / 10, axis),
        size=next((each for each in exponents if each.name == "a"), None),
        data=next((each for each in exponents if each.name == "b"), None),
        quantities=[*_quantities(chinchilla), *_quantities(_accepted(lab.frontier)), *exponents],
        refusals=_refusals(lab, axis),
        warnings=[{"check": f"{f.code} {f.name}", "text": f.message} for f in lab.findings],
    )


def scale_axis(runs: Table) -> str:
    """What loss is drawn against: compute, or the size or the data where it is not known.

    Raises:
        UserError: the table knows none of the three.
    """
    known = runs.known("CND")
    if not known:
        raise UserError(
            f"{runs.source}: a page draws the loss against size, data or compute:"
            " give --params, --data or --flops"
        )
    return known[0]


def _accepted(fit: LawFit | None) -> LawFit | None:
    return fit if fit is not None and fit.parameters is not None else None


def _refusals(lab: PartSummary, axis: str) -> list[str]:
    """Why a law could not be fitted, without the place: the page says where it is."""
    names = {
        "chinchilla": "The law in size and data",
        "frontier": f"The law in {GROWS[axis]}",
        "isoflop": "Growth of the optimal size by isoFLOP",
    }
    reasons = {names.get(law, law): reason for law, reason in lab.refused.items()}
    if lab.held_out.refused and "chinchilla" not in lab.refused:
        reasons["Prediction of the largest budget"] = lab.held_out.refused
    beginning = f"{place(lab.table)}: "
    lines = [f"{what}: {why.removeprefix(beginning)}." for what, why in reasons.items()]
    return [line.replace("..", ".") for line in lines]


def _best_by_budget(runs: pd.DataFrame) -> pd.DataFrame:
    usable = runs[runs.usable & runs.budget.notna()]
    return usable.loc[usable.groupby("budget").loss.idxmin(), ["id", "C", "loss"]]


def _best_loss(fit: LawFit, parameters: np.ndarray, scale: np.ndarray, axis: str) -> np.ndarray:
    """Return the loss [..., points] at `scale` of `axis`, for parameters [..., P].

    A law of size and data gives the loss at the best size for so much compute.
    """
    with np.errstate(all="ignore"):
        if fit.law.variables == (axis,):
            return fit.law.loss(parameters, **{axis: scale})
        return np.stack([optimum(parameters, c, fit.flops_model)[..., 2] for c in scale], -1)


def law_line(fit: LawFit | None, scale: np.ndarray, seen: float, axis: str) -> pd.DataFrame:
    """Return the frontier that `fit` implies with its interval; extrapolated beyond `seen`."""
    columns = [axis, "loss", "low", "high", "extrapolated"]
    if fit is None:
        return pd.DataFrame(columns=columns, dtype=float)
    loss = _best_loss(fit, outlook.point(fit), scale, axis)
    draws = _best_loss(fit, fit.draws, scale, axis)
    low, high = intervals.percentile(draws, fit.level, fit.degrees)
    if fit.inflation != 1:
        scaled, back = (np.log, np.exp) if fit.log else (np.asarray, np.asarray)
        low, high = back(intervals.widen(scaled([low, high]), scaled(loss), fit.inflation))
    return pd.DataFrame(dict(zip(columns, [scale, loss, low, high, scale > seen], strict=True)))


def _drop(fit: LawFit, start: float, axis: str) -> Drop:
    """Return what ten times the compute (or what stands in for it) does to the loss."""
    around = np.array([start, 10 * start])
    before, after = _best_loss(fit, outlook.point(fit), around, axis)
    spread = _best_loss(fit, fit.draws, around, axis)
    low, high = intervals.percentile(1 - spread[:, 1] / spread[:, 0], fit.level, fit.degrees)
    share = float(1 - after / before)
    return Drop(start, float(before), float(after), share, float(low), float(high), axis)


def _held_out(predictions: list[Prediction], runs: pd.DataFrame) -> pd.DataFrame:
    """Return the held-out runs with what was predicted for each, the best run last."""
    columns = ["id", "predicted", "low", "high"]
    rows = [(p.id, p.predicted, p.low, p.high) for p in predictions]
    merged = runs.merge(pd.DataFrame(rows, columns=columns).astype({"id": runs.id.dtype}), on="id")
    merged = merged.assign(budget=merged.budget.fillna(merged.C))
    return merged.sort_values("loss", ascending=False, ignore_index=True)


def draw_valleys(fit: IsoflopFit, runs: Table) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the parabolas and the minima of all budgets."""
    parabolas, minima = [], []
    model = flops_model(runs["N"], runs["D"], runs["C"])
    for valley in fit.valleys:
        budget = _budget(valley, runs)
        if valley.parabola is not None:
            sizes = np.log(runs["N"][valley.rows])
            x = np.linspace(sizes.min(), sizes.max(), 40)
            curve = {"N": np.exp(x), "loss": np.polyval(valley.parabola, x), "kept": valley.kept}
            parabolas.append(pd.DataFrame({"budget": budget, **curve}))
        row = {"budget": budget, "C": valley.flops, "kept": valley.kept, "reason": valley.why or ""}
        if valley.params is None or valley.error is None:
            lowest = valley.rows[np.argmin(runs["L"][valley.rows])]
            minima.append({**row, "N": runs["N"][lowest], "loss": runs["L"][lowest]})
            continue
        # Normal in the log of the size, with the error that redraws of the runs gave it.
        factor = math.exp(valley.error * float(scipy.stats.norm.ppf(0.5 + fit.level / 2)))
        low, high = valley.params / factor, valley.params * factor
        least, most = (float(model.data(np.array(budget), np.array(size))) for size in (high, low))
        row |= {"N": valley.params, "N_low": low, "N_high": high, "loss": valley.loss}
        minima.append({**row, "D": valley.data, "D_low": least, "D_high": most})
    names = ("N", "D", "N_low", "N_high", "D_low", "D_high")
    columns = ["budget", "C", *names, "loss", "kept", "reason"]
    drawn = pd.concat(parabolas, ignore_index=True) if parabolas else pd.DataFrame()
    return drawn, pd.DataFrame(minima, columns=columns).astype({"kept": bool})


def _budget(valley: Valley, runs: Table) -> float:
    """Return the nominal budget of a valley where the table has one, else its mean FLOPs."""
    nominal = runs["budget"][valley.rows[0]] if "budget" in runs.frame else math.nan
    return float(nominal) if np.isfinite(nominal) else valley.flops


def _optimal_lines(
    fit: IsoflopFit, runs: Table, flops: np.ndarray
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return N_opt and D_opt against compute with their intervals; no rows when refused."""
    if fit.params_coefficient is None or fit.data_coefficient is None:
        none = pd.DataFrame(columns=["C", "N", "D", "low", "high", "extrapolated"], dtype=float)
        return none, none
    slope, offset = fit.draws[:, :1], fit.draws[:, 2:]
    degrees = len(fit.kept) - 2
    low, high = np.exp(intervals.percentile(offset + slope * np.log(flops), fit.level, degrees))
    size = fit.params_coefficient * flops ** (fit.params_exponent or 0.0)
    data = fit.data_coefficient * flops ** (fit.data_exponent or 0.0)
    # More parameters leave less data: the ends of the interval change places.
    model = flops_model(runs["N"], runs["D"], runs["C"])
    ratio = data / model.data(flops, size)
    kept = [valley.flops for valley in fit.kept]
    common = {"C": flops, "extrapolated": (flops > max(kept) * 1.001) | (flops < min(kept) * 0.999)}
    least, most = ratio * model.data(flops, high), ratio * model.data(flops, low)
    return (
        pd.DataFrame({**common, "N": size, "low": low, "high": high}),
        pd.DataFrame({**common, "D": data, "low": least, "high": most}),
    )


def _residuals(runs: pd.DataFrame, fit: LawFit | None) -> pd.DataFrame:
    """Return the usable runs with measured over fitted loss, minus one, in percent."""
    if fit is None or fit.law.name != "chinchilla":
        return pd.DataFrame()
    usable = runs[runs.usable & (runs.loss > 0)]
    fitted = fit.predict(N=usable.N.to_numpy(), D=usable.D.to_numpy())
    return usable.assign(residual=100 * (usable.loss / fitted - 1))


def _exponents(valleys: IsoflopFit, fit: LawFit | None, flops: float) -> list[Quantity]:
    """Return the exponents of N_opt and D_opt, by isoFLOP and then by the law in N and D."""
    found = []
    if valleys.params_interval and valleys.data_interval:
        pairs = (
            (valleys.params_exponent or 0.0, valleys.params_interval),
            (valleys.data_exponent or 0.0, valleys.data_interval),
        )
        found.append(("isoFLOP minima", pairs))
    if fit is not None:
        best = fit.optimal(flops)
        pairs = (
            (best.params_exponent, best.params_exponent_interval),
            (best.data_exponent, best.data_exponent_interval),
        )
        found.append(("optimum of L(N, D)", pairs))
    return [
        Quantity(law, name, value, low, high, f"{what}_opt grows as C^{name}")
        for law, pairs in found
        for name, what, (value, (low, high)) in zip("ab", "ND", pairs, strict=True)
    ]


def _quantities(fit: LawFit | None) -> list[Quantity]:
    """Return every fitted number of a law, and what it means to a reader."""
    if fit is None or fit.intervals is None:
        return []
    rows = []
    for parameter in fit.law.parameters:
        name = parameter.name
        meaning = _meaning(fit.law, name, parameter.kind)
        if not fit.profiles[name].identified:
            meaning += " (not identified by these runs)"
        value = (fit.parameters or {})[name]
        rows.append(Quantity(fit.law.formula, name, value, *fit.intervals[name], meaning))
    return rows


def _meaning(law: Law, name: str, kind: str) -> str:
    if len(law.variables) != 1:
        return MEANINGS.get(name, "")
    (variable,) = law.variables
    what = GROWS[variable]
    return {
        "floor": f"loss that no {what} takes away",
        "coefficient": f"size of the term in {variable}",
        "exponent": f"how fast {what} {'pays' if variable == 'C' else 'pay'}",
    }[kind]
