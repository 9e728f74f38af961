"""Beam search: the likeliest continuations that a bounded number of unfinished ones leads to.

A beam as wide as there are continuations is exhaustive search, one of width 1 is greedy; between
them a wider one need not be better.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import numpy as jnp

from research import programs
from research.errors import UserError
from research.sampling import engine as engines
from research.sampling.engine import Engine, Network, State
from research.sampling.generate import PLAIN
from research.sampling.generate import check as check_prompts


class Beam(NamedTuple):
    """A continuation and its log-probability; `score` is what it was chosen by."""

    tokens: list[int]
    log_probability: float
    score: float


def search(
    engine: Engine,
    prompt: Sequence[int],
    count: int,
    *,
    end: int | None = None,
    length_power: float = 0.0,
) -> list[Beam]:
    """Return the engine's rows as beams of `count` tokens, the best first.

    Args:
        end: a token after which a continuation is over.
        length_power: of the length by which a log-probability is divided at last; 0 leaves it
            (Wu et al. 2016, section 7, without its constants).

    Raises:
        UserError: as `generate` does.
    """
    check_prompts(engine, [prompt], count, PLAIN)
    state = engine.read(engine.start(), [prompt] * engine.batch)
    engine.reserve(count)
    run = _program(*engines.carried(engine.network), end)
    with engine.on_grid():
        tokens, logs, _ = run(engine.network.params, state, np.arange(count))
    found = []
    for row, log in zip(np.asarray(tokens), np.asarray(logs), strict=True):
        if np.isfinite(log):  # there may be fewer continuations than beams
            kept = row.tolist()
            if end is not None and end in kept:
                kept = kept[: kept.index(end) + 1]
            found.append(Beam(kept, float(log), float(log) / len(kept) ** length_power))
    return sorted(found, key=lambda beam: -beam.score)


def check_width(width: int, network: Network) -> None:
    """Raise UserError for more beams than there are first tokens to tell them apart."""
    if not 1 <= width <= network.symbols:
        raise UserError(
            f"--beam {width} must be from 1 to the {network.symbols} tokens of the vocabulary"
        )


@functools.lru_cache(maxsize=16)
def _program(key: Any, carried: programs.Carried, end: int | None) -> Callable:
    """The search from a state that has read the prompt in every row."""
    del key
    (network,) = carried.held

    def step(params: Any, carry: Any, index: jax.Array) -> tuple[Any, None]:
        state, tokens, score_W, over_W = carry
        width, vocab_size = state.logits.shape
        logs = jax.nn.log_softmax(state.logits)
        logs = jnp.where(jnp.arange(vocab_size) < network.symbols, logs, -jnp.inf)
        # What is over stays as it is, by one token that says nothing.
        stays = jnp.where(jnp.arange(vocab_size) == 0, 0.0, -jnp.inf)
        total = score_W[:, None] + jnp.where(over_W[:, None], stays, logs)
        score_W, best = jax.lax.top_k(total.reshape(-1), width)
        parent, token = best // vocab_size, (best % vocab_size).astype(jnp.int32)
        state, tokens, over_W = jax.tree.map(
            lambda x: x[parent] if x.ndim and len(x) == width else x, (state, tokens, over_W)
        )
        token = jnp.where(over_W, -1, token)
        tokens = tokens.at[:, index].set(token)
        over_W = over_W | (token == (-1 if end is None else end))
        logits, cache = network.follow(
            network.config, params, jnp.maximum(token, 0)[:, None], state.position[:, None],
            state.cache,
        )  # fmt: skip
        state = State(cache, state.position + 1, logits, state.seen)
        return (state, tokens, score_W, over_W), None

    def run(params, state, steps):
        width = len(state.position)
        # Rows are equal at first: one of them counts.
        score_W = jnp.where(jnp.arange(width) == 0, 0.0, -jnp.inf)
        start = (state, jnp.zeros((width, len(steps)), jnp.int32), score_W, jnp.zeros(width, bool))
        (_, *found), _ = jax.lax.scan(functools.partial(step, params), start, steps)
        return found

    return jax.jit(run)
