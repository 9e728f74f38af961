"""The compute frontier: the best loss each amount of compute has bought, and its law."""

import numpy as np

from research.scaling.doubt.signs import law_for
from research.scaling.doubt.support import require_columns
from research.scaling.engine.objective import HUBER, Objective
from research.scaling.fit import LawFit, fit_law
from research.scaling.isoflop.fit import budgets, has_budgets
from research.scaling.ladder import ladder
from research.scaling.laws import FRONTIER, Law
from research.scaling.table import Table


def lower_envelope(flops: np.ndarray, loss: np.ndarray) -> np.ndarray:
    """Mask [rows] of points that no point with as little compute beats, on the lower convex hull.

    In log-log coordinates every law E + A / C^alpha is convex, so a point above the hull of the
    others lies above the frontier whatever the law: dropping it keeps lucky small runs out. So it
    is in log C alone, which losses of zero or less take.
    """
    order = np.lexsort((loss, flops))
    hull: list[int] = []
    x, y = np.log(flops), np.log(loss) if (loss > 0).all() else loss
    lowest = np.inf
    for i in order:
        if loss[i] >= lowest:
            continue
        lowest = loss[i]
        while len(hull) > 1 and _above(x, y, hull[-2], hull[-1], i):
            hull.pop()
        hull.append(int(i))
    mask = np.zeros(len(loss), bool)
    mask[hull] = True
    return mask


def _above(x: np.ndarray, y: np.ndarray, a: int, b: int, c: int) -> bool:
    return (y[b] - y[a]) * (x[c] - x[a]) >= (y[c] - y[a]) * (x[b] - x[a])


def frontier_rows(table: Table) -> np.ndarray:
    """Mask [rows] of the runs the frontier law is fitted to.

    With isoFLOP budgets it is the best run of each; otherwise the lower envelope, and of a ladder,
    whose runs had no other size to be, every run. The hull of a few isoFLOP groups would throw
    away budgets that noise lifted, and so lean on the lucky ones.
    """
    if ladder(table) is not None and table.known("N"):
        return np.ones(len(table), bool)
    if not has_budgets(table):
        return lower_envelope(table["C"], table["L"])
    labels = budgets(table)
    mask = np.zeros(len(table), bool)
    for value in np.unique(labels):
        rows = np.flatnonzero(labels == value)
        mask[rows[np.argmin(table["L"][rows])]] = True
    return mask


def fit_frontier(
    table: Table,
    *,
    bootstrap: int = 4000,
    level: float = 0.95,
    seed: int = 0,
    objective: Objective = HUBER,
    law: Law | None = None,
) -> LawFit:
    """Fit L(C) = E + A / C^alpha (Henighan 2020) to the frontier of `table`.

    Where a loss is zero or less E may be of either sign, or as `law` has it.

    Raises:
        UserError: the frontier has no more points than the law has parameters.
    """
    require_columns(table, FRONTIER.variables, "a frontier")
    mask = frontier_rows(table)
    note = f"frontier: {int(mask.sum())} of {len(table)} runs"
    chosen = table.select(mask, note)
    law = law or law_for(FRONTIER, table)
    return fit_law(chosen, law, bootstrap=bootstrap, level=level, seed=seed, objective=objective)
