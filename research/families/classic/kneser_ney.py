"""Interpolated n-grams with modified Kneser-Ney discounts (Kneser and Ney 1995; Chen and Goodman
1999, equations 8 to 11), as dense tables of all contexts.

    p(w | h) = (max(c(h w) - D(c), 0) + (D1 N1(h) + D2 N2(h) + D3 N3+(h)) p(w | h')) / c(h)

where h' is h without its oldest token, whose table counts in how many different contexts a token
was seen; below the shortest all tokens are as likely. A token with fewer than order - 1 before it
in its window has the table of so many, made in the same way from counts of its own. Probabilities
sum to one exactly. Counts are whole up to 2^24, what float32 holds.

A step counts and adds: it has 0 FLOPs in the ledger, which counts products, so that no budget buys
its horizon and config.train.steps sets it. Its tables take additions in the size of vocabulary^n.
"""

import functools
from typing import Any

import jax
from jax import Array
from jax import numpy as jnp
from ml_collections import ConfigDict

from research.errors import UserError
from research.families.classic import readings, stepwise

MOST = 2**24  # probabilities of the largest table
LEAST = 0.01  # of a discount, so that nothing has probability 0
observed = readings.windows


def default_model() -> dict[str, Any]:
    """Keys of `config.model`."""
    return dict(order=3)  # n: a token and the n - 1 before it


def check_data(config: ConfigDict, spec: dict[str, Any]) -> None:
    """Raise UserError for data that are no text, or an order whose table or window is too small."""
    readings.check_tokens(config, spec)
    order, symbols = config.model.order, spec["vocab_size"]
    fits = [n for n in range(1, spec["length"] + 2) if symbols**n <= MOST]
    if order not in fits:
        raise UserError(
            f"config.model.order={order} must be from 1 to {len(fits)}: its table has {symbols}^"
            f"{order} probabilities of at most {MOST}, and a window {spec['length'] + 1} tokens"
        )


def _shapes(config: ConfigDict) -> list[tuple[int, ...]]:
    """Contexts and tokens of the tables of 1, 2, ..., n tokens."""
    symbols = readings.symbols(config)
    return [(symbols**m, symbols) for m in range(config.model.order)]


def init(config: ConfigDict, key: Array) -> list[Array]:
    """All tokens as likely; nothing is to be told apart."""
    del key
    return [jnp.full(shape, -jnp.log(shape[1])) for shape in _shapes(config)]


def empty(config: ConfigDict) -> list[Array]:
    """Counts of nothing."""
    return [jnp.zeros(shape) for shape in _shapes(config)]


def _places(config: ConfigDict, tokens_T: Array) -> list[Array]:
    """Where in each table the m tokens up to a place are, one for each place that has as many."""
    symbols, found = readings.symbols(config), [tokens_T]
    for m in range(1, config.model.order):
        found.append(found[-1][:-1] * symbols + tokens_T[m:])
    return found


def log_probability(config: ConfigDict, params: Any, tokens_T: Array) -> Array:
    """log p of a window, its first token included."""
    *short, full = _places(config, tokens_T)
    opening = [table.ravel()[place[0]] for table, place in zip(params, short, strict=False)]
    return sum(opening) + params[-1].ravel()[full].sum()


def given(config: ConfigDict, params: Any, tokens_T: Array) -> Array:
    """log p of the first token."""
    del config
    return params[0][0, tokens_T[0]]


def statistics(config: ConfigDict, params: Any, tokens_BxT: Array) -> tuple[Array, list[Array]]:
    """log p of all, and how often each 1, 2, ..., n tokens were seen, in any place."""
    log_p_B = jax.vmap(functools.partial(log_probability, config, params))(tokens_BxT)
    places = jax.vmap(functools.partial(_places, config))(tokens_BxT)
    counts = [
        zeros.ravel().at[each.ravel()].add(1).reshape(zeros.shape)
        for zeros, each in zip(empty(config), places, strict=True)
    ]
    return log_p_B.sum(), counts


def maximised(config: ConfigDict, sums: list[Array]) -> list[Array]:
    """The table of each number of tokens, logarithms."""
    del config
    symbols = sums[0].shape[1]
    uniform = jnp.full((1, symbols), 1 / symbols)
    lower, found = uniform, []
    for m, counts in enumerate(sums):
        found.append(jnp.log(jnp.maximum(smoothed(counts, lower), stepwise.LEAST)))
        if m + 1 < len(sums):
            contexts = (sums[m + 1] > 0).reshape(symbols, *counts.shape).sum(0)
            lower = smoothed(contexts.astype(jnp.float32), lower)
    return found


def discounts(counts: Array) -> Array:
    """D1, D2 and D3 by how many counts are 1, 2, 3 and 4 (Chen and Goodman 1999, equation 10).

    A table without counts of 1, 2 or 3 says too little for three; all are the single discount of
    Kneser and Ney 1995 then.
    """
    n1, n2, n3, n4 = ((counts == k).sum().astype(jnp.float32) for k in (1, 2, 3, 4))
    single = n1 / jnp.maximum(n1 + 2 * n2, 1)
    after = ((n1, n2), (n2, n3), (n3, n4))
    modified = jnp.stack(
        [k - (k + 1) * single * b / jnp.maximum(a, 1) for k, (a, b) in enumerate(after, start=1)]
    )
    found = jnp.where((n1 > 0) & (n2 > 0) & (n3 > 0), modified, single)
    return jnp.clip(found, LEAST, jnp.arange(1.0, 4.0))


def smoothed(counts_HxV: Array, lower: Array) -> Array:
    """p(token | context), of a table whose contexts without their oldest token `lower` has."""
    lower_HxV = jnp.tile(lower, (len(counts_HxV) // len(lower), 1))
    of_each = jnp.concatenate([jnp.zeros(1), discounts(counts_HxV)])
    taken_HxV = of_each[jnp.minimum(counts_HxV, 3).astype(jnp.int32)]
    total_Hx1, left_Hx1 = (x.sum(1, keepdims=True) for x in (counts_HxV, taken_HxV))
    seen = (counts_HxV - taken_HxV + left_Hx1 * lower_HxV) / jnp.maximum(total_Hx1, 1)
    return jnp.where(total_Hx1 > 0, seen, lower_HxV)


def drawn(config: ConfigDict, params: Any, key: Array, num: int) -> Array:
    """Windows of config.data.length tokens."""
    symbols, length = readings.symbols(config), config.data.length
    context_B, tokens = jnp.zeros(num, jnp.int32), []
    for place, each in enumerate(jax.random.split(key, length)):
        table = params[min(place, len(params) - 1)]
        tokens.append(jax.random.categorical(each, table[context_B % len(table)]))
        wider = params[min(place + 1, len(params) - 1)]
        context_B = (context_B * symbols + tokens[-1]) % len(wider)
    return jnp.stack(tokens, 1).astype(jnp.int32)
