"""Bits by source: what the text of each source of a mixture costs.

Batches of a mixture say in "source", int32 [B], where each example is from, and its spec has
"source_names", whose places those numbers are.
"""

from typing import Any

import jax
import numpy as np
from jax import numpy as jnp

from research.data import sources
from research.errors import UserError
from research.evaluation import likelihood


def check(config: Any, spec: dict[str, Any]) -> None:
    likelihood.check(config, spec, "by_source")
    if "source_names" not in spec:
        raise UserError(
            "config.evaluation.evaluators: 'by_source' needs a mixture; "
            f"config.data.name={config.data.name!r} is one source, which 'validation' scores"
        )


def score_kinds(config: Any) -> dict[str, dict[str, str]]:
    kind = {"unit": likelihood.unit(config), "kind": "exact", "better": "lower"}
    return {f"source_{name}": kind for name in _names(config)}


def update(config: Any, params: Any, batch: dict, key: Any) -> dict[str, jax.Array]:
    """{"total": bits, "count": bytes or tokens} of one batch by source, [sources] each."""
    del key
    nats_BxL = likelihood.nats(config, params, batch) * likelihood.weights(batch)
    total_B, count_B = nats_BxL.sum(1) / jnp.log(2.0), likelihood.counts(config, batch).sum(1)
    from_BxS = batch["source"][:, None] == jnp.arange(len(_names(config)))
    return {"total": total_B @ from_BxS, "count": count_B @ from_BxS}


def finish(config: Any, sums: dict[str, Any]) -> dict[str, float]:
    with np.errstate(invalid="ignore"):  # a source that none of the examples is from has no score
        bits_S = sums["total"] / sums["count"]
    return dict(zip(score_kinds(config), map(float, bits_S), strict=True))


def _names(config: Any) -> list[str]:
    return list(sources.load(config.data["name"]).outline(config.data)["source_names"])
