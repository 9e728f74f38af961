"""Prompts and what follows them, as windows of tokens that a network of one length can read."""

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import numpy as np
from ml_collections import ConfigDict
from numpy.typing import NDArray

from research import data
from research.data.tokenizers import Bytes

Item = TypeVar("Item")
Encode = Callable[[bytes], NDArray[np.int32]]


def spread(items: Sequence[Item], most: int | None) -> list[Item]:
    """At most so many of `items`, spread evenly: those that `data.eval_batches` would take."""
    count = min(most or len(items), len(items))
    return [items[place * len(items) // count] for place in range(count)]


def encoder(config: ConfigDict) -> Encode:
    """What makes tokens of bytes, as those of the run's data were made."""
    tokenizer = data.tokenizer(config.data)
    return (tokenizer or Bytes()).encode


def windows(
    pairs: Iterable[tuple[str, str]], length: int, encode: Encode
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Tokens [pairs, length + 1] of each (prompt, continuation), and weights [pairs, length].

    A prompt that is too long loses its beginning. The weights, those of the predicted tokens, are 1
    on the continuation and 0 elsewhere; behind it are zeros.

    Raises:
        ValueError: when a continuation leaves no room for one token of its prompt.
    """
    pairs = list(pairs)
    tokens = np.zeros((len(pairs), length + 1), np.int32)
    weights = np.zeros((len(pairs), length), np.float32)
    for row, (prompt, continuation) in enumerate(pairs):
        begin, end = encode(prompt.encode()), encode(continuation.encode())
        begin = begin[max(0, len(begin) + len(end) - length - 1) :]
        if not len(begin) or len(begin) + len(end) > length + 1:
            raise ValueError(f"{len(end)} tokens and a prompt do not fit into {length + 1}")
        tokens[row, : len(begin) + len(end)] = np.concatenate([begin, end])
        weights[row, len(begin) - 1 : len(begin) + len(end) - 1] = 1
    return tokens, weights
