"""The router "expert_choice": experts take the positions that they like best (Zhou et al. 2022).

They are evenly used by construction. A position has `experts_per_token` of them on average and
perhaps none. Whether one is taken depends on later positions, so a network that is to say what
comes next cannot have it.
"""

from typing import Any

import jax
from ml_collections import ConfigDict

from research.errors import UserError
from research.models.expert_slots import capacity


def check(config: ConfigDict) -> None:
    """Raise UserError where later positions must not be seen."""
    if config.family == "autoregressive" and config.model.get("causal", True):
        raise UserError(
            "config.model.router='expert_choice' sees later positions before it gives a position "
            "its experts, which a causal network must not; use 'top_k'"
        )


def choose(model: Any, logits_BxLxE: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(weight, position), [B, E, M] each, of the M positions that each expert takes (section 3.2).

    Weights are each position's probabilities of the experts, as they are.
    """
    probability_BxExL = jax.nn.softmax(logits_BxLxE).mT
    weight_BxExM, position_BxExM = jax.lax.top_k(
        probability_BxExL, capacity(model, logits_BxLxE.shape[1])
    )
    return weight_BxExM, position_BxExM
