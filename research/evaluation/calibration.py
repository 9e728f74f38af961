"""Whether the network is right as often as it is sure: of its likeliest next token, in 15 bins.

The expected calibration error (Guo et al. 2017, equation 3) is the mean distance of confidence, the
probability of the likeliest token, and accuracy, of bins of equal width in confidence, each by the
tokens that it holds. It is an estimate: bins of few tokens are off by chance.
"""

from typing import Any

import jax
import numpy as np
from jax import numpy as jnp

from research.evaluation import likelihood

BINS = 15


def check(config: Any, spec: dict[str, Any]) -> None:
    likelihood.check(config, spec, "calibration", ("network", "head"))


def score_kinds(config: Any) -> dict[str, dict[str, str]]:
    return {
        "calibration_error": {"unit": "probability", "kind": "estimate", "better": "lower"},
        "accuracy": {"unit": "share of tokens", "kind": "exact", "better": "higher"},
        "confidence": {"unit": "probability", "kind": "exact", "better": "higher"},
    }


def update(config: Any, params: Any, batch: dict, key: Any) -> dict[str, jax.Array]:
    """{"confidence", "right", "count"} of one batch, sums over the tokens of each bin, [BINS]."""
    del key
    logits_BxLxV = likelihood.logits(config, params, batch)
    sure_BxL = jnp.exp(logits_BxLxV.max(-1) - jax.nn.logsumexp(logits_BxLxV, -1))
    right_BxL = logits_BxLxV.argmax(-1) == batch["tokens"][:, 1:]
    # Bin b holds confidences in (b, b + 1] / BINS, as Guo et al. have it.
    bin_BxL = jnp.clip(jnp.ceil(sure_BxL * BINS) - 1, 0, BINS - 1)
    weight_BxLxN = likelihood.weights(batch)[..., None] * (bin_BxL[..., None] == jnp.arange(BINS))
    each = {"confidence": sure_BxL, "right": right_BxL, "count": jnp.ones_like(sure_BxL)}
    return {name: (x[..., None] * weight_BxLxN).sum((0, 1)) for name, x in each.items()}


def finish(config: Any, sums: dict[str, Any]) -> dict[str, float]:
    count = sums["count"].sum()
    return {
        "calibration_error": float(np.abs(sums["right"] - sums["confidence"]).sum() / count),
        "accuracy": float(sums["right"].sum() / count),
        "confidence": float(sums["confidence"].sum() / count),
    }
