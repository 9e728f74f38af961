"""Which law predicts runs it has not seen: every candidate on the same held-out rows.

Last value, the prediction of no further progress, is always among them: a law that cannot beat it
must say so (check 21).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from research.errors import UserError
from research.scaling.doubt import intervals
from research.scaling.doubt.support import require_columns
from research.scaling.doubt.table_checks import Finding, checkpoints
from research.scaling.engine.objective import HUBER, Objective
from research.scaling.engine.solve import solve
from research.scaling.ladder import ladder
from research.scaling.laws import LAWS, SIGNED_LAWS, Law
from research.scaling.table import OWN_GROUP, Table
from research.scaling.table.expression import rows_where

LAST_VALUE = "last value"
COLUMNS = {"flops": "C", "params": "N", "data": "D"}


@dataclass(frozen=True)
class Scored:
    """One law's predictions of the held-out rows; a refused one has none, and `refused` says why.

    `error` [rows] is log(predicted / measured), or where losses may be below zero their difference;
    `low` and `high` [rows] bound a new run's at the backtest's level, in the same units about the
    measured value: the interval holds it where low <= 0 <= high. The baseline has no interval.
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
    """Every law on one held-out set, best first; `mask` [rows] marks the rows held out.

    Errors are of log loss, or without `log` (losses of zero or less) of the loss itself.
    """

    holdout: str
    mask: np.ndarray
    level: float
    tested: list[Scored]
    findings: list[Finding] = field(default_factory=list)
    log: bool = True

    @property
    def unit(self) -> str:
        """What errors are of."""
        return "log loss" if self.log else "loss"

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
            "errors": self.unit,
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
    """Laws of the loss that read every one of N and D that varies, and no column there is not.

    Of N and D that do not vary, or on a ladder, where they move together, none can be told: the
    laws are those of what varies, or of compute.
    """
    present = set(table.known(table.frame.columns))
    varying = {name for name in table.known("ND") if np.ptp(np.log(table[name])) > 1e-3}
    line = ladder(table)
    if not varying or (line is not None and line.ratio is not None):
        varying = {"C"}
    present -= {"N", "D"} - varying
    positive = bool((table["L"] > 0).all())
    laws = LAWS if positive else {**LAWS, **SIGNED_LAWS}
    return [
        law
        for law in laws.values()
        if law.target == "loss" and varying <= set(law.variables) <= present
        if positive or law.signed
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
    log = bool((table["L"] > 0).all())
    if objective.log and not log:
        raise UserError(
            f"{table.source}: losses of zero or less, and {objective.name} takes their logarithm:"
            " give --objective l2"
        )
    measured = scaled(unseen["L"], log)
    baseline = scaled(last_value(seen, unseen["N"]), log) - measured
    tested = [Scored(LAST_VALUE, baseline)]
    for law in candidates(table) if laws is None else laws:
        require_columns(table, law.variables, f"the law {law.name!r}")
        ahead = look_ahead(law, seen, unseen, objective, bootstrap, seed, log)
        tested.append(_test(law, ahead, measured, level if bootstrap else None))
    tested.sort(key=lambda each: each.rmse)
    found = [finding for finding in [checkpoints(table)] if finding]
    best = tested[0]
    if best.law == LAST_VALUE:
        of = "log loss" if log else "loss"
        text = f"no law beats the last value (RMSE of {of} {best.rmse:.4g})"
        found.append(Finding(21, "last value", text, {"rmse": best.rmse}))
    name = holdout if isinstance(holdout, str) else f"{int(mask.sum())} rows"
    return Backtest(name, mask, level, tested, found, log)


def scaled(loss: np.ndarray, log: bool) -> np.ndarray:
    """What errors are differences of: log loss, or the loss itself where it may be below zero."""
    return np.log(loss) if log else loss


@dataclass(frozen=True)
class Ahead:
    """What a law fitted to some rows says of others: `best` [rows] and `draws` [S, rows] of log
    loss, or of the loss where it may be below zero, and how the fitted runs scatter about it.
    """

    best: np.ndarray
    draws: np.ndarray
    spread: intervals.Spread

    def interval(self, level: float) -> np.ndarray:
        """Ends [2, rows] between which `level` of new runs' (log) losses should lie."""
        return intervals.predictive(self.best, self.draws, self.spread, level)


def look_ahead(
    law: Law, seen: Table, unseen: Table, objective: Objective, bootstrap: int, seed: int, log=True
) -> Ahead | str:
    """Fit `law` to the table `seen` and predict `unseen`; or the reason why that cannot be done.

    Without `log` both may hold losses of zero or less.
    """
    if len(seen) < max(law.minimum_rows, len(law.parameters) + 2):
        return f"{len(seen)} rows to fit {law.name}"
    columns = {name: np.asarray(seen[name], float) for name in law.variables}
    for name, column in columns.items():
        if np.ptp(column) <= 1e-3 * np.abs(column).max() and name in ("N", "D", "C"):
            return f"one {name} only"
    if not (log or law.signed):
        return "the law is positive, and the losses are not: one such as vocabulary is"
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
        best = scaled(law.loss(found.design.to_parameters(found.best), **ahead), log)
        draws = scaled(law.loss(found.design.to_parameters(found.draws), **ahead), log)
    if not np.isfinite(best).all():
        return "its prediction is no positive number"
    residuals = found.design.predict(found.best[None], log)[0] - scaled(seen["L"], log)
    num, groups = len(law.parameters), len(np.unique(seen["group"]))
    return Ahead(best, draws, intervals.Spread(intervals.noise_scale(residuals, num), groups, num))


def _test(law: Law, ahead: Ahead | str, measured: np.ndarray, level: float | None) -> Scored:
    """Score `ahead` by what was measured [rows]; without a `level` there are no intervals."""
    if isinstance(ahead, str):
        return Scored(law.name, np.array([]), refused=ahead)
    if level is None:
        return Scored(law.name, ahead.best - measured)
    low, high = ahead.interval(level)
    return Scored(law.name, ahead.best - measured, low - measured, high - measured)
