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
    """A forecast and what was measured; `status` is "to come" where nothing has been yet."""

    said: dict[str, Any]
    status: str
    measured: float

    @property
    def hit(self) -> bool | None:
        """Whether the measurement lies in the interval; None where there is none yet."""
        if self.status == "to come":
            return None
        return self.said["low"] <= self.measured <= self.said["high"]

    @property
    def error(self) -> float:
        """What was said over what was measured, less one."""
        return self.said["prediction"] / self.measured - 1


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
    given = {name: np.array([given[name]]) for name in fit.law.variables}
    low, high = fit.predict_interval(noise=True, anyway=True, **given)[:, 0]
    return {
        "trial": run.id,
        "part": run.part,
        "params": run.n,
        "data": run.d,
        "flops": run.c,
        "times": run.c / largest,
        "law": fit.law.name,
        "prediction": float(fit.predict(anyway=True, **given)[0]),
        "low": float(low),
        "high": float(high),
        "level": fit.level,
        "unit": fit.loss_unit,
        "runs": len(table),
        "source": table.source,
        "table": hashlib.sha256(table.frame.to_csv(index=False).encode()).hexdigest(),
        "code": record.code(),
        "at": record.now(),
    }


def append(folder: Path, records: Sequence[dict[str, Any]]) -> None:
    """Add forecasts to the ledger of `folder`; what is there stays as it is.

    Raises:
        UserError: the ledger was changed, one of the runs has begun, or it has its forecast.
    """
    path = folder / forecast_ledger.FILE
    with alone.lock(folder, "forecasts", f"writing {path}"):
        text = path.read_text() if path.exists() else ""
        known = forecast_ledger.parse(text, str(path))
        former = {each["trial"] for each in known}
        last = known[-1]["hash"] if known else forecast_ledger.FIRST
        for each in records:
            if each["trial"] in former:
                raise UserError(f"{path}: {each['trial']} has its forecast already, which stays")
            check_ahead(folder, each["trial"])
            text += forecast_ledger.line(each, last)
            last = forecast_ledger.chained(each, last)
        record.write_text(path, text)


def outcomes(folder: Path) -> list[Outcome]:
    """Every forecast of `folder` and what became of it.

    Raises:
        UserError: there are none, the ledger was changed, or a run began no later than it was
            forecast.
    """
    path = folder / forecast_ledger.FILE
    if not path.exists():
        raise UserError(f"{path}: no forecasts; `python -m research forecast` makes them")
    return [_outcome(folder, each) for each in forecast_ledger.parse(path.read_text(), str(path))]


def _outcome(folder: Path, said: dict[str, Any]) -> Outcome:
    run = folder / said["trial"]
    if (run / files.PROVENANCE).exists():
        began = files.read_provenance(run)["started_at"]
        if began <= said["at"]:
            raise UserError(
                f"{run} began at {began}, not after its forecast at {said['at']}: it is none"
            )
    if not (run / files.RESULT).exists():
        return Outcome(said, "to come", math.nan)
    result = record.read_json(run / files.RESULT, dict[str, Any])
    value = (result.get("score") or {}).get("value")
    measured = math.nan if value is None else float(value)
    return Outcome(said, result["status"], measured)


def covered(found: Sequence[Outcome]) -> tuple[int, int, float, float]:
    """How many of the forecasts that are over hit, of how many, and the share's 95% interval.

    A run that failed or diverged is over, and a miss.
    """
    over = [each for each in found if each.hit is not None]
    hits = sum(bool(each.hit) and each.status == "finished" for each in over)
    if not over:
        return 0, 0, 0.0, 1.0
    low, high = binomial(np.array([hits / len(over)]), len(over))
    return hits, len(over), float(low[0]), float(high[0])
