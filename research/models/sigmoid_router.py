"""The router "sigmoid": as "top_k", but how an expert is liked says nothing of the others."""

from typing import Any

import jax

from research.models import token_choice

default_model, check = token_choice.default_model, token_choice.check


def route(
    model: Any, logits_BxLxE: jax.Array, bias_E: jax.Array | None = None
) -> token_choice.Routing:
    """Scores in (0, 1), those chosen made to sum to 1 (DeepSeek-AI 2024, V3, eq. 13 to 16)."""
    score_BxLxE = jax.nn.sigmoid(logits_BxLxE)
    probability_BxLxE = score_BxLxE / (score_BxLxE.sum(-1, keepdims=True) + 1e-20)
    return token_choice.favourites(model, score_BxLxE, probability_BxLxE, bias_E)
