"""Prompts and what follows them, as windows of bytes that a network of one length can read."""

from collections.abc import Iterable, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Item = TypeVar("Item")


def spread(items: Sequence[Item], most: int | None) -> list[Item]:
    """At most so many of `items`, spread evenly: those that `data.eval_batches` would take."""
    count = min(most or len(items), len(items))
    return [items[place * len(items) // count] for place in range(count)]


def windows(
    pairs: Iterable[tuple[str, str]], length: int
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Tokens [pairs, length + 1] of each (prompt, continuation), and weights [pairs, length].

    A prompt that is too long loses its beginning. The weights, those of the predicted tokens, are 1
    on the continuation and 0 elsewhere; behind it are zeros.

    Raises:
        ValueError: when a continuation leaves no room for one byte of its prompt.
    """
    pairs = list(pairs)
    tokens = np.zeros((len(pairs), length + 1), np.uint8)
    weights = np.zeros((len(pairs), length), np.float32)
    for row, (prompt, continuation) in enumerate(pairs):
        end = continuation.encode()
        begin = prompt.encode()[max(0, len(prompt.encode()) + len(end) - length - 1) :]
        if not begin or len(begin) + len(end) > length + 1:
            raise ValueError(f"{len(end)} bytes and a prompt do not fit into {length + 1}")
        text = begin + end
        tokens[row, : len(text)] = np.frombuffer(text, np.uint8)
        weights[row, len(begin) - 1 : len(text) - 1] = 1
    return tokens, weights
