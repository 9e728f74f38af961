"""Greedy completions: the likeliest next byte, one after another, after prompts of any lengths."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp

from research import processes, programs
from research.evaluation import likelihood, prompts


def complete(config: Any, params: Any, texts: Sequence[str], new_tokens: int) -> list[bytes]:
    """The `new_tokens` likeliest bytes, one after another, after each of `texts`.

    A prompt that is too long for config.data.length loses its beginning.
    """
    size, length = config.evaluation.batch_size, config.data.length
    program, found = programs.build(config), []
    judge = program.judge(_greedy)
    tokens, weights = prompts.windows([(text, " " * new_tokens) for text in texts], length)
    first = weights.argmax(1) + 1  # of the completion
    for start in range(0, len(texts), size):
        rows = np.arange(start, start + size) % len(texts)  # the last batch is filled up
        batch = {
            "tokens": tokens[rows].astype(np.int32),
            "first": first[rows].astype(np.int32),
            "end": (first[rows] + new_tokens).astype(np.int32),
        }
        placed = processes.place(program.batch, batch, size)
        drawn = np.asarray(judge(params, placed, jax.random.key(0)))
        for row in range(min(size, len(texts) - start)):
            begin, end = batch["first"][row], batch["end"][row]
            found.append(drawn[row, begin:end].astype(np.uint8).tobytes())
    return found


def _greedy(config: Any, params: Any, batch: dict, key: Any) -> jax.Array:
    """Tokens [B, L + 1] with those from "first" up to "end" replaced by the likeliest."""
    del key

    def open_rows(carry):
        return (carry[1] < batch["end"]).any()

    def step(carry):
        tokens_BxL, at_B = carry
        logits_BxLxV = likelihood.logits(config, params, {"tokens": tokens_BxL})
        next_BxL = logits_BxLxV.argmax(-1).astype(jnp.int32)
        next_B = jnp.take_along_axis(next_BxL, at_B[:, None] - 1, 1)[:, 0]
        place_BxL = jnp.arange(tokens_BxL.shape[1]) == at_B[:, None]
        return jnp.where(place_BxL, next_B[:, None], tokens_BxL), at_B + 1

    return jax.lax.while_loop(open_rows, step, (batch["tokens"], batch["first"]))[0]
