"""What a family says of each token of a batch: its nats, and the distribution it came from.

Evaluators of text ask here, so that they serve every family that has the functions
`cross_entropy(config, params, tokens, where)`, and `network(config)` and `head(config)` for logits,
as `research.families.autoregressive` does.
"""

from types import ModuleType
from typing import Any

import jax
from jax import numpy as jnp

from research import families
from research.data import bytes_per_token
from research.errors import UserError
from research.models import common
from research.models.attention import Where


def check(config: Any, spec: dict[str, Any], name: str, needs: tuple[str, ...] = ()) -> None:
    """Raise UserError where evaluator `name` finds no text, or a family that scores no tokens."""
    if "vocab_size" not in spec:
        raise UserError(
            f"config.evaluation.evaluators: {name!r} reads text; "
            f"config.data.name={config.data.name!r} gives images"
        )
    family = families.load(config.family)
    for function in ("cross_entropy", *needs):
        if not hasattr(family, function):
            raise UserError(
                f"config.evaluation.evaluators: {name!r} needs {function}, which "
                f"config.family={config.family!r} lacks; 'autoregressive' has it"
            )


def check_bytes(config: Any, spec: dict[str, Any], name: str) -> None:
    """Raise UserError where the tokens of the data are not bytes, as those of `name` are."""
    if spec["vocab_size"] != 256 or spec.get("bytes_per_token") != 1:
        raise UserError(
            f"config.evaluation.evaluators: {name!r} asks in bytes, and the tokens of "
            f"config.data.name={config.data.name!r} are none; python_stdlib's are"
        )


def nats(config: Any, params: Any, batch: dict) -> jax.Array:
    """Nats of each of batch["tokens"][:, 1:] given those before it, [B, L]."""
    return _family(config).cross_entropy(config, params, batch["tokens"], _where(batch))[0]


def logits(config: Any, params: Any, batch: dict) -> jax.Array:
    """Logits [B, L, V] of the token after each of batch["tokens"][:, :-1], float32."""
    family, tokens_BxL = _family(config), batch["tokens"][:, :-1]
    x_BxLxD, *_ = common.apply(family.network(config), params, tokens_BxL, _where(batch))
    return family.head(config).logits(config, params, x_BxLxD)


def weights(batch: dict) -> jax.Array:
    """How much each predicted token counts, [B, L]: nothing where the batch is filled up."""
    tokens_BxL = batch["tokens"][:, 1:]
    mask_BxL = jnp.broadcast_to(batch["mask"][:, None], tokens_BxL.shape)
    return mask_BxL * batch["weights"] if "weights" in batch else mask_BxL


def unit(config: Any) -> tuple[str, float]:
    """The unit of bits by token and what a token counts in it: as `score` of the family does."""
    spelled = bytes_per_token(config.data)
    return ("bits/byte", spelled) if spelled else ("bits/token", 1.0)


def _family(config: Any) -> ModuleType:
    return families.load(config.family)


def _where(batch: dict) -> Where:
    return Where(batch.get("positions"), batch.get("segments"))
