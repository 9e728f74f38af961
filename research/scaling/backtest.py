"""Which law predicts runs it has not seen: every candidate on the same held-out rows.

Last value, the prediction of no further progress, is always among them: a law that cannot beat it
must say so (check 21).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from research.errors import UserError
from research.scaling.doubt import intervals
from research.scaling.doubt.support import require_columns
from research.scaling.doubt.table_checks import Finding
from research.scaling.engine.objective import HUBER, Objective
from research.scaling.engine.solve import solve
from research.scaling.fit import LawFit, fit_law
from research.scaling.laws import LAWS, Law
from research.scaling.table import OWN_GROUP, Table
from research.scaling.table.columns import rows_where

LAST_VALUE = "last value"
COLUMNS = {"flops": "C", "params": "N", "data": "D"}
# What `auto` holds out in turn; a law is judged by all of them that leave enough to fit.
FOLDS = (
    "flops:0.25decade",
    "flops:0.5decade",
    "flops:0.75decade",
    "flops:1decade",
    "params:largest",
)
FEWEST = 3  # runs a fold must hold out
MOST_ROWS = 5_000  # of a table that laws are compared on


@dataclass(frozen=True)
class Scored:
    """One law's predictions of the held-out rows; a refused one has none, and `refused` says why.

    `error` [rows] is log(predicted / measured); `low` and `high` [rows] bound the log of a new
    run's loss at the backtest's level, in the same units about the measured value: the interval
    holds it where low <= 0 <= high. The baseline has no interval.
    """

    law: str
    error: np.ndarray
    low: np.ndarray | None = None
    high: np.ndarray | None = None
    refused: str | None = None

    @property
    def rmse(self) -> float:
        """Root mean square of `error`; infinite for a refused law."""
        return np.inf if self.refused else float(np.sqrt(np.mean(self.error**2)))

    @property
    def bias(self) -> float:
        """Mean of `error`: positive where the law promises too high a loss."""
        return float("nan") if self.refused else float(np.mean(self.error))

    @property
    def coverage(self) -> float | None:
        """Share of measured losses inside their interval."""
        if self.refused or self.low is None or self.high is None:
            return None
        return float(np.mean((self.low <= 0) & (self.high >= 0)))

    def to_json(self) -> dict[str, Any]:
        """For --json; a refused law has no numbers."""
        return {
            "law": self.law,
            "rmse": None if self.refused else self.rmse,
            "bias": None if self.refused else self.bias,
            "coverage": self.coverage,
            "refused": self.refused,
        }


@dataclass(frozen=True)
class Backtest:
    """Every law on one held-out set, best first; `mask` [rows] marks the rows held out."""

    holdout: str
    mask: np.ndarray
    level: float
    tested: list[Scored]
    findings: list[Finding] = field(default_factory=list)

    @property
    def laws(self) -> list[Scored]:
        """All but the baseline."""
        return [each for each in self.tested if each.law != LAST_VALUE]

    def __getitem__(self, law: str) -> Scored:
        return next(each for each in self.tested if each.law == law)

    def to_json(self) -> dict[str, Any]:
        """What was held out, and a row a law."""
        return {
            "holdout": self.holdout,
            "num_fitted": int((~self.mask).sum()),
            "num_held_out": int(self.mask.sum()),
            "level": self.level,
            "laws": [each.to_json() for each in self.tested],
            "warnings": [finding.line for finding in self.findings],
        }


def held_out(table: Table, text: str) -> np.ndarray:
    """Mask [rows] of what `text` holds out.

    `flops:0.5decade` is every run within half a decade of the largest C, `params:largest` those of
    the largest N (also data, flops; any width); anything else is an expression on the columns.

    Raises:
        UserError: it cannot be read, or holds out no row or every row.
    """
    kind, _, width = text.partition(":")
    if kind in COLUMNS and width:
        if not table.known(COLUMNS[kind]):
            raise UserError(f"--holdout {text!r}: {table.source} has no {kind}: give --{kind}")
        values = np.log10(table[COLUMNS[kind]])
        if width == "largest":
            mask = values >= values.max() - 1e-3
        else:
            number = width.removesuffix("s").removesuffix("decade")
            try:
                mask = values > values.max() - float(number)
            except ValueError:
                raise UserError(
                    f"--holdout {text!r}: expected {kind}:largest or {kind}:0.5decade"
                ) from None
    else:
        frame = table.frame
        if OWN_GROUP in frame:
            frame = frame.assign(group=frame[OWN_GROUP])
        try:
            mask = rows_where(frame, text, "--holdout", table.source)
        except UserError as error:
            wanted = "flops:0.5decade, params:largest or \"column == 'value'\""
            raise UserError(f"{error}; expected {wanted}") from None
    if not mask.any() or mask.all():
        raise UserError(f"--holdout {text!r}: holds out {int(mask.sum())} of {len(table)} rows")
    return mask


def candidates(table: Table) -> list[Law]:
    """Laws of the loss that read every one of N and D that varies, and no column there is not."""
    present = set(table.known(table.frame.columns))
    varying = {name for name in table.known("ND") if np.ptp(np.log(table[name])) > 1e-3}
    if not varying:
        varying = {"C"}
    return [
        law
        for law in LAWS.values()
        if law.target == "loss" and varying <= set(law.variables) <= present
    ]


def last_value(seen: Table, params: np.ndarray) -> np.ndarray:
    """Best loss seen [rows] of the same size where it was trained, else of all."""
    result = np.full(len(params), seen["L"].min())
    for k, size in enumerate(params):
        same = np.abs(np.log(seen["N"] / size)) < 1e-3
        if same.any():
            result[k] = seen["L"][same].min()
    return result


def backtest(
    table: Table,
    holdout: str | np.ndarray,
    laws: Sequence[Law] | None = None,
    *,
    objective: Objective = HUBER,
    bootstrap: int = 200,
    level: float = 0.9,
    seed: int = 0,
) -> Backtest:
    """Fit each law to the rows not held out and predict the others; laws as `candidates` if None.

    Raises:
        UserError: `holdout` selects nothing or everything.
    """
    mask = held_out(table, holdout) if isinstance(holdout, str) else np.asarray(holdout, bool)
    seen, unseen = table.select(~mask), table.select(mask)
    measured = np.log(unseen["L"])
    baseline = np.log(last_value(seen, unseen["N"])) - measured
    tested = [Scored(LAST_VALUE, baseline)]
    for law in candidates(table) if laws is None else laws:
        require_columns(table, law.variables, f"the law {law.name!r}")
        tested.append(_test(law, seen, unseen, measured, objective, bootstrap, level, seed))
    tested.sort(key=lambda each: each.rmse)
    found = []
    best = tested[0]
    if best.law == LAST_VALUE:
        text = f"no law beats the last value (RMSE of log loss {best.rmse:.4g})"
        found.append(Finding(21, "last value", text, {"rmse": best.rmse}))
    name = holdout if isinstance(holdout, str) else f"{int(mask.sum())} rows"
    return Backtest(name, mask, level, tested, found)


@dataclass(frozen=True)
class Ahead:
    """What a law fitted to some rows says of others: `best` [rows] and `draws` [S, rows] of log
    loss, and how the fitted runs scatter about it.
    """

    best: np.ndarray
    draws: np.ndarray
    spread: intervals.Spread

    def interval(self, level: float) -> np.ndarray:
        """Ends [2, rows] between which `level` of new runs' log losses should lie."""
        return intervals.predictive(self.best, self.draws, self.spread, level)


def look_ahead(
    law: Law, seen: Table, unseen: Table, objective: Objective, bootstrap: int, seed: int
) -> Ahead | str:
    """Fit `law` to the table `seen` and predict `unseen`; or the reason why that cannot be done."""
    if len(seen) < max(law.minimum_rows, len(law.parameters) + 2):
        return f"{len(seen)} rows to fit {law.name}"
    columns = {name: np.asarray(seen[name], float) for name in law.variables}
    for name, column in columns.items():
        if np.ptp(column) <= 1e-3 * np.abs(column).max() and name in ("N", "D", "C"):
            return f"one {name} only"
    found = solve(
        law,
        columns,
        seen["L"],
        seen["group"],
        objective=objective,
        bootstrap=bootstrap,
        seed=seed,
        most_starts=64,
    )
    ahead = {name: np.asarray(unseen[name], float) for name in law.variables}
    with np.errstate(all="ignore"):
        best = np.log(law.loss(found.design.to_parameters(found.best), **ahead))
        draws = np.log(law.loss(found.design.to_parameters(found.draws), **ahead))
    if not np.isfinite(best).all():
        return "its prediction is no positive number"
    residuals = found.design.predict(found.best[None])[0] - np.log(seen["L"])
    num, groups = len(law.parameters), len(np.unique(seen["group"]))
    return Ahead(best, draws, intervals.Spread(intervals.noise_scale(residuals, num), groups, num))


def _test(law, seen, unseen, measured, objective, bootstrap, level, seed) -> Scored:
    ahead = look_ahead(law, seen, unseen, objective, bootstrap, seed)
    if isinstance(ahead, str):
        return Scored(law.name, np.array([]), refused=ahead)
    if bootstrap == 0:
        return Scored(law.name, ahead.best - measured)
    low, high = ahead.interval(level)
    return Scored(law.name, ahead.best - measured, low - measured, high - measured)


def folds(table: Table) -> dict[str, np.ndarray]:
    """Masks [rows] of what FOLDS hold out, each once, where they leave most of the table to fit."""
    masks: dict[str, np.ndarray] = {}
    for text in FOLDS:
        try:
            mask = held_out(table, text)
        except UserError:
            continue
        again = any((mask == other).all() for other in masks.values())
        if mask.sum() >= FEWEST and mask.mean() <= 0.6 and not again:
            masks[text] = mask
    return masks


@dataclass(frozen=True)
class Choice:
    """The law chosen for a table: `law` is None when none beats the last value.

    `scores` maps every law to its mean RMSE of log loss over the folds it could be tested on;
    `inflation` is by how much the intervals of the chosen law must be widened for its own
    backtests to hold (at least 1), and `num_tested` from how many held-out runs.
    """

    law: Law | None
    scores: dict[str, float]
    folds: list[Backtest]
    inflation: float
    num_tested: int

    def calibrate(self, fit: LawFit) -> LawFit:
        """`fit` of the chosen law, its predictions' intervals widened by `inflation`."""
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
        passed = ", ".join(self.ranked[: self.ranked.index(kind)])
        skipped = f"; refused as fits: {passed}" if passed and self.law else ""
        return f"{kind} predicts held-out runs best (RMSE of log loss: {shown}){skipped}"

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
    if not tested:
        raise UserError(
            f"{table.source}: {len(table)} rows are too few to compare laws on held-out runs;"
            " name one with --law"
        )
    scores: dict[str, float] = {}
    for each in tested[0].tested:
        errors = [fold[each.law].rmse for fold in tested]
        if np.isfinite(errors).all():
            scores[each.law] = float(np.mean(errors))
    best = min(scores, key=lambda name: scores[name])
    for law in sorted(laws, key=lambda law: scores.get(law.name, np.inf)):
        if scores.get(law.name, np.inf) >= scores[LAST_VALUE]:
            return Choice(None, scores, tested, 1.0, 0)
        # A law that predicts well and cannot be pinned down is no answer: the next one is.
        if fit_law(table, law, bootstrap=100, objective=objective).refused is None:
            best = law.name
            break
    else:
        return Choice(None, scores, tested, 1.0, 0)
    options: dict[str, Any] = {"objective": objective, "level": level, "seed": seed}
    again = [backtest(table, fold.mask, [law], **options)[best] for fold in tested]
    return Choice(law, scores, tested, *_inflation(again, level))


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
    return replace(fit, inflation=inflation, num_tested=num_tested)


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
