"""Do the intervals of a law hold what they promise? Every fold of a table, at every level."""

from dataclasses import dataclass

import numpy as np
import scipy

from research.errors import UserError
from research.scaling.backtest import look_ahead, scaled
from research.scaling.choice import folds
from research.scaling.engine.objective import HUBER, Objective
from research.scaling.laws import CHINCHILLA, Law
from research.scaling.table import Table

LEVELS = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.99)


@dataclass(frozen=True)
class Coverage:
    """Of the intervals at `levels` [K]: the `share` [K] of held-out runs inside, over all `folds`.

    Folds overlap, so `num_predictions` are of only `num_runs` different runs; `low` and `high` [K]
    are the 95% interval of Clopper and Pearson 1934 for a share of so many runs, taken as
    independent, which runs predicted by one fit are not: the truth is wider.
    """

    law: str
    folds: list[str]
    levels: np.ndarray
    share: np.ndarray
    low: np.ndarray
    high: np.ndarray
    num_runs: int
    num_predictions: int


def coverage(
    table: Table,
    law: Law = CHINCHILLA,
    levels: tuple[float, ...] = LEVELS,
    *,
    objective: Objective = HUBER,
    bootstrap: int = 400,
    seed: int = 0,
) -> Coverage:
    """Fit `law` without each fold (see backtest.FOLDS) and count its runs inside their intervals.

    Raises:
        UserError: no fold leaves enough rows to fit and to test.
    """
    inside, used = [], {}
    log = bool((table["L"] > 0).all())
    for text, mask in folds(table).items():
        seen, unseen = table.select(~mask), table.select(mask)
        ahead = look_ahead(law, seen, unseen, objective, bootstrap, seed, log)
        if isinstance(ahead, str):
            continue
        measured = scaled(unseen["L"], log)
        ends = np.stack([ahead.interval(level) for level in levels])  # [K, 2, rows]
        inside.append((ends[:, 0] <= measured) & (measured <= ends[:, 1]))
        used[text] = mask
    if not used:
        raise UserError(f"{table.source}: {len(table)} rows are too few to hold some out")
    share = np.concatenate(inside, 1).mean(1)
    num_runs = int(np.any(list(used.values()), axis=0).sum())
    low, high = binomial(share, num_runs)
    total = sum(each.shape[1] for each in inside)
    return Coverage(law.name, list(used), np.array(levels), share, low, high, num_runs, total)


def binomial(share: np.ndarray, num: int, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Ends of the exact interval for a `share` of `num` (Clopper and Pearson 1934)."""
    tail, hits = (1 - level) / 2, share * num
    with np.errstate(invalid="ignore"):
        low = scipy.stats.beta.ppf(tail, hits, num - hits + 1)
        high = scipy.stats.beta.ppf(1 - tail, hits + 1, num - hits)
    return np.where(hits > 0, low, 0.0), np.where(hits < num, high, 1.0)
