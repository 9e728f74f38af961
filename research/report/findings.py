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
from research.scaling.holdout import Holdout, largest_budget
from research.scaling.isoflop.fit import IsoflopFit, Valley
from research.scaling.laws import Law
from research.scaling.plan.optimal import flops_model, optimum
from research.scaling.study_laws import DRAWS, fitted, study_laws
from research.scaling.summary import PartSummary, summarise
from research.scaling.table import Table, read_runs

HELD_OUT_COLUMNS = "id size seed budget N D C loss flags held_out predicted low high"
POINTS = 60
BEYOND = 3.0  # a law is drawn up to this many times the largest compute that was run


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


def table(columns: str) -> pd.DataFrame:
    """Return a table of these columns without rows."""
    return pd.DataFrame({column: pd.Series(dtype=float) for column in columns.split()})


@dataclass(frozen=True)
class Findings:
    """Laws of one part, with N in parameters, D in data, C in FLOPs and loss in the part's unit.

    `axis` is what loss is drawn against: "C", or "N" or "D" where compute is not known; `law` and
    `frontier` have it in place of C.
    `runs` is the part's table with the column held_out set; a table of what could not be found has
    no rows; `drop` is what the last tenfold of compute did to the loss; `size` and `data` are the
    exponents of N_opt and D_opt against C; `ladder`, `profiles`, `trade_off` and `coverage` are of
    doubts.py, `plan` and the two tables of exponents of outlook.py; `rung` is the next rung where
    the runs are a ladder.
    """

    runs: pd.DataFrame
    axis: str = "C"
    frontier: pd.DataFrame = field(default_factory=lambda: table("C loss"))
    law: pd.DataFrame = field(default_factory=lambda: table("C loss low high extrapolated"))
    held_out: pd.DataFrame = field(default_factory=lambda: table(HELD_OUT_COLUMNS))
    parabolas: pd.DataFrame = field(default_factory=lambda: table("budget N loss kept"))
    minima: pd.DataFrame = field(
        default_factory=lambda: table("budget N low high loss kept reason")
    )
    optima: pd.DataFrame = field(default_factory=lambda: table("C N N_low N_high D D_low D_high"))
    size_law: pd.DataFrame = field(default_factory=lambda: table("C N low high extrapolated"))
    data_law: pd.DataFrame = field(default_factory=lambda: table("C D low high extrapolated"))
    residuals: pd.DataFrame = field(default_factory=lambda: table("residual"))
    ladder: pd.DataFrame = field(default_factory=lambda: table("law error bias baseline"))
    profiles: pd.DataFrame = field(default_factory=lambda: table("parameter value errors ratio"))
    trade_off: pd.DataFrame = field(default_factory=lambda: table("multiple N excess low high"))
    coverage: pd.DataFrame = field(default_factory=lambda: table("level share low high runs"))
    plan: pd.DataFrame = field(default_factory=lambda: table("C loss N D extrapolated"))
    size_exponents: pd.DataFrame = field(
        default_factory=lambda: table("label source value low high ours")
    )
    loss_exponents: pd.DataFrame = field(
        default_factory=lambda: table("label source value low high ours")
    )
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
    if isinstance(laws, PartSummary):
        return _findings(runs, laws)
    return _unfitted(runs, f"No fit could be tried. {laws}.")


def find_in(runs: pd.DataFrame, rows: Table) -> Findings:
    """The same for one table; `runs` are its rows as a page draws them."""
    return _findings(runs, summarise(rows, bootstrap=DRAWS))


def _unfitted(runs: pd.DataFrame, reason: str) -> Findings:
    warning = {"check": "none ran", "text": "no fit could be tried, so no check ran"}
    frontier = _best_by_budget(runs)
    return Findings(runs, frontier=frontier, refusals=[reason], warnings=[warning])


def _findings(runs: pd.DataFrame, lab: PartSummary) -> Findings:
    runs = runs.assign(held_out=runs.id.isin([p.id for p in lab.held_out.predictions]))
    axis = scale_axis(lab.table)
    scale = lab.table[axis]
    chinchilla = _accepted(lab.chinchilla)
    best = chinchilla or _accepted(lab.frontier)
    ahead = lab.held_out if lab.held_out.predictions else lab.frontier_held_out
    # The line drawn is the one that made the prediction: it has not seen the largest budget.
    drawn, seen = best, float(scale.max())
    if ahead.predictions:
        drawn, seen = ahead.fit, float(scale[~largest_budget(lab.table)].max())
    rung = None if lab.frontier is None else lab.frontier.rung
    ahead_of_all = max(scale.max() * BEYOND, rung.at[axis] if rung else 0.0)
    grid = np.geomspace(scale.min(), ahead_of_all, POINTS)
    parabolas, minima, optima = draw_valleys(lab.isoflop, lab.table)
    size_law, data_law = _optimal_lines(lab.isoflop, lab.table, grid)
    size, data = _exponents(lab)
    return Findings(
        runs=runs,
        axis=axis,
        frontier=_best_by_budget(runs[~runs.held_out]).rename(columns={"C": axis}),
        law=_law(drawn, grid, seen, axis),
        held_out=_held_out(ahead, runs),
        parabolas=parabolas,
        minima=minima,
        optima=optima,
        size_law=size_law,
        data_law=data_law,
        residuals=_residuals(runs, _accepted(lab.held_out.fit) or chinchilla),
        ladder=doubts.ladder(lab.table),
        profiles=doubts.profiles(chinchilla),
        trade_off=doubts.trade_off(chinchilla, float(scale.max())),
        coverage=doubts.covered(lab.table),
        plan=outlook.plan_curve(chinchilla, float(scale.min()), float(scale.max())),
        size_exponents=outlook.size_exponents(chinchilla, lab.isoflop),
        loss_exponents=outlook.loss_exponents(_of_compute(lab.frontier), chinchilla),
        rung=rung,
        drop=None if best is None else _drop(best, float(scale.max()) / 10, axis),
        size=size,
        data=data,
        quantities=_quantities(lab),
        refusals=_refusals(lab),
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


def _of_compute(fit: LawFit | None) -> LawFit | None:
    return fit if fit is not None and fit.law.variables == ("C",) else None


def _refusals(lab: PartSummary) -> list[str]:
    names = {
        "chinchilla": "The law in size and data",
        "frontier": f"The law in {GROWS[scale_axis(lab.table)]}",
    }
    names["isoflop"] = "Growth of the optimal size by isoFLOP"
    reasons = {law: _without_place(reason, lab.table) for law, reason in lab.refused.items()}
    lines = [f"{names.get(law, law)}: {reason}." for law, reason in reasons.items()]
    if lab.held_out.refused and "chinchilla" not in lab.refused:
        reason = _without_place(lab.held_out.refused, lab.table)
        lines.append(f"Prediction of the largest budget: {reason}.")
    return [line.replace("..", ".") for line in lines]


def _without_place(reason: str, runs: Table) -> str:
    """Return `reason` without the file or folder it begins with: the page says where it is."""
    return reason.removeprefix(f"{place(runs)}: ")


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


def _point(fit: LawFit) -> np.ndarray:
    return np.array([(fit.parameters or {})[name] for name in fit.law.names])


def _law(fit: LawFit | None, scale: np.ndarray, seen: float, axis: str) -> pd.DataFrame:
    """Return the frontier that `fit` implies with its interval; extrapolated beyond `seen`."""
    if fit is None:
        return table(f"{axis} loss low high extrapolated")
    draws = _best_loss(fit, fit.draws, scale, axis)
    low, high = intervals.percentile(draws, fit.level, fit.degrees)
    loss = _best_loss(fit, _point(fit), scale, axis)
    if fit.inflation != 1:
        scaled, back = (np.log, np.exp) if fit.log else (np.asarray, np.asarray)
        low, high = back(intervals.widen(scaled([low, high]), scaled(loss), fit.inflation))
    columns = {axis: scale, "loss": loss, "low": low, "high": high}
    return pd.DataFrame({**columns, "extrapolated": scale > seen})


def _drop(fit: LawFit, start: float, axis: str) -> Drop:
    """Return what ten times the compute (or what stands in for it) does to the loss."""
    ends = np.array([start, 10 * start])
    before, after = _best_loss(fit, _point(fit), ends, axis)
    spread = _best_loss(fit, fit.draws, ends, axis)
    low, high = intervals.percentile(1 - spread[:, 1] / spread[:, 0], fit.level, fit.degrees)
    share = float(1 - after / before)
    return Drop(start, float(before), float(after), share, float(low), float(high), axis)


def _held_out(ahead: Holdout, runs: pd.DataFrame) -> pd.DataFrame:
    """Return the held-out runs with what was predicted for each, the best run last."""
    rows = [
        {"id": p.id, "predicted": p.predicted, "low": p.low, "high": p.high}
        for p in ahead.predictions
    ]
    if not rows:
        return table(HELD_OUT_COLUMNS)
    merged = runs.merge(pd.DataFrame(rows), on="id")
    return merged.sort_values("loss", ascending=False, ignore_index=True)


def draw_valleys(fit: IsoflopFit, runs: Table) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Return the parabolas, the minima of all budgets, and the optima of those that were kept."""
    parabolas = [table("budget N loss kept").astype({"kept": bool})]
    minima, optima = [], []
    model = flops_model(runs["N"], runs["D"], runs["C"])
    for valley in fit.valleys:
        budget = _budget(valley, runs)
        if valley.parabola is not None:
            sizes = np.log(runs["N"][valley.rows])
            x = np.linspace(sizes.min(), sizes.max(), 40)
            curve = {"N": np.exp(x), "loss": np.polyval(valley.parabola, x), "kept": valley.kept}
            parabolas.append(pd.DataFrame({"budget": budget, **curve}))
        row = {"budget": budget, "kept": valley.kept, "reason": valley.why or ""}
        if valley.params is None or valley.data is None:
            lowest = valley.rows[np.argmin(runs["L"][valley.rows])]
            minima.append({**row, "N": runs["N"][lowest], "loss": runs["L"][lowest]})
            continue
        low, high = _minimum_interval(valley, fit.level)
        minima.append({**row, "N": valley.params, "loss": valley.loss, "low": low, "high": high})
        data = [float(model.data(np.array(budget), np.array(n))) for n in (high, low)]
        optima.append(
            {"C": valley.flops, "N": valley.params, "N_low": low, "N_high": high,
             "D": valley.data, "D_low": data[0], "D_high": data[1]}
        )  # fmt: skip
    columns = "budget N low high loss kept reason".split()
    return (
        pd.concat(parabolas, ignore_index=True),
        pd.DataFrame(minima, columns=columns).astype({"kept": bool}),
        pd.DataFrame(optima, columns="C N N_low N_high D D_low D_high".split()),
    )


def _budget(valley: Valley, runs: Table) -> float:
    """Return the nominal budget of a valley where the table has one, else its mean FLOPs."""
    nominal = runs["budget"][valley.rows[0]] if "budget" in runs.frame else math.nan
    return float(nominal) if np.isfinite(nominal) else valley.flops


def _minimum_interval(valley: Valley, level: float) -> tuple[float, float]:
    """Ends of the best size: normal in its log, with the error that redraws of the runs gave it."""
    assert valley.params is not None and valley.error is not None
    factor = math.exp(valley.error * float(scipy.stats.norm.ppf(0.5 + level / 2)))
    return valley.params / factor, valley.params * factor


def _optimal_lines(
    fit: IsoflopFit, runs: Table, flops: np.ndarray
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return N_opt and D_opt against compute with their intervals; no rows when refused."""
    if fit.params_coefficient is None or fit.data_coefficient is None:
        return table("C N low high extrapolated"), table("C D low high extrapolated")
    slope, offset = fit.line_draws[:, :1], fit.line_draws[:, 1:]
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
        return table("residual")
    usable = runs[runs.usable & (runs.loss > 0)]
    fitted = fit.predict(N=usable.N.to_numpy(), D=usable.D.to_numpy())
    return usable.assign(residual=100 * (usable.loss / fitted - 1))


def _exponents(lab: PartSummary) -> tuple[Quantity | None, Quantity | None]:
    """Return the exponents of N_opt and D_opt: by isoFLOP, or else by the law in N and D."""
    fit = lab.isoflop
    if fit.params_interval and fit.data_interval:
        return (
            Quantity("isoFLOP minima", "a", fit.params_exponent or 0.0, *fit.params_interval),
            Quantity("isoFLOP minima", "b", fit.data_exponent or 0.0, *fit.data_interval),
        )
    chinchilla = _accepted(lab.chinchilla)
    if chinchilla is None:
        return None, None
    best = chinchilla.optimal(float(lab.table["C"].max()))
    return (
        Quantity(
            "the law in size and data", "a", best.params_exponent, *best.params_exponent_interval
        ),
        Quantity("the law in size and data", "b", best.data_exponent, *best.data_exponent_interval),
    )


MEANINGS = {
    "E": "loss that neither size nor data takes away",
    "A": "size of the term in N",
    "B": "size of the term in D",
    "alpha": "how fast parameters pay",
    "beta": "how fast data pay",
}
GROWS = {"C": "compute", "N": "parameters", "D": "data"}


def _meanings(law: Law) -> dict[str, str]:
    """What the parameters of a law mean to a reader."""
    if len(law.variables) != 1:
        return MEANINGS
    variable = law.variables[0]
    what = GROWS[variable]
    kinds = {
        "floor": f"loss that no {what} takes away",
        "coefficient": f"size of the term in {variable}",
        "exponent": f"how fast {what} {'pays' if variable == 'C' else 'pay'}",
    }
    return {parameter.name: kinds[parameter.kind] for parameter in law.parameters}


def _quantities(lab: PartSummary) -> list[Quantity]:
    """Return every fitted number: the two laws, then the exponents of the best size and data."""
    rows = []
    for fit in (lab.chinchilla, lab.frontier):
        if fit is None or fit.parameters is None or fit.intervals is None:
            continue
        meanings = _meanings(fit.law)
        for name, value in fit.parameters.items():
            meaning = meanings.get(name, "")
            if not fit.profiles[name].identified:
                meaning += " (not identified by these runs)"
            rows.append(Quantity(fit.law.formula, name, value, *fit.intervals[name], meaning))
    fit = lab.isoflop
    if fit.params_interval and fit.data_interval:
        law = "isoFLOP minima"
        a, b = fit.params_exponent or 0.0, fit.data_exponent or 0.0
        rows.append(Quantity(law, "a", a, *fit.params_interval, "N_opt grows as C^a"))
        rows.append(Quantity(law, "b", b, *fit.data_interval, "D_opt grows as C^b"))
    chinchilla = _accepted(lab.chinchilla)
    if chinchilla is not None:
        best = chinchilla.optimal(float(lab.table["C"].max()))
        ends = best.params_exponent_interval
        law = "optimum of L(N, D)"
        rows.append(Quantity(law, "a", best.params_exponent, *ends, "N_opt grows as C^a"))
    return rows
