"""The router "top_k": each position goes to the experts that it likes best."""

from typing import Any

import jax

from research.models import token_choice

default_model, check = token_choice.default_model, token_choice.check


def route(
    model: Any, logits_BxLxE: jax.Array, bias_E: jax.Array | None = None
) -> token_choice.Routing:
    """The `experts_per_token` likeliest experts of each position (Jiang et al. 2024, section 2.1).

    What they write is weighed by their probabilities, which are made to sum to 1.
    """
    probability_BxLxE = jax.nn.softmax(logits_BxLxE)
    return token_choice.favourites(model, probability_BxLxE, probability_BxLxE, bias_E)
