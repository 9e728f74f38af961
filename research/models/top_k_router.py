"""The router "top_k": each position goes to the experts that it likes best."""

from typing import Any

import jax

from research.models.moe import Routing


def route(model: Any, logits_BxLxE: jax.Array) -> Routing:
    """The `experts_per_token` likeliest experts of each position (Jiang et al. 2024, section 2.1).

    Its balance is the load-balancing loss of Fedus et al. (2021, eq. 4).
    """
    experts = logits_BxLxE.shape[-1]
    probability_BxLxE = jax.nn.softmax(logits_BxLxE)
    weight_BxLxP, expert_BxLxP = jax.lax.top_k(probability_BxLxE, model.experts_per_token)
    weight_BxLxP /= weight_BxLxP.sum(-1, keepdims=True)
    share_BxE = jax.nn.one_hot(expert_BxLxP, experts).mean((1, 2))
    balance_B = experts * (share_BxE * probability_BxLxE.mean(1)).sum(-1)
    return Routing(weight_BxLxP, expert_BxLxP, balance_B)
