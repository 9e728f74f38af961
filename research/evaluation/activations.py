"""How large activations are: the root mean square of the stream and of the output.

A parametrisation that transfers keeps them of one size at every width and depth once a few steps
have moved the weights; the table of them over widths is the coordinate check of Yang et al. (2022,
appendix D). A family gives them by its function `activations(config, params, batch, key)`, which
returns {"stream": after the last block, "output": what the network predicts}, examples first.
"""

import math
from typing import Any

from jax import numpy as jnp

from research import families
from research.errors import UserError

NAMES = ("stream", "output")


def check(config: Any, spec: dict[str, Any]) -> None:
    del spec
    if not hasattr(families.load(config.family), "activations"):
        raise UserError(
            f"config.evaluation.evaluators: config.family={config.family!r} gives no activations"
        )


def score_kinds(config: Any) -> dict[str, dict[str, str]]:
    kind = {"unit": "root mean square", "kind": "exact", "better": "lower"}
    return {f"activations_{name}": kind for name in NAMES}


def update(config: Any, params: Any, batch: dict, key: Any) -> dict[str, dict[str, Any]]:
    """{name: {"total", "count"}} of one batch: squares, of its examples alone."""
    found = families.load(config.family).activations(config, params, batch, key)
    return {name: _squares(found[name], batch["mask"]) for name in NAMES}


def _squares(x: Any, mask_B: Any) -> dict[str, Any]:
    mean_B = jnp.square(x.astype(jnp.float32)).reshape(len(x), -1).mean(1)
    return {"total": (mask_B * mean_B).sum(), "count": mask_B.sum()}


def finish(config: Any, sums: dict[str, dict[str, float]]) -> dict[str, float]:
    return {
        f"activations_{name}": math.sqrt(each["total"] / each["count"])
        for name, each in sums.items()
    }
