"""What a family says of each token of a batch: its nats, and the distribution it came from.

Evaluators of text ask here, so that they serve every family that has the functions
`cross_entropy(config, params, tokens, where)` and `places(config, batch)`, which says where, and
`network(config)` and `head(config)` for logits, as `research.families.autoregressive` does.
"""

from types import ModuleType
from typing import Any

import jax
from jax import numpy as jnp

from research import families
from research.data import bytes_per_token, spells_bytes
from research.errors import UserError
from research.models import common


def check(config: Any, spec: dict[str, Any], name: str, needs: tuple[str, ...] = ()) -> None:
    """Raise UserError where evaluator `name` finds no text, or a family that scores no tokens."""
    if "vocab_size" not in spec:
        raise UserError(
            f"config.evaluation.evaluators: {name!r} reads text; "
            f"config.data.name={config.data.name!r} gives images"
        )
    family = families.load(config.family)
    for function in ("cross_entropy", "places", *needs):
        if not hasattr(family, function):
            raise UserError(
                f"config.evaluation.evaluators: {name!r} needs {function}, which "
                f"config.family={config.family!r} lacks; 'autoregressive' has it"
            )
    if (objective := config.model.get("objective", "next_token")) != "next_token":
        raise UserError(
            f"config.evaluation.evaluators: {name!r} judges each token by those before it, and "
            f"config.model.objective={objective!r} is another task; 'validation' scores it"
        )


def check_text(config: Any, name: str) -> None:
    """Raise UserError where the tokens of the data spell no text, in which `name` asks."""
    if "tokenizer" not in config.data:
        raise UserError(
            f"config.evaluation.evaluators: {name!r} asks in text, and the tokens of "
            f"config.data.name={config.data.name!r} spell none; python_stdlib's do"
        )


def nats(config: Any, params: Any, batch: dict) -> jax.Array:
    """Nats of each of batch["tokens"][:, 1:] given those before it, [B, L]."""
    family = _family(config)
    return family.cross_entropy(config, params, batch["tokens"], family.places(config, batch))[0]


def logits(config: Any, params: Any, batch: dict) -> jax.Array:
    """Logits [B, L, V] of the token after each of batch["tokens"][:, :-1], float32."""
    family, tokens_BxL = _family(config), batch["tokens"][:, :-1]
    where = family.places(config, batch)
    x_BxLxD, *_ = common.apply(family.network(config), params, tokens_BxL, where)
    return family.head(config).logits(config, params, x_BxLxD)


def positions(config: Any, batch: dict) -> jax.Array:
    """How many tokens stand before each that is read, in its window or its text: [L] or [B, L]."""
    found = _family(config).places(config, batch).positions
    return jnp.arange(batch["tokens"].shape[1] - 1) if found is None else found


def weights(batch: dict) -> jax.Array:
    """How much each predicted token counts, [B, L]: nothing where the batch is filled up."""
    tokens_BxL = batch["tokens"][:, 1:]
    mask_BxL = jnp.broadcast_to(batch["mask"][:, None], tokens_BxL.shape)
    return mask_BxL * batch["weights"] if "weights" in batch else mask_BxL


def unit(config: Any) -> str:
    """The unit of bits by what `counts` says."""
    return "bits/byte" if spells_bytes(config.data) else "bits/token"


def counts(config: Any, batch: dict) -> jax.Array:
    """Weighted bytes of each predicted token, [B, L]; weighted tokens where they spell none."""
    spelled = batch["bytes"] if "bytes" in batch else bytes_per_token(config.data) or 1
    return weights(batch) * spelled


def _family(config: Any) -> ModuleType:
    return families.load(config.family)
