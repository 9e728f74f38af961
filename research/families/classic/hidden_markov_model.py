"""A hidden Markov model of tokens by forward-backward and Baum-Welch (Baum 1970; Rabiner 1989).

The forward recursion is here; the backward one is its gradient (Eisner 2016). Numbers stay near 1,
as the largest of each step is taken out of it.

FLOPs of a step, of B windows of L + 1 tokens and S states: 6 B L S^2, a third of them forward.
"""

from typing import Any

import jax
from jax import Array
from jax import numpy as jnp
from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from research.families.classic import readings, stepwise


def default_model() -> dict[str, Any]:
    """Keys of `config.model`."""
    return dict(
        width=placeholder(int),  # states
        pseudo_count=0.1,  # of each start, transition and emission, before any was seen
        kappa=0.6,  # a batch weighs its number to the power -kappa; 1: all weigh the same
    )


check_data, observed = readings.check_tokens, readings.windows


def init(config: ConfigDict, key: Array) -> dict[str, Array]:
    """Random transitions and emissions from states that start alike."""
    width, (first, second) = config.model.width, jax.random.split(key)
    return {
        "start": jnp.full(width, -jnp.log(width)),
        "transition": stepwise.random_shares(first, (width, width)),
        "emission": stepwise.random_shares(second, (width, readings.symbols(config))),
    }


def log_probability(config: ConfigDict, params: Any, tokens_T: Array) -> Array:
    """log p of a window: over all paths of states."""
    del config
    transition_SxS = jnp.exp(params["transition"])

    def step(log_alpha_S: Array, token: Array) -> tuple[Array, None]:
        largest = jax.lax.stop_gradient(log_alpha_S.max())
        arrived_S = jnp.exp(log_alpha_S - largest) @ transition_SxS
        return jnp.log(arrived_S) + largest + params["emission"][:, token], None

    first = params["start"] + params["emission"][:, tokens_T[0]]
    return jax.nn.logsumexp(jax.lax.scan(step, first, tokens_T[1:])[0])


def given(config: ConfigDict, params: Any, tokens_T: Array) -> Array:
    """log p of the first token."""
    return log_probability(config, params, tokens_T[:1])


def shares(params: Any) -> Array:
    """How often each state is entered where all are left alike, [S]."""
    return jnp.exp(params["transition"]).mean(0)


def drawn(config: ConfigDict, params: Any, key: Array, num: int) -> Array:
    """Windows of config.data.length tokens."""

    def step(state_B: Array, key: Array) -> tuple[Array, Array]:
        token_key, state_key = jax.random.split(key)
        token_B = jax.random.categorical(token_key, params["emission"][state_B])
        return jax.random.categorical(state_key, params["transition"][state_B]), token_B

    first_key, key = jax.random.split(key)
    state_B = jax.random.categorical(first_key, params["start"], shape=(num,))
    keys = jax.random.split(key, config.data.length)
    return jax.lax.scan(step, state_B, keys)[1].T.astype(jnp.int32)
