"""Continuations of prompts: read, drawn block after block, and ended where they are to end."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from research.errors import UserError
from research.sampling import drawing as drawings
from research.sampling import engine as engines
from research.sampling.drawing import Drawing
from research.sampling.engine import Engine

Tokens = Sequence[int]
PLAIN = Drawing()


class Continuation(NamedTuple):
    """What came after one prompt.

    Attributes:
        tokens: all that were drawn, with those that ended it.
        log_probabilities: of each under the network, whatever `Drawing` left of it.
        ended: whether `ends` said so; else it is as long as it was to be.
    """

    tokens: list[int]
    log_probabilities: list[float]
    ended: bool


def check(engine: Engine, prompts: Sequence[Tokens], count: int, drawing: Drawing) -> None:
    """Raise UserError for prompts or numbers that cannot be continued so."""
    drawings.check(drawing)
    if count < 1:
        raise UserError(f"--tokens {count} must be at least 1")
    for number, prompt in enumerate(prompts, start=1):
        where = f"prompt {number}" if len(prompts) > 1 else "the prompt"
        if not len(prompt):
            raise UserError(f"{where} is empty; give at least one token")
        if len(prompt) + count > engine.length:
            raise UserError(
                f"{where} has {len(prompt)} tokens, which with {count} more do not fit into a "
                f"context of {engine.length}"
            )
        outside = [token for token in prompt if not 0 <= token < engine.network.readable]
        if outside:
            raise UserError(
                f"{where} has token {outside[0]}, outside the vocabulary of "
                f"{engine.network.readable}"
            )


def generate(
    engine: Engine,
    prompts: Sequence[Tokens],
    count: int,
    drawing: Drawing = PLAIN,
    *,
    seed: int = 0,
    ends: Callable[[list[int]], int | None] = lambda tokens: None,
    allowed: Callable[[list[list[int]]], Any] | None = None,
    told: Callable[[int, list[int]], None] = lambda row, tokens: None,
) -> list[Continuation]:
    """Continue each of `prompts` by `count` tokens or to its end, as many together as rows.

    Args:
        seed: a row draws by it and its own number, whatever is beside it.
        ends: how many of a row's tokens to keep once it has ended, else None.
        allowed: given the tokens of each row of a group, which may come next, bool [B, V]: a
            grammar. Tokens are then drawn one at a time.
        told: called with a row's number and its new tokens as they come.

    Raises:
        UserError: for a prompt that is empty, too long or outside the vocabulary, or numbers that
            are out of range.
    """
    check(engine, prompts, count, drawing)
    found: list[Continuation] = []
    for start in range(0, len(prompts), engine.batch):
        group = prompts[start : start + engine.batch]
        filled = [*group, *[group[0]] * (engine.batch - len(group))]
        keys = engines.row_keys(seed, range(start, start + engine.batch))
        state = engine.read(engine.start(), filled)
        rows = [Continuation([], [], False) for _ in filled]
        while len(rows[0].tokens) < count and not all(row.ended for row in rows[: len(group)]):
            step = 1 if allowed else min(engines.BLOCK, count - len(rows[0].tokens))
            mask = allowed([row.tokens for row in rows]) if allowed else None
            state, new = engine.draw(state, drawing, keys, step, mask)
            for number, row in enumerate(rows):
                before = len(row.tokens)
                row.tokens.extend(new.tokens[number].tolist())
                row.log_probabilities.extend(new.log_probabilities[number].tolist())
                if number < len(group) and not row.ended:
                    kept = ends(row.tokens)
                    rows[number] = row._replace(ended=kept is not None)
                    told(start + number, row.tokens[before:kept])
        found += [_cut(row, ends(row.tokens)) for row in rows[: len(group)]]
    return found


def _cut(row: Continuation, kept: int | None) -> Continuation:
    """A row that was drawn on while others had not ended."""
    return row._replace(tokens=row.tokens[:kept], log_probabilities=row.log_probabilities[:kept])
