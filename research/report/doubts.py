"""What tells whether to trust a law, or an arm: ladder, coverage, profiles, prices, multipliers."""

import numpy as np
import pandas as pd

from research.errors import UserError
from research.report.outlook import point
from research.scaling import laws
from research.scaling.backtest import backtest
from research.scaling.compare.arms import split
from research.scaling.compare.verdict import against_first
from research.scaling.coverage import coverage
from research.scaling.doubt import intervals
from research.scaling.doubt.signs import law_for, objective_for
from research.scaling.fit import LawFit
from research.scaling.holdout import largest_budget
from research.scaling.plan.optimal import optimum
from research.scaling.table import Table

# Few, as each but chinchilla costs its compilation; `backtest` compares them all.
LADDER = ("chinchilla", "kaplan", "supervised")
FEWEST_RUNS = 15  # of a part whose laws are compared
BASELINES = ("base", "baseline", "default", "ladder")  # arms that others are held against
MULTIPLES = np.geomspace(0.25, 4, 33)


def ladder(table: Table) -> pd.DataFrame:
    """Columns law, error (RMSE of log loss on the largest budget, %), bias (%), baseline.

    Best first; laws that could not be fitted to the other budgets are left out. No rows for a part
    too small to compare laws on, or with losses of zero or less.
    """
    mask = largest_budget(table)
    if len(table) < FEWEST_RUNS or mask.sum() < 2 or mask.all() or (table["L"] <= 0).any():
        return pd.DataFrame()
    tested = backtest(table, mask, [laws.get(name) for name in LADDER], bootstrap=0).tested
    rows = [
        (each.law, 100 * each.rmse, 100 * each.bias, each.law == "last value")
        for each in tested
        if not each.refused
    ]
    rows = rows if len(rows) > 1 else []
    return pd.DataFrame(rows, columns=["law", "error", "bias", "baseline"])


def covered(table: Table) -> pd.DataFrame:
    """Columns level, share, low, high, runs (%): of held-out runs inside chinchilla's intervals.

    No rows for a part too small to hold runs out of.
    """
    if len(table) < FEWEST_RUNS:
        return pd.DataFrame()
    try:
        law, objective = law_for(laws.CHINCHILLA, table), objective_for(None, table)
        found = coverage(table, law, objective=objective)
    except UserError:
        return pd.DataFrame()
    shares = {"level": found.levels, "share": found.share, "low": found.low, "high": found.high}
    return (100 * pd.DataFrame(shares)).assign(runs=found.num_runs)


def multiplier(table: Table) -> pd.DataFrame:
    """Columns arm, C, loss, value, low, high, exponent, says: of each arm over the first.

    How many times the FLOPs of the first arm those of `arm` save at equal loss. The first is the
    one called so, as "base", else by name. No rows for a part without arms that can be compared.
    """
    known = [arm for arm in table.frame.get("arm", pd.Series(dtype=str)).unique() if arm]
    arms = sorted(known, key=lambda arm: (arm not in BASELINES, arm))
    if len(arms) < 2:
        return pd.DataFrame()
    found = against_first(split(table, "arm", arms))
    columns = ["C", "loss", "value", "low", "high"]
    tables = [
        pd.DataFrame(each.flops.curve, columns=columns).assign(
            first=each.names[0],
            arm=each.names[1],
            exponent=each.flops.trend.value if each.flops.trend else np.nan,
            says=each.flops.says,
        )
        for each in found
        if each.flops is not None
    ]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def profiles(fit: LawFit | None) -> pd.DataFrame:
    """Columns parameter, value, errors, ratio, by parameter; no rows when the fit was refused.

    `errors` is how many bootstrap standard errors the value lies from the fit (of its log, for a
    coefficient), `ratio` the misfit there over the misfit at which the interval ends.
    """
    if fit is None or not fit.parameters:
        return pd.DataFrame()
    tables = []
    for j, (name, seen) in enumerate(fit.profiles.items()):
        to_line = np.log if fit.law.parameters[j].logarithmic else np.asarray
        error = max(float(intervals.spread(to_line(fit.draws[:, j]))), 1e-12)
        values = np.append(seen.values, fit.parameters[name])
        errors = (to_line(values) - to_line(fit.parameters[name])) / error
        ratio = np.append(seen.ratio / seen.threshold, 0.0)
        columns = {"parameter": name, "value": values, "errors": errors, "ratio": ratio}
        tables.append(pd.DataFrame(columns))
    rows = pd.concat(tables, ignore_index=True)
    return rows[(rows.ratio <= 4) & (rows.errors.abs() <= 8)]


def trade_off(fit: LawFit | None, flops: float) -> pd.DataFrame:
    """Columns multiple (of N_opt), N, excess, low, high: loss above the best of `flops` (%).

    No rows where losses may be below zero, of which no share means anything.
    """
    if fit is None or fit.law.name != laws.CHINCHILLA.name or not fit.parameters:
        return pd.DataFrame()
    best = point(fit)[None]
    (excess,), spread = (_excess(fit, draws, flops) for draws in (best, fit.draws))
    low, high = intervals.percentile(spread, fit.level, fit.degrees)
    sizes = MULTIPLES * optimum(best, flops, fit.flops_model)[0, 0]
    columns = {"multiple": MULTIPLES, "N": sizes, "excess": excess, "low": low, "high": high}
    return pd.DataFrame(columns)


def _excess(fit: LawFit, draws: np.ndarray, flops: float) -> np.ndarray:
    """[draws, MULTIPLES]: each draw's loss at multiples of its own best size over its best loss."""
    with np.errstate(all="ignore"):
        best = optimum(draws, flops, fit.flops_model)
        params = best[:, :1] * MULTIPLES
        data = fit.flops_model.data(np.asarray(flops), params)
        floor, a, b, alpha, beta = (column[:, None] for column in draws.T)
        loss = floor + a * params**-alpha + b * data**-beta
        return 100 * (loss / best[:, 2:3] - 1)
