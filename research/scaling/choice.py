"""The law chosen for a table by what its backtests show, and intervals widened by them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from research.errors import UserError
from research.scaling.backtest import LAST_VALUE, Backtest, Scored, backtest, candidates, held_out
from research.scaling.engine.objective import HUBER, Objective
from research.scaling.fit import LawFit, fit_law
from research.scaling.laws import WITH_FLOOR, WITHOUT_FLOOR, Law
from research.scaling.table import Table

# What `auto` holds out in turn; a law is judged by all of them that leave enough to fit.
FOLDS = (
    "flops:0.25decade",
    "flops:0.5decade",
    "flops:0.75decade",
    "flops:1decade",
    "params:largest",
)
FARTHER = ("flops:1.5decade", "flops:2decade")
FEWEST = 3  # runs a fold must hold out
MOST_ROWS = 5_000  # of a table that laws are compared on


def folds(table: Table) -> dict[str, np.ndarray]:
    """Masks [rows] of what FOLDS hold out, each once, where they leave most of the table to fit.

    Where a few runs lie far ahead of the others FARTHER ones, or any that hold out a run at all.
    """
    return _masks(table, FOLDS, FEWEST) or _masks(table, FARTHER, FEWEST) or _masks(table, FOLDS, 1)


def _masks(table: Table, texts: Sequence[str], fewest: int) -> dict[str, np.ndarray]:
    masks: dict[str, np.ndarray] = {}
    for text in texts:
        try:
            mask = held_out(table, text)
        except UserError:
            continue
        again = any((mask == other).all() for other in masks.values())
        if mask.sum() >= fewest and mask.mean() <= 0.6 and not again:
            masks[text] = mask
    return masks


@dataclass(frozen=True)
class Choice:
    """The law chosen for a table: `law` is None when none beats the last value.

    `scores` maps every law to its mean RMSE of (log) loss over the folds it could be tested on;
    `inflation` is by how much the intervals of the chosen law must be widened for its own
    backtests to hold (at least 1), and `num_tested` from how many held-out runs. `nested` laws are
    one power with and without its floor: there the wider one is chosen, not the better one.
    """

    law: Law | None
    scores: dict[str, float]
    folds: list[Backtest]
    inflation: float
    num_tested: int
    nested: bool = False

    def calibrate(self, fit: LawFit) -> LawFit:
        """`fit` of the chosen law, its predictions' intervals widened by `inflation`."""
        if self.nested:
            return fit
        return replace(fit, inflation=self.inflation, num_tested=self.num_tested)

    @property
    def ranked(self) -> list[str]:
        """Names of every law that could be tested, best first."""
        return sorted(self.scores, key=lambda name: self.scores[name])

    @property
    def line(self) -> str:
        """The choice in a sentence."""
        shown = ", ".join(f"{name} {self.scores[name]:.4f}" for name in self.ranked[:4])
        kind = self.law.name if self.law else LAST_VALUE
        if self.nested and self.law:
            floor = (
                "with a floor, which may be 0"
                if self.law in WITH_FLOOR.values()
                else "without a floor"
            )
            tested = f" (RMSE of log loss held out: {shown})" if shown else ""
            return f"{kind}, {floor}: these runs support a power of one variable{tested}"
        passed = ", ".join(self.ranked[: self.ranked.index(kind)])
        skipped = f"; refused as fits: {passed}" if passed and self.law else ""
        of = self.folds[0].unit
        return f"{kind} predicts held-out runs best (RMSE of {of}: {shown}){skipped}"

    def to_json(self) -> dict[str, Any]:
        """For laws.json."""
        return {
            "law": self.law.name if self.law else LAST_VALUE,
            "rmse": self.scores,
            "inflation": self.inflation,
            "num_tested": self.num_tested,
            "folds": [fold.to_json() for fold in self.folds],
        }


def choose(
    table: Table,
    laws: Sequence[Law] | None = None,
    *,
    objective: Objective = HUBER,
    level: float = 0.95,
    seed: int = 0,
) -> Choice:
    """Choose a law by held-out extrapolation, never by fit.

    A power of one variable is fitted with its floor where the rows allow it: the law without one
    is in it, and wherever few runs cannot tell, its intervals are too short for what a floor does.

    Raises:
        UserError: no fold of the table leaves enough rows to fit and to test.
    """
    table = _shortened(table, seed)
    laws = candidates(table) if laws is None else laws
    if not laws:
        known = ", ".join(table.known("NDC")) or "none"
        raise UserError(
            f"{table.source}: no law reads what is known of N, D and C ({known}):"
            " give --params and --data, or --flops"
        )
    tested = [
        backtest(table, text, laws, objective=objective, bootstrap=0) for text in folds(table)
    ]
    tested = [fold for fold in tested if any(np.isfinite(e.rmse) for e in fold.laws)]
    variable = _only_variable(laws)
    if variable and (not tested or set(laws) <= {WITH_FLOOR[variable], WITHOUT_FLOOR[variable]}):
        return _nested(table, variable, tested, objective)
    if not tested:
        raise UserError(
            f"{table.source}: {len(table)} rows are too few to compare laws on held-out runs;"
            " name one with --law"
        )
    scores = _scores(tested)
    for law in sorted(laws, key=lambda law: scores.get(law.name, np.inf)):
        if scores.get(law.name, np.inf) >= scores[LAST_VALUE]:
            return Choice(None, scores, tested, 1.0, 0)
        # A law that predicts well and cannot be pinned down is no answer: the next one is.
        if fit_law(table, law, bootstrap=100, objective=objective).refused is None:
            break
    else:
        return Choice(None, scores, tested, 1.0, 0)
    options: dict[str, Any] = {"objective": objective, "level": level, "seed": seed}
    again = [backtest(table, fold.mask, [law], **options)[law.name] for fold in tested]
    return Choice(law, scores, tested, *_inflation(again, level))


def _scores(tested: list[Backtest]) -> dict[str, float]:
    """Mean RMSE over the folds of every law that could be tested on each."""
    scores: dict[str, float] = {}
    for each in tested[0].tested if tested else []:
        errors = [fold[each.law].rmse for fold in tested]
        if np.isfinite(errors).all():
            scores[each.law] = float(np.mean(errors))
    return scores


def _only_variable(laws: Sequence[Law]) -> str | None:
    """The one of N, D and C that all of `laws` read and nothing else, or None."""
    read = {variable for law in laws for variable in law.variables}
    return read.pop() if len(read) == 1 and read <= set(WITH_FLOOR) else None


def _nested(table: Table, variable: str, tested: list[Backtest], objective: Objective) -> Choice:
    """The power of `variable` with a floor, or without where the rows do not carry one.

    Raises:
        UserError: they carry neither.
    """
    scores, reason = _scores(tested), ""
    for law in (WITH_FLOOR[variable], WITHOUT_FLOOR[variable]):
        try:
            refused = fit_law(table, law, bootstrap=100, objective=objective).refused
        except UserError as error:
            refused = str(error)
        if refused is None:
            beaten = scores.get(law.name, 0.0) >= scores.get(LAST_VALUE, np.inf)
            return Choice(None if beaten else law, scores, tested, 1.0, 0, nested=True)
        reason = reason or refused.removeprefix(f"{table.source}: ")
    raise UserError(f"{table.source}: {reason}")


def calibrated(fit: LawFit, table: Table, *, objective: Objective = HUBER, seed: int = 0) -> LawFit:
    """`fit` with its predictions' intervals as wide as its law's backtests on `table` ask for.

    Unchanged where no fold of the table leaves enough runs to fit and to test.
    """
    table = _shortened(table, seed)
    options: dict[str, Any] = {"objective": objective, "level": fit.level, "seed": seed}
    tested = [backtest(table, text, [fit.law], **options)[fit.law.name] for text in folds(table)]
    tested = [each for each in tested if not each.refused]
    if not tested:
        return fit
    inflation, num_tested = _inflation(tested, fit.level)
    return replace(fit, inflation=max(fit.inflation, inflation), num_tested=num_tested)


def _shortened(table: Table, seed: int) -> Table:
    if len(table) <= MOST_ROWS:
        return table
    rows = np.random.default_rng(seed).choice(len(table), MOST_ROWS, replace=False)
    return table.select(np.isin(np.arange(len(table)), rows))


def _inflation(tested: list[Scored], level: float) -> tuple[float, int]:
    """(factor, held-out runs): the level's quantile of error over half-width, never under 1.

    Split conformal prediction (Vovk 2005) with the table's own backtests for calibration; folds
    overlap, so runs are few more than the largest fold and the quantile is taken as is.
    """
    ratios = []
    for each in tested:
        assert each.low is not None and each.high is not None
        # Half of the interval on the side of the prediction on which the measured value lies.
        side = np.where(each.error > 0, each.error - each.low, each.high - each.error)
        ratios.append(np.abs(each.error) / np.maximum(side, 1e-12))
    every = np.concatenate(ratios)
    rank = min(1.0, level * (1 + 1 / len(every)))
    return max(1.0, float(np.quantile(every, rank))), len(every)
