"""How many codes a family uses on validation data: exp of the entropy of which one a place has.

It is at most the number of codes, when all are used evenly (van den Oord et al. 2017), and as many
bits as its logarithm would do for a code by itself, where log2 of their number are paid.
"""

from typing import Any

import numpy as np
from jax import numpy as jnp

from research import families
from research.errors import UserError


def check(config: Any, spec: dict[str, Any]) -> None:
    """Raise UserError for a family without codes, or with a bottleneck that has none."""
    del spec
    family = families.load(config.family)
    if not hasattr(family, "codes") or not family.symbols(config):
        raise UserError(
            f"config.evaluation.evaluators: 'codebook' counts codes, and config.family="
            f"{config.family!r} has none here; 'autoencoder' with config.model.bottleneck='vq' has"
        )


def score_kinds(config: Any) -> dict[str, dict[str, str]]:
    """The perplexity of the codes."""
    del config
    return {"perplexity": {"unit": "codes", "kind": "exact", "better": "higher"}}


def update(config: Any, params: Any, batch: dict, key: Any) -> Any:
    """How many places of the batch's examples have each code, [V]."""
    del key
    family = families.load(config.family)
    code_BxHxW = family.codes(config, params, batch["image"])
    weight = jnp.broadcast_to(batch["mask"][:, None, None], code_BxHxW.shape)
    return jnp.zeros(family.symbols(config)).at[code_BxHxW].add(weight)


def finish(config: Any, sums: Any) -> dict[str, float]:
    """The perplexity of all batches together."""
    del config
    share_V = sums[sums > 0] / sums.sum()
    return {"perplexity": float(np.exp(-(share_V * np.log(share_V)).sum()))}
