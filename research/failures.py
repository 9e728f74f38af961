"""Ways in which a run comes to its end and has failed all the same, each a limit with a name.

A family, or an evaluator, has `limits(config) -> {failure: Limit}`: what of a run's scores or rows
must lie where, or its network has collapsed, blown up or stopped to mix. A run beyond one of them
has the status "failed": it says in its result.json what it measured and why that is a failure, and
is left out of fits, which say so. One whose loss is no number any more has failed by the name
"not_finite".
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from research import evaluation, families

WINDOW = 0.1  # of a run's rows, its last ones, of which the median counts
NOT_FINITE = "not_finite"


class Limit(NamedTuple):
    """Where a measure must lie, ends included.

    Attributes:
        measure: a score of the run, or a column of its rows.
        means: what it is to be beyond, as words for a reader.
        low, high: the ends.
    """

    measure: str
    means: str
    low: float = -math.inf
    high: float = math.inf


def limits(config: Any) -> dict[str, Limit]:
    """The limits that the family and the evaluators of `config` set, by the failure's name."""
    owners = families.load(config.family), *map(evaluation.load, config.evaluation.evaluators)
    found: dict[str, Limit] = {}
    for owner in owners:
        found |= owner.limits(config) if hasattr(owner, "limits") else {}
    return found


def found(
    config: Any, rows: Sequence[Mapping[str, Any]], scores: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """The failures of a run that has ended, {name: {"measure", "value", "low", "high", "reason"}}.

    A measure that the run does not have, as it was not asked for, says nothing.
    """
    failures = {}
    for name, limit in limits(config).items():
        value = measured(limit.measure, rows, scores)
        if value is None or limit.low <= value <= limit.high:
            continue
        side = f"above {limit.high:g}" if value > limit.high else f"below {limit.low:g}"
        said = side if math.isfinite(value) else "no number"
        failures[name] = {
            "measure": limit.measure,
            "value": value if math.isfinite(value) else None,
            "low": limit.low if math.isfinite(limit.low) else None,
            "high": limit.high if math.isfinite(limit.high) else None,
            "reason": f"{limit.means}: {limit.measure} is {value:.3g}, {said}",
        }
    return failures


def measured(
    measure: str, rows: Sequence[Mapping[str, Any]], scores: Mapping[str, Mapping[str, Any]]
) -> float | None:
    """The value of a score, or the median of a column over the last rows; None without either."""
    if measure in scores:
        return scores[measure]["value"]
    column = [row[measure] for row in rows if row.get(measure) is not None]
    return float(np.median(column[-max(1, round(WINDOW * len(column))) :])) if column else None


def not_finite(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The failure of a run whose loss, or whose score, was no number."""
    at = f" at step {rows[-1]['step']}" if rows else ""
    reason = f"the loss or the score was no finite number{at}"
    nothing = dict.fromkeys(("value", "low", "high"))
    return {NOT_FINITE: {"measure": "loss", **nothing, "reason": reason}}
