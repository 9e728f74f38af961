"""What a family scores of each validation batch, and means of it with their errors."""

import math
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from research import data, families, processes, programs
from research.evaluation import intervals
from research.evaluation.intervals import Estimate

BOUNDING = ("exact", "upper bound")


def kinds(config: Any) -> dict[str, dict[str, str]]:
    """The family's scores that are bits which the likelihood costs, or a bound of them."""
    found = families.load(config.family).score_kinds(config)
    main = next(iter(found.values()))
    return {
        name: kind
        for name, kind in found.items()
        if kind["kind"] in BOUNDING and kind["unit"] == main["unit"] and main["unit"][:4] == "bits"
    }


def scored(config: Any, params: Any) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Every batch of `evaluation.examples`, and {score: {"total", "count"}} of its examples."""
    program, size = programs.build(config), config.evaluation.batch_size
    score = program.judge(families.load(config.family).score)
    held = data.load(config.data, "validation")
    for index, batch in enumerate(data.eval_batches(held, size, config.evaluation.examples)):
        key = jax.random.fold_in(jax.random.key(0), index)
        found = score(params, processes.place(program.batch, batch, size), key)
        yield batch, jax.tree.map(float, found)


def ratio(totals: Any, counts: Any, examples: int) -> Estimate:
    """sum(totals) / sum(counts) of batches, with the jackknife's error; none of one batch."""
    totals, counts = np.asarray(totals, np.float64), np.asarray(counts, np.float64)

    def without(group: int) -> float:
        return float((totals.sum() - totals[group]) / (counts.sum() - counts[group]))

    error = intervals.jackknife(without, len(totals)) if len(totals) > 1 else math.inf
    return intervals.around(float(totals.sum() / counts.sum()), error, examples)
