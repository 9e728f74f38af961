"""A probabilistic context-free grammar in Chomsky normal form (Lari and Young 1990).

Each of N nonterminals becomes two nonterminals or one token; the first of them is the root. The
inside recursion adds up all trees of a window; the outside one is its gradient (Eisner 2016). EM
raises the probability of trees and so of the window's length, too. Scored is the probability of
the predicted tokens given that there are so many; the first token of a window, which others are
given, is not read.

FLOPs of a step, of B windows of L tokens: forward, for each span of n tokens at each of L - n + 1
places, 2 (n - 1) N^2 for its ways to be split and 2 N^3 for the rules; three times that with the
gradient. They grow as B (L^3 N^2 + 3 L^2 N^3).
"""

from typing import Any

import jax
import numpy as np
from jax import Array
from jax import numpy as jnp
from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from research.errors import UserError
from research.families.classic import readings, stepwise

LONGEST = 32


def default_model() -> dict[str, Any]:
    """Keys of `config.model`."""
    return dict(
        width=placeholder(int),  # nonterminals
        pseudo_count=0.01,  # of each rule, before any was seen
        kappa=0.6,  # a batch weighs its number to the power -kappa; 1: all weigh the same
    )


def check_data(config: ConfigDict, spec: dict[str, Any]) -> None:
    """Raise UserError for data that are no text, or windows too long for a chart."""
    readings.check_tokens(config, spec)
    if not spec["length"] <= LONGEST:
        raise UserError(
            f"config.data.length={spec['length']} must be at most {LONGEST} for config.model.kind="
            "'grammar', whose work grows with its cube"
        )


def observed(config: ConfigDict, batch: dict[str, Array], key: Array) -> Array:
    """The predicted tokens, [B, L]."""
    del config, key
    return batch["tokens"][:, 1:]


def init(config: ConfigDict, key: Array) -> dict[str, Array]:
    """Random rules, half of whose mass makes tokens: [N, N * N + V], pairs before tokens."""
    width, symbols = config.model.width, readings.symbols(config)
    scale = -np.log(2.0 * np.array([width**2] * width**2 + [symbols] * symbols))
    random = jax.random.normal(key, (width, len(scale)))
    return {"rules": jax.nn.log_softmax(random + scale)}


def inside(params: Any, emission_LxN: Array) -> Array:
    """log p of each nonterminal becoming each span, [L + 1, L, N], by its length and its start.

    Args:
        emission_LxN: log p of its becoming the token at a place.
    """
    length, width = emission_LxN.shape
    pairs_NxP = jnp.exp(params["rules"][:, : width**2])
    by_start = jnp.zeros((length + 1, length, width)).at[1].set(emission_LxN)
    by_end = by_start
    for span in range(2, length + 1):
        starts = length - span + 1
        left = by_start[1:span, :starts]  # [splits, starts, N]
        right = by_end[1:span, span - 1 :][::-1]
        most_left, most_right = (jax.lax.stop_gradient(x.max(-1)) for x in (left, right))
        most_S = (most_left + most_right).max(0)
        left = jnp.exp(left - most_left[..., None])
        right = jnp.exp(right - (most_S - most_left)[..., None])
        both = jnp.einsum("ksb,ksc->sbc", left, right).reshape(starts, -1)
        found = jnp.log(jnp.maximum(both @ pairs_NxP.T, stepwise.LEAST)) + most_S[:, None]
        by_start = by_start.at[span, :starts].set(found)
        by_end = by_end.at[span, span - 1 :].set(found)
    return by_start


def _emissions(params: Any) -> Array:
    """log p of becoming each token, [N, V]."""
    return params["rules"][:, len(params["rules"]) ** 2 :]


def log_probability(config: ConfigDict, params: Any, tokens_L: Array) -> Array:
    """log p of a string: over all its trees."""
    del config
    return inside(params, _emissions(params)[:, tokens_L].T)[len(tokens_L), 0, 0]


def _lengths(params: Any, longest: int) -> Array:
    """log p of each nonterminal becoming so many tokens, whichever: [longest + 1, N]."""
    any_N = jax.nn.logsumexp(_emissions(params), axis=1)
    return inside(params, jnp.tile(any_N, (longest, 1)))[:, 0]


def given(config: ConfigDict, params: Any, tokens_L: Array) -> Array:
    """log p of the root becoming so many tokens."""
    del config
    return _lengths(params, len(tokens_L))[len(tokens_L), 0]


def drawn(config: ConfigDict, params: Any, key: Array, num: int) -> np.ndarray:
    """Derivations of config.data.length tokens each, from the root on."""
    longest = jax.jit(_lengths, static_argnums=1)
    lengths = np.exp(np.asarray(longest(params, config.data.length), np.float64))
    rules, width = np.exp(np.asarray(params["rules"], np.float64)), lengths.shape[1]
    pairs, emissions = rules[:, : width**2].reshape(-1, width, width), rules[:, width**2 :]
    generator = np.random.default_rng(np.asarray(jax.random.bits(key, (4,))))

    def derived(symbol: int, length: int) -> list[int]:
        if length == 1:
            share = emissions[symbol] / emissions[symbol].sum()
            return [int(generator.choice(len(share), p=share))]
        ways = np.einsum("bc,kb,kc->kbc", pairs[symbol], lengths[1:length], lengths[1:length][::-1])
        place = generator.choice(ways.size, p=ways.ravel() / ways.sum())
        split, left, right = np.unravel_index(place, ways.shape)
        return derived(int(left), int(split) + 1) + derived(int(right), length - int(split) - 1)

    return np.array([derived(0, config.data.length) for _ in range(num)], np.int32)
