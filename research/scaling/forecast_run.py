"""Forecasts of runs to come by the law of those there are, and what became of them.

A forecast is written before its run begins, with the rows that it rests on as a digest, and it is
never taken back: runs that fail or diverge miss, and so does one outside its interval.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from research import cost, data
from research.errors import UserError
from research.run import alone, files, record
from research.scaling import forecast_ledger
from research.scaling.coverage import binomial
from research.scaling.doubt.signs import law_for, objective_for
from research.scaling.fit import LawFit, fit_law
from research.scaling.forecast_ledger import Forecast
from research.scaling.frontier import fit_frontier
from research.scaling.laws import CHINCHILLA, FRONTIER
from research.scaling.table import Table

LEVEL, DRAWS = 0.95, 1000
LAWS = (CHINCHILLA.name, FRONTIER.name)


@dataclass(frozen=True)
class Ahead:
    """A run to come: its id, its part, and what it is to cost.

    N, D and C are counted as those of finished runs are.
    """

    id: str
    part: str
    n: float
    d: float
    c: float


@dataclass(frozen=True)
class Outcome:
    """A forecast and what was measured.

    Attributes:
        status: "finished", "to come" where the run has not begun, or why it counts as a miss.
    """

    said: Forecast
    status: str
    measured: float = math.nan

    @property
    def hit(self) -> bool | None:
        """Whether the measurement lies in the interval; None where there is none yet."""
        if self.status == "to come":
            return None
        return self.status == "finished" and (
            self.said["low"] <= self.measured <= self.said["high"]
        )

    @property
    def error(self) -> str:
        """What was said over what was measured, less one; less it where zero means nothing."""
        said, measured = self.said["prediction"], self.measured
        if min(said, measured) > 0:
            return f"{said / measured - 1:+.2%}"
        return f"{said - measured:+.4f}"


def ahead(trial: str, config: ConfigDict, counted: str) -> Ahead:
    """What the run `trial` will be, N by the count that is named `counted`."""
    ledger, steps = cost.ledger(config), config.train.steps
    sizes = {
        "total": ledger.total_params,
        "active": ledger.active_params,
        "non_embedding": ledger.non_embedding_params,
    }
    examples = steps * config.train.batch_size
    amount = examples * data.outline(config.data)["amount"]
    return Ahead(trial, config.part, sizes[counted], amount, steps * ledger.step_flops)


def check_ahead(folder: Path, trial: str) -> None:
    """Raise UserError for a run that has begun, of which nothing is a forecast any more."""
    if any((folder / trial / name).exists() for name in (files.RESULT, files.PROVENANCE)):
        raise UserError(
            f"{folder / trial}: this run has begun, and what is said of it now is no forecast; "
            "forecast before it is swept"
        )


def fitted(table: Table, law: str | None = None) -> LawFit:
    """The law in size and data of `table`, or of compute where that is refused, or is `law`.

    Raises:
        UserError: no law can be had of these runs, with the reason of each.
    """
    reasons = []
    for name in (law,) if law else LAWS:
        options: dict[str, Any] = dict(
            bootstrap=DRAWS, level=LEVEL, objective=objective_for(None, table)
        )
        try:
            if name == FRONTIER.name:
                found = fit_frontier(table, **options)
            else:
                found = fit_law(table, law_for(CHINCHILLA, table), **options)
        except UserError as error:
            reasons.append(f"{name}: {error}")
            continue
        if not found.refused:
            return found
        reasons.append(f"{name}: {found.refused}")
    raise UserError(f"no law forecasts {table.source}: {'; '.join(reasons)}")


def forecast(fit: LawFit, table: Table, run: Ahead) -> dict[str, Any]:
    """The record of what `fit` says of `run`: the loss of one run, its noise in the interval.

    However far the run is: whether a law may be trusted so far (check 13) is what is found out.

    Raises:
        UserError: the run is no larger than those that were fitted.
    """
    largest = float(table["C"].max())
    if run.c <= largest:
        raise UserError(
            f"{run.id} takes {run.c:.3g} FLOPs, no more than the {largest:.3g} of the runs that "
            "the law was fitted to; expected a larger one"
        )
    given = {"N": run.n, "D": run.d, "C": run.c}
    variables: dict[str, Any] = {name: np.array([given[name]]) for name in fit.law.variables}
    try:
        fit.predict(**variables)
        reach = True
    except UserError:
        reach = False
    low, high = fit.predict_interval(noise=True, anyway=True, **variables)[:, 0]
    return {
        "trial": run.id,
        "part": run.part,
        "params": run.n,
        "data": run.d,
        "flops": run.c,
        "times": run.c / largest,
        "law": fit.law.name,
        "prediction": float(fit.predict(anyway=True, **variables)[0]),
        "low": float(low),
        "high": float(high),
        "level": fit.level,
        "reach": reach,
        "unit": fit.loss_unit,
        "kind": str(table.frame["score_kind"].iloc[0]) if "score_kind" in table.frame else "",
        "runs": len(table),
        "source": table.source,
        "table": hashlib.sha256(table.frame.to_csv(index=False).encode()).hexdigest(),
        "code": record.code(),
        "at": record.now(),
    }


def read(folder: Path) -> list[Forecast]:
    """The forecasts of `folder`, oldest first; none where there is no ledger.

    Raises:
        UserError: the ledger was changed, or a line says less than a forecast, or is of a time
            before the one above it.
    """
    path = folder / forecast_ledger.FILE
    if not path.exists():
        return []
    try:
        text = path.read_text()
    except UnicodeDecodeError:
        raise UserError(f"{path} is not UTF-8, so it is no ledger of forecasts") from None
    found: list[Forecast] = []
    for number, each in enumerate(forecast_ledger.parse(text, str(path)), 1):
        found.append(record.held_to(Forecast, each, f"{path}: line {number}"))
        if number > 1 and each["at"] < found[-2]["at"]:
            raise UserError(
                f"{path}: line {number} is of {each['at']}, before the one above it, of "
                f"{found[-2]['at']}"
            )
    return found


def append(folder: Path, records: Sequence[dict[str, Any]]) -> list[Forecast]:
    """Add forecasts to the ledger of `folder`, and return all; what is there stays as it is.

    Raises:
        UserError: the ledger was changed, one of the runs has begun, or it has its forecast.
    """
    path = folder / forecast_ledger.FILE
    with alone.lock(folder, "forecasts", f"writing {path}"):
        known = read(folder)
        text = path.read_text() if known else ""
        former = {each["trial"] for each in known}
        last = known[-1]["hash"] if known else forecast_ledger.FIRST
        for each in records:
            if each["trial"] in former:
                raise UserError(f"{path}: {each['trial']} has its forecast already, which stays")
            check_ahead(folder, each["trial"])
            text += forecast_ledger.line(each, last)
            last = forecast_ledger.chained({**each, "previous": last})
        record.write_text(path, text)
    return read(folder)


def outcomes(folder: Path) -> list[Outcome]:
    """Every forecast of `folder` and what became of it.

    Raises:
        UserError: there are none, or the ledger was changed.
    """
    found = [_outcome(folder, each) for each in read(folder)]
    if not found:
        path = folder / forecast_ledger.FILE
        raise UserError(f"{path}: no forecasts; `python -m research forecast` makes them")
    return found


def _outcome(folder: Path, said: Forecast) -> Outcome:
    """A run that cannot be shown to be later than its forecast, or has no end, is a miss."""
    run = folder / said["trial"]
    began, ended = (run / files.PROVENANCE).exists(), (run / files.RESULT).exists()
    if not began:
        return Outcome(said, "of no known beginning" if ended else "to come")
    if (at := files.read_provenance(run)["started_at"]) <= said["at"]:
        return Outcome(said, f"began at {at}, not after its forecast")
    if not ended:
        return Outcome(said, "not ended")
    result = record.read_json(run / files.RESULT, dict[str, Any])
    score = result.get("score") or {}
    if result["status"] != "finished" or score.get("value") is None:
        return Outcome(said, str(result["status"]))
    for key in ("unit", "kind"):
        if score.get(key) != said[key]:
            return Outcome(said, f"scored in another {key}, {score.get(key)!r}")
    return Outcome(said, "finished", float(score["value"]))


def covered(found: Sequence[Outcome]) -> tuple[int, int, float, float]:
    """How many of the forecasts that are over hit, of how many, and the share's 95% interval.

    A run that failed, diverged or has no end is over, and a miss.
    """
    over = [each for each in found if each.hit is not None]
    if not over:
        return 0, 0, 0.0, 1.0
    hits = sum(bool(each.hit) for each in over)
    low, high = binomial(np.array([hits / len(over)]), len(over))
    return hits, len(over), float(low[0]), float(high[0])
