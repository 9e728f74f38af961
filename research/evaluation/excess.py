"""How far a model lies above the truth, where the source of the data knows it, example by example.

It is the family's own bits less -log2 of the true probability, of each batch: the divergence
KL(truth || model), a dimension or a token, in expectation. What examples happen to be harder than
others drops out, so that it is far less noisy than a loss against the entropy. Of an upper bound of
the likelihood it is an upper bound of the divergence. Its 95% interval is by batches.
"""

import math
from typing import Any

import jax
import numpy as np

from research import data, families, processes, programs
from research.data import sources
from research.errors import UserError
from research.evaluation import intervals
from research.evaluation.intervals import Estimate

KINDS = ("exact", "upper bound")


def check(config: Any, spec: dict[str, Any]) -> None:
    """Raise UserError for data without a truth, or a score that is no bits of a likelihood."""
    del spec
    where = "config.evaluation.evaluators: 'excess'"
    if not hasattr(sources.load(config.data.name), "log_probability"):
        known = [n for n in sources.SOURCES if hasattr(sources.load(n), "log_probability")]
        raise UserError(
            f"{where} asks for the true probability of examples, which config.data.name="
            f"{config.data.name!r} does not know; nearest valid: {', '.join(known)}"
        )
    name, kind = _main(config)
    if kind["kind"] not in KINDS or not kind["unit"].startswith("bits"):
        raise UserError(
            f"{where} needs bits that are exact or an upper bound; config.family="
            f"{config.family!r} scores {name}, {kind['unit']}, {kind['kind']}"
        )


def _main(config: Any) -> tuple[str, dict[str, str]]:
    return next(iter(families.load(config.family).score_kinds(config).items()))


def score_kinds(config: Any) -> dict[str, dict[str, str]]:
    """Of an exact score an estimate of the divergence, by examples; of a bound one above it."""
    _, about = _main(config)
    kind = "estimate" if about["kind"] == "exact" else about["kind"]
    return {"excess": {"unit": about["unit"], "kind": kind, "better": "lower"}}


def measure(config: Any, params: Any) -> dict[str, Estimate]:
    """The mean over the validation examples of a run, with the interval of batches."""
    program, size, (name, _) = programs.build(config), config.evaluation.batch_size, _main(config)
    score = program.judge(families.load(config.family).score)
    held, truth = data.load(config.data, "validation"), sources.load(config.data.name)
    totals, counts, examples = [], [], 0
    for index, batch in enumerate(data.eval_batches(held, size, config.evaluation.examples)):
        key, real = jax.random.fold_in(jax.random.key(0), index), batch["mask"] > 0
        found = score(params, processes.place(program.batch, batch, size), key)[name]
        given = batch["image" if "image" in batch else "tokens"][real]
        nats = truth.log_probability(config.data, given).sum()
        totals.append(float(found["total"]) + float(nats) / math.log(2))
        counts.append(float(found["count"]))
        examples += int(real.sum())
    return {"excess": ratio(np.array(totals), np.array(counts), examples)}


def ratio(totals: np.ndarray, counts: np.ndarray, examples: int) -> Estimate:
    """sum(totals) / sum(counts) of batches, with the jackknife's error; none of one batch."""

    def without(group: int) -> float:
        return float((totals.sum() - totals[group]) / (counts.sum() - counts[group]))

    error = intervals.jackknife(without, len(totals)) if len(totals) > 1 else math.inf
    return intervals.around(float(totals.sum() / counts.sum()), error, examples)
