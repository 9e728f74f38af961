"""Text drawn from a random network that is known: a student can be as good, and no better.

The next symbol's logits are those of a perceptron of one hidden layer that reads the last `context`
tokens as one-hot vectors, divided by the temperature; before a window stands the token 0 that opens
it, as often as is read (teachers and students as in Seung et al. 1992). What the network says is in
a table by the tokens it reads, so that probabilities and the entropy are exact.
"""

import functools
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from research.data import source, truth
from research.data.pack import Writer
from research.data.settings import Config, check_least, check_seed
from research.errors import UserError

Array = NDArray[np.float64]
# vocab_size: with the token 0 that opens a window. hidden: width of the teacher. temperature: that
# its logits, of variance about 1 over weights, are divided by.
DEFAULTS = {
    "length": 64,
    "vocab_size": 17,
    "context": 4,
    "hidden": 32,
    "temperature": 0.3,
    "seed": 0,
    "tokens": 4_000_000,
    "validation_tokens": 400_000,
}
MOST = 2**22  # numbers in the table
ROWS = 2**14  # of the table that are computed at a time


class Weights(NamedTuple):
    """Of the teacher.

    Attributes:
        read: of the token that is 1, ..., context tokens back, [context, vocab_size, hidden].
        write: [hidden, symbols].
    """

    read: Array
    write: Array


def check(data: Config) -> None:
    """Raise UserError for a teacher that cannot be."""
    check_least(data, "length", "context", "hidden", "tokens", "validation_tokens")
    check_seed(data)
    truth.check_range(data, "vocab_size", 3, 4096)
    truth.check_range(data, "hidden", 1, 1024)
    truth.check_range(data, "temperature", 1e-3, 1e3)
    if data["context"] > 21 or data["vocab_size"] ** (data["context"] + 1) > MOST:
        raise UserError(
            f"data.context is {data['context']} with data.vocab_size {data['vocab_size']}: the "
            f"teacher would say {data['vocab_size']}^{data['context'] + 1} numbers; at most {MOST} "
            "are allowed"
        )
    truth.check_windows(data)


def outline(data: Config) -> source.Spec:
    """Windows that are independent draws, so that they share no token."""
    return truth.windows(data)


def fill(writer: Writer, data: Config) -> None:
    """Write the windows of each split, one after another."""
    truth.write_windows(writer, data, sample, floor)


def weights(data: Config) -> Weights:
    """Return the teacher's weights."""
    return _weights(*(data[key] for key in ("context", "vocab_size", "hidden", "seed")))


@functools.lru_cache(maxsize=2)
def _weights(context: int, vocab_size: int, hidden: int, seed: int) -> Weights:
    rng = truth.generator({"seed": seed})
    # tanh of a standard normal has a variance of .394.
    read = rng.standard_normal((context, vocab_size, hidden)) / context**0.5
    return Weights(read, rng.standard_normal((hidden, vocab_size - 1)) / (0.394 * hidden) ** 0.5)


def table(data: Config) -> Array:
    """Return log P(symbol | tokens read) [vocab_size ** context, symbols].

    Row s is that of the tokens of s written in base vocab_size, the oldest first; 0 is a window's
    beginning.
    """
    keys = ("context", "vocab_size", "hidden", "temperature", "seed")
    return _table(*(data[key] for key in keys))


@functools.lru_cache(maxsize=2)
def _table(context: int, vocab_size: int, hidden: int, temperature: float, seed: int) -> Array:
    of, found, states = _weights(context, vocab_size, hidden, seed), [], vocab_size**context
    for rows in np.split(np.arange(states), range(ROWS, states, ROWS)):
        inner = sum(of.read[back, rows // vocab_size**back % vocab_size] for back in range(context))
        logits = np.tanh(inner) @ of.write / temperature
        logits -= logits.max(1, keepdims=True)
        found.append(logits - np.log(np.exp(logits).sum(1, keepdims=True)))
    return np.concatenate(found)


def _follow(data: Config, states: NDArray[np.int64], symbols: NDArray[np.int64]) -> NDArray:
    """What is read after symbols that follow what was read before, both [N]."""
    return (states * data["vocab_size"] + symbols + 1) % data["vocab_size"] ** data["context"]


def sample(data: Config, windows: int, rng: np.random.Generator) -> NDArray[Any]:
    """Draw windows [windows, length + 1] of tokens."""
    sums = np.cumsum(np.exp(table(data)), axis=1)
    states, symbols = np.zeros(windows, np.int64), np.empty((windows, data["length"]), np.int64)
    for place in range(data["length"]):
        symbols[:, place] = truth.choose(sums[states], rng)
        states = _follow(data, states, symbols[:, place])
    return truth.opened(symbols)


def log_probability(data: Config, samples: NDArray[np.integer]) -> Array:
    """Return log p of windows [N, T] after the token that opens them, in nats."""
    symbols, valid = truth.closed(samples, data["vocab_size"])
    logs, states, total = table(data), np.zeros(len(symbols), np.int64), np.zeros(len(symbols))
    for column in symbols.T:
        total += logs[states, column]
        states = _follow(data, states, column)
    return np.where(valid, total, -np.inf)


def entropy(data: Config) -> float:
    """Return the entropy of a window in nats: of each next token, by how likely what is read is."""
    logs, vocab_size = table(data), data["vocab_size"]
    chances, total = np.exp(logs), 0.0
    each = -(chances * logs).sum(1)
    states = np.zeros(len(logs))
    states[0] = 1
    for _ in range(data["length"]):
        total += float(states @ each)
        # The oldest token is forgotten, and the next one, which is never 0, comes in.
        joint = (states[:, None] * chances).reshape(vocab_size, -1, vocab_size - 1).sum(0)
        states = np.pad(joint, ((0, 0), (1, 0))).ravel()
    return total


def floor(data: Config, validation: NDArray[Any]) -> dict[str, Any]:
    """Return the exact entropy in bits a token, beside the mean of -log2 p of `validation`."""
    scale = np.log(2) * data["length"]
    each = -log_probability(data, validation) / scale
    said = f"entropy of the teacher's next token over the {data['length']} of a window"
    return truth.exact(entropy(data) / scale, each, "bits/token", said)
