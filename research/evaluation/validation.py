"""The family's own scores on validation data, each the summed quantity over its count.

One that is itself an estimate, by random times or draws, says with "variance" how much of its total
is chance: the score then has an interval, of what endless draws on the same examples would give.
"""

from typing import Any

from research import families
from research.evaluation.intervals import Estimate, Z


def score_kinds(config: Any) -> dict[str, dict[str, str]]:
    return families.load(config.family).score_kinds(config)


def update(config: Any, params: Any, batch: dict, key: Any) -> dict[str, dict[str, Any]]:
    """{name: {"total", "count"}} of one batch, and "variance" where a total is an estimate."""
    return families.load(config.family).score(config, params, batch, key)


def finish(config: Any, sums: dict[str, dict[str, float]]) -> dict[str, float | Estimate]:
    return {name: _score(**each) for name, each in sums.items()}


def _score(total: float, count: float, variance: float | None = None) -> float | Estimate:
    value = float(total / count)
    if variance is None:
        return value
    half = Z * float(variance) ** 0.5 / float(count)
    return Estimate(value, (value - half, value + half))
