"""Speculative decoding: a small network guesses, a large one checks several tokens at once.

What comes out is distributed as the large network's own draws, whatever the small one is
(Leviathan et al. 2023, algorithm 1; Chen et al. 2023); how many guesses hold decides the speed.
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
from research.sampling.drawing import Drawing, truncated
from research.sampling.engine import Engine, Network
from research.sampling.generate import PLAIN
from research.sampling.generate import check as check_prompts


class Speculated(NamedTuple):
    """What was drawn, and what that took.

    Attributes:
        tokens: as many as were asked for; the last pass may have drawn more.
        passes: of the large network, each of which looked at `guesses` of the small one.
        held: guesses that were accepted; with one token more a pass they are all that was drawn.
        judged: those, and the first of each pass that was not: nobody judges what comes after it.
    """

    tokens: list[int]
    passes: int
    guesses: int
    held: int
    judged: int


def check(large: Engine, small: Engine, guesses: int) -> None:
    """Raise UserError for networks that cannot guess for one another."""
    if guesses < 1:
        raise UserError(f"--guesses {guesses} must be at least 1")
    for engine in (large, small):
        if engine.batch != 1:
            raise UserError("speculative decoding draws one row at a time")
        if engine.network.rewound is None:
            raise UserError(
                "speculative decoding takes back what was guessed wrong, which windows, "
                "recurrences, experts with a capacity and prompts read both ways cannot: use "
                "attention over the whole context, and the past alone"
            )
    if large.network.symbols != small.network.symbols:
        raise UserError(
            f"the two runs have {large.network.symbols} and {small.network.symbols} tokens; "
            "speculative decoding needs one vocabulary"
        )


def speculate(
    large: Engine,
    small: Engine,
    prompt: Sequence[int],
    count: int,
    drawing: Drawing = PLAIN,
    *,
    guesses: int = 4,
    seed: int = 0,
) -> Speculated:
    """Continue a prompt by at least `count` tokens, of which the first `count` are returned.

    Raises:
        UserError: as `generate` does, and for networks that cannot guess for one another.
    """
    check(large, small, guesses)
    for engine in (large, small):  # the last pass may guess beyond the end
        check_prompts(engine, [prompt], count + guesses, drawing)
    if drawing.repetition != 1:
        raise UserError("--repetition depends on what was drawn: speculative decoding has none")
    states = []
    for engine in (large, small):
        # The last token is given to both with the first guesses.
        state = engine.start()
        states.append(engine.read(state, [prompt[:-1]]) if len(prompt) > 1 else state)
        engine.reserve(count + guesses + 1)
    run = _program(*engines.carried(large.network, small.network), guesses, count)
    params = tuple(engine.network.params for engine in (large, small))
    with large.on_grid():
        tokens, drawn, passes, judged = run(
            params, tuple(state.cache for state in states), np.int32(len(prompt) - 1),
            np.int32(prompt[-1]), drawing, jax.random.key(seed),
        )  # fmt: skip
    tokens, passes = np.asarray(tokens)[:count].tolist(), int(passes)
    return Speculated(tokens, passes, guesses, int(drawn) - passes, int(judged))


def verdict(
    p_KxV: jax.Array, q_KxV: jax.Array, guess_K: jax.Array, key: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """How many guesses hold, and the token after them.

    Args:
        p_KxV: the large network's probabilities, [guesses + 1, V].
        q_KxV: those the guesses were drawn from, [guesses, V].
    """
    accept, correct = jax.random.split(key)
    each = jnp.arange(len(guess_K))
    chance_K = p_KxV[each, guess_K] / jnp.maximum(q_KxV[each, guess_K], 1e-30)
    holds_K = jax.random.uniform(accept, guess_K.shape) < chance_K
    count = jnp.cumprod(holds_K).sum()
    # After the last guess there is nothing to correct for.
    q_V = jnp.concatenate([q_KxV, jnp.zeros_like(q_KxV[:1])])[count]
    rest_V = jnp.maximum(p_KxV[count] - q_V, 0)
    # Rounding may leave nothing of a difference between equal distributions.
    rest_V = jnp.where(rest_V.sum() > 0, rest_V, p_KxV[count])
    return count, jax.random.categorical(correct, jnp.log(rest_V)).astype(jnp.int32)


@functools.lru_cache(maxsize=16)
def _program(key: Any, carried: programs.Carried, guesses: int, count: int) -> Callable:
    del key
    large, small = carried.held

    def share(network: Network, logits: jax.Array, drawing: Drawing) -> jax.Array:
        """Probabilities by which a token is drawn, [..., V]; all of the likeliest when greedy."""
        logits = jnp.where(jnp.arange(logits.shape[-1]) < network.symbols, logits, -jnp.inf)
        cut = jax.nn.softmax(truncated(logits, drawing))
        best = jax.nn.one_hot(logits.argmax(-1), logits.shape[-1])
        return jnp.where(drawing.temperature > 0, cut, best)[..., : network.symbols]

    def one_pass(params, drawing, base, carry):
        (kept, guessing), position, token, done, tokens, passes, judged = carry
        key = jax.random.fold_in(base, passes)

        def guess(carry, index):
            cache, token = carry
            logits, cache = small.follow(
                small.config, params[1], token[None, None], (position + index)[None, None], cache
            )
            q_V = share(small, logits, drawing)[0]
            drawn = jax.random.categorical(jax.random.fold_in(key, index), jnp.log(q_V))
            return (cache, drawn.astype(jnp.int32)), (q_V, drawn.astype(jnp.int32))

        # One guess more than is checked, so that both networks have read the same.
        start, each = (guessing, token), jnp.arange(guesses + 1)
        (guessing, _), (q_KxV, guess_K) = jax.lax.scan(guess, start, each)
        q_KxV, guess_K = q_KxV[:-1], guess_K[:-1]
        read = jnp.concatenate([token[None], guess_K])
        logits, kept = large.follow(
            large.config, params[0], read[None], (position + each)[None], kept, every=True
        )
        p_KxV = share(large, logits[0], drawing)
        held, after = verdict(p_KxV, q_KxV, guess_K, jax.random.fold_in(key, guesses + 1))
        drawn = jnp.where(each < held, jnp.append(guess_K, 0), after)
        tokens = jax.lax.dynamic_update_slice(tokens, drawn, (done,))
        last = read[held][None, None]
        caches = (
            large.rewound(kept, guesses - held, last),
            small.rewound(guessing, guesses - held, last),
        )
        judged += jnp.minimum(held + 1, guesses)
        return caches, position + held + 1, after, done + held + 1, tokens, passes + 1, judged

    def run(params, caches, position, token, drawing, key):
        step = functools.partial(one_pass, params, drawing, key)
        tokens = jnp.zeros(count + guesses + 1, jnp.int32)
        none = jnp.int32(0)
        start = (caches, position, token, none, tokens, none, none)
        _, _, _, drawn, tokens, passes, judged = jax.lax.while_loop(
            lambda carry: carry[3] < count, step, start
        )
        return tokens, drawn, passes, judged

    return jax.jit(run)
