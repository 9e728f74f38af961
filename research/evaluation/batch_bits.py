"""Bits that a likelihood costs, or a bound of them, as a family scores them batch by batch."""

import math
from typing import Any

import numpy as np

from research import families
from research.errors import UserError
from research.evaluation import intervals
from research.evaluation.intervals import Estimate

KINDS = ("exact", "upper bound")


def kinds(config: Any) -> dict[str, dict[str, str]]:
    """The family's scores that are such bits, in the unit of its main one."""
    found = families.load(config.family).score_kinds(config)
    main = next(iter(found.values()))
    return {
        name: kind
        for name, kind in found.items()
        if kind["kind"] in KINDS and kind["unit"] == main["unit"] and main["unit"][:4] == "bits"
    }


def check(config: Any, name: str) -> None:
    """Raise UserError where evaluator `name` finds a main score that is no such bits."""
    main, about = next(iter(families.load(config.family).score_kinds(config).items()))
    if main not in kinds(config):
        raise UserError(
            f"config.evaluation.evaluators: {name!r} needs bits that are exact or an upper bound; "
            f"config.family={config.family!r} scores {about['unit']}, {about['kind']}"
        )


def ratio(totals: Any, counts: Any, examples: int) -> Estimate:
    """sum(totals) / sum(counts) of batches, with the jackknife's error; none of one batch."""
    totals, counts = np.asarray(totals, np.float64), np.asarray(counts, np.float64)

    def without(group: int) -> float:
        return float((totals.sum() - totals[group]) / (counts.sum() - counts[group]))

    error = intervals.jackknife(without, len(totals)) if len(totals) > 1 else math.inf
    return intervals.around(float(totals.sum() / counts.sum()), error, examples)
