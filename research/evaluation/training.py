"""The family's scores on the training data: what it learned by heart is the gap to validation's."""

from typing import Any

from research.evaluation import validation
from research.evaluation.intervals import Estimate

SPLIT = "train"


def score_kinds(config: Any) -> dict[str, dict[str, str]]:
    return {f"training_{name}": kind for name, kind in validation.score_kinds(config).items()}


def update(config: Any, params: Any, batch: dict, key: Any) -> dict[str, dict[str, Any]]:
    return validation.update(config, params, batch, key)


def finish(config: Any, sums: dict[str, dict[str, float]]) -> dict[str, float | Estimate]:
    found = validation.finish(config, sums)
    return {f"training_{name}": value for name, value in found.items()}
