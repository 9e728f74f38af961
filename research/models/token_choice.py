"""What routers have in common by which each position chooses its experts: keys, and the choice."""

from typing import Any, NamedTuple

import jax
from jax import numpy as jnp
from ml_collections import ConfigDict

from research.errors import UserError


class Routing(NamedTuple):
    """What a router decides of every position, before anyone asks whether there is room.

    Attributes:
        weight_BxLxP: of the P = experts_per_token experts of a position; they sum to 1, but one
            expert alone weighs its score.
        expert_BxLxP: which they are, the favourite first.
        probability_BxLxE: how much of a position each expert would have, which sums to 1.
    """

    weight_BxLxP: jax.Array
    expert_BxLxP: jax.Array
    probability_BxLxE: jax.Array


def default_model() -> dict[str, Any]:
    """Keys of `config.model` of every such router."""
    return dict(
        capacity_factor=1.25,  # slots of an expert over its even share; 0: nobody is ever dropped
        balance_weight=0.01,  # of the load-balancing loss
        balance_rate=0.0,  # steps of a balancing bias over those of other scalars; 0: no bias
    )


def check(config: ConfigDict) -> None:
    """Raise UserError, naming the key, for a choice that cannot be balanced."""
    model = config.model
    for key in default_model():
        if model[key] < 0:
            raise UserError(f"config.model.{key}={model[key]} must not be negative")
    if model.balance_rate and config.train.optimizer == "sgd":
        raise UserError(
            f"config.model.balance_rate={model.balance_rate} needs an optimizer whose steps are "
            "not as large as the gradient, such as adamw: 'sgd' would leave the bias where it is"
        )


def favourites(
    model: Any, score_BxLxE: jax.Array, probability_BxLxE: jax.Array, bias_E: jax.Array | None
) -> Routing:
    """The experts of the highest scores; a bias counts for choosing them, not for their weights.

    One expert alone is weighed by its score, as a weight of 1 would teach the router nothing
    (Switch; Fedus, Zoph & Shazeer 2021, equation 2); several share 1 by theirs.
    """
    liked_BxLxE = score_BxLxE if bias_E is None else score_BxLxE + bias_E
    _, expert_BxLxP = jax.lax.top_k(liked_BxLxE, model.experts_per_token)
    weight_BxLxP = jnp.take_along_axis(score_BxLxE, expert_BxLxP, -1)
    if model.experts_per_token > 1:
        weight_BxLxP /= weight_BxLxP.sum(-1, keepdims=True) + 1e-20  # all scores may round to 0
    return Routing(weight_BxLxP, expert_BxLxP, probability_BxLxE)
