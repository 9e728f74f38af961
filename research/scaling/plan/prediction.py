"""What a fitted law says of runs that are not there yet, with intervals and how far away they are.

Like plan/budget.py it reads what `fit` wrote (laws.json) and nothing else.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from research import numbers as say
from research.errors import UserError, nearest
from research.scaling.doubt import reach
from research.scaling.doubt.support import OPTIONS
from research.scaling.laws import Law
from research.scaling.plan.fitted import Ends, FittedLaw, read_law

# A run this many times off what N and D cost, or off the line of the fitted runs, is said to be.
OFF = 1.5


@dataclass(frozen=True)
class Prediction:
    """What a law says of each of `columns` (variable -> [rows]): its `loss` [rows].

    `loss_interval` [2, rows] is that of the law there, `run_interval` of a new run's loss (the
    law's error and one run's noise), both at `level` and made as `method` says; None without
    draws. `beyond` are the decades [rows] by which N, D, C and what else the law reads pass the
    fitted runs: above 0 past the largest, below 0 short of the smallest.
    """

    law: str
    target: str
    level: float
    columns: Mapping[str, np.ndarray]
    loss: np.ndarray
    loss_interval: Ends
    run_interval: Ends
    beyond: Mapping[str, np.ndarray]
    data_unit: str
    loss_unit: str
    method: str
    warnings: list[str] = field(default_factory=list)
    fit_warnings: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """One entry a row in `predictions`, floats in full precision; of one row also its loss."""
        ends = {"loss_interval": self.loss_interval, "run_interval": self.run_interval}
        rows = []
        for k, value in enumerate(self.loss):
            row: dict[str, Any] = {name: float(v[k]) for name, v in self.columns.items()}
            row["prediction"] = float(value)
            row |= {name: None if e is None else e[:, k].tolist() for name, e in ends.items()}
            row["decades_beyond"] = {name: float(v[k]) for name, v in self.beyond.items()}
            rows.append(row)
        names = ("law", "target", "level", "method", "data_unit", "loss_unit")
        content = {name: getattr(self, name) for name in (*names, "warnings", "fit_warnings")}
        if len(rows) == 1:
            content |= {"loss": rows[0]["prediction"], **{name: rows[0][name] for name in ends}}
        return {**content, "predictions": rows}


def predict(
    content: dict[str, Any],
    given: Mapping[str, np.ndarray | float],
    *,
    own: Law | None = None,
    anyway: bool = False,
    numbers: Sequence[int] | None = None,
) -> Prediction:
    """Predict the runs `given` (variable -> number or [rows]) by the law that `fit` wrote.

    Of N, D and C two give the third as the fitted table counted FLOPs. `own` is the law itself
    where it is not one of ours, `numbers` [rows] are those that people count the rows by.

    Raises:
        UserError: the law was refused, lacks a variable or does not read one; or, without
            `anyway`, a run is too far from those that were fitted (check 13).
    """
    fitted = read_law(content, own)
    columns, warnings = _completed(fitted, _rows(given))
    known = ("N", "D", "C", *fitted.law.variables)
    columns = {name: columns[name] for name in dict.fromkeys(known) if name in columns}
    if not anyway:
        _refuse_far(fitted, columns, numbers)
    reads = {name: columns[name] for name in fitted.law.variables}
    with np.errstate(all="ignore"):
        loss = np.broadcast_to(
            fitted.law.loss(fitted.point, **reads), reads[fitted.law.variables[0]].shape
        )
        drawn = fitted.law.loss(fitted.draws, **reads)
    valid = np.isfinite(loss) & ((loss > 0) | (not fitted.spread.log))
    if not valid.all():
        where = ", ".join(f"{name} = {v[valid.argmin()]:g}" for name, v in reads.items())
        raise UserError(f"the law {fitted.law.name!r} has no value at {where}")
    beyond = reach.beyond(fitted.ranges, columns)
    law_ends, run_ends = fitted.loss_intervals(loss, drawn)
    return Prediction(
        law=fitted.law.name,
        target=fitted.law.target,
        level=fitted.level,
        columns=columns,
        loss=loss,
        loss_interval=law_ends,
        run_interval=run_ends,
        beyond=beyond,
        data_unit=fitted.data_unit,
        loss_unit=fitted.loss_unit,
        method=fitted.method,
        warnings=warnings + fitted.doubts(beyond),
        fit_warnings=fitted.warnings,
    )


def _rows(given: Mapping[str, np.ndarray | float]) -> dict[str, np.ndarray]:
    """Every column as an array [rows] of one length."""
    arrays = np.broadcast_arrays(*(np.atleast_1d(np.asarray(v, float)) for v in given.values()))
    return dict(zip(given, arrays, strict=True))


def _completed(
    fitted: FittedLaw, given: dict[str, np.ndarray]
) -> tuple[dict[str, np.ndarray], list[str]]:
    """`given` with what follows: N, D or C from the other two or from the ladder, and U = D."""
    law, model = fitted.law, fitted.model
    for name in given:
        if name not in law.variables and name not in ("N", "D", "C"):
            near = nearest(name, law.variables)
            option = OPTIONS.get(name, f"--set {name}")
            known = ", ".join(law.variables)
            raise UserError(f"{option}: the law {law.name!r} reads only {known}{near}")
    found, warnings = dict(given), []
    sizes = {"N", "D", "C"} & set(found)
    ladder = fitted.ladder
    if len(sizes) == 1 and ladder is not None and len(law.variables) == 1:
        if "C" in sizes:
            found["N"] = ladder.params_for(found["C"], model)
        elif "D" in sizes:
            found["N"] = ladder.params(found["D"])
        found.setdefault("D", ladder.data(found["N"]))
        warnings.append(f"{ladder.said}, as in every run that was fitted")
    if {"N", "D"} <= set(found):
        cost = model.flops(found["N"], found["D"])
        off = np.abs(np.log(found.setdefault("C", cost) / cost))
        if off.max() > np.log(OFF):
            times = float((found["C"] / cost)[off.argmax()])
            warnings.append(f"the FLOPs are {times:.3g} times what these N and D took in the fit")
    elif {"N", "C"} <= set(found):
        found["D"] = model.data(found["C"], found["N"])
    elif {"D", "C"} <= set(found):
        found["N"] = model.params(found["C"], found["D"])
    if "U" in law.variables and "U" not in found and "D" in found:
        found["U"] = found["D"]
        warnings.append("data seen once (U = D): --unique says otherwise")
    lacking = [name for name in law.variables if name not in found]
    if lacking:
        raise UserError(f"the law {law.name!r} reads {lacking[0]}: give {_how(lacking[0])}")
    return found, warnings


def _how(name: str) -> str:
    """The option that gives a variable."""
    also = {"N": ", or --data and --flops", "D": ", or --params and --flops"}
    also["C"] = ", or --params and --data"
    return OPTIONS.get(name, f"--set {name}=VALUE") + also.get(name, "")


def _refuse_far(
    fitted: FittedLaw, columns: Mapping[str, np.ndarray], numbers: Sequence[int] | None
) -> None:
    """Check 13 of every row, and the line of runs whose law knows only one."""
    rows = (dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True))
    reasons = [fitted.too_far(row) or _off_ladder(fitted, row) for row in rows]
    bad = [k for k, reason in enumerate(reasons) if reason]
    if bad:
        where = "" if numbers is None else f"{say.rows(numbers[k] for k in bad)}: "
        raise UserError(f"{where}{reasons[bad[0]]}; --anyway predicts it nevertheless")


def _off_ladder(fitted: FittedLaw, row: Mapping[str, float]) -> str | None:
    law, ladder = fitted.law, fitted.ladder
    if ladder is None or len(law.variables) != 1 or not {"N", "D"} <= set(row):
        return None
    off = row["D"] / float(ladder.data(np.asarray(row["N"])))
    if abs(np.log(off)) <= np.log(OFF):
        return None
    return (
        f"D is {off:.3g} times what it was at this size ({ladder.said} in every run fitted), and"
        f" the law {law.name!r} knows no other: runs off that line would teach it"
    )
