"""How far a model lies above the truth, where the source of the data knows it, example by example.

It is the family's own bits less -log2 of the true probability, of each batch: the divergence
KL(truth || model), a dimension or a token, in expectation. What examples happen to be harder than
others drops out, so that it is far less noisy than a loss against the entropy. Of an upper bound of
the likelihood it is an upper bound of the divergence. Its 95% interval is by batches.
"""

import math
from typing import Any

from research import evaluation
from research.data import sources, truth
from research.evaluation import batch_bits, validation
from research.evaluation.intervals import Estimate


def check(config: Any, spec: dict[str, Any]) -> None:
    """Raise UserError for data without a truth, or a score that is no bits of a likelihood."""
    del spec
    truth.known(config.data, "config.evaluation.evaluators: 'excess'")
    batch_bits.check(config, "excess")


def score_kinds(config: Any) -> dict[str, dict[str, str]]:
    """Of an exact score an estimate of the divergence, by examples; of a bound one above it."""
    about = next(iter(batch_bits.kinds(config).values()))
    kind = "estimate" if about["kind"] == "exact" else about["kind"]
    return {"excess": {"unit": about["unit"], "kind": kind, "better": "lower"}}


def measure(config: Any, params: Any) -> dict[str, Estimate]:
    """The mean over the validation examples of a run, with the interval of batches."""
    source, name = sources.load(config.data.name), next(iter(batch_bits.kinds(config)))
    totals, counts, examples = [], [], 0
    for found, batch in evaluation.statistics(config, params, validation):
        real = batch["mask"] > 0
        given = batch["image" if "image" in batch else "tokens"][real]
        nats = source.log_probability(config.data, given).sum()
        totals.append(found[name]["total"] + float(nats) / math.log(2))
        counts.append(found[name]["count"])
        examples += int(real.sum())
    return {"excess": batch_bits.ratio(totals, counts, examples)}
