"""Text drawn from a random network that is known: a student can be as good, and no better.

The next symbol's logits are those of a perceptron of one hidden layer that reads the last `context`
tokens as one-hot vectors, divided by the temperature; what stands before a window is the token 0
that opens it (a teacher as Hinton et al. 2015 have it, but drawn in place of trained; Seung et al.
1992). So all conditional probabilities are exact, and nothing is learned from before a window.
"""

import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from research.data import source, truth
from research.data.pack import Writer
from research.data.settings import Config, check_least, check_seed

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
    "tokens": 1_000_000,
    "validation_tokens": 200_000,
}


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
    truth.check_range(data, "context", 1, 64)
    truth.check_range(data, "hidden", 1, 1024)
    truth.check_range(data, "temperature", 1e-3, 1e3)
    truth.check_windows(data)


def outline(data: Config) -> source.Spec:
    """Windows that are independent draws, so that they share no token."""
    return source.text(data["length"], data["vocab_size"], stride=data["length"] + 1)


def fill(writer: Writer, data: Config) -> None:
    """Write the windows of each split, one after another."""
    for split, count, rng in truth.draws(data, "tokens"):
        windows = sample(data, count // data["length"], rng)
        writer.append(split, "tokens", windows.ravel())
        if split == "validation":
            writer.facts["floor"] = floor(data, windows)


def weights(data: Config) -> Weights:
    """Return the teacher's weights."""
    return _weights(*(data[key] for key in ("context", "vocab_size", "hidden", "seed")))


@functools.lru_cache(maxsize=2)
def _weights(context: int, vocab_size: int, hidden: int, seed: int) -> Weights:
    rng = truth.generator({"seed": seed})
    # tanh of a standard normal has a variance of .394.
    read = rng.standard_normal((context, vocab_size, hidden)) / context**0.5
    return Weights(read, rng.standard_normal((hidden, vocab_size - 1)) / (0.394 * hidden) ** 0.5)


def log_conditional(data: Config, before: NDArray[np.integer]) -> Array:
    """Return log P(symbol | tokens before) [N, symbols] of texts [N, T] that a 0 opens, T >= 1."""
    of, recent = weights(data), before[:, : -data["context"] - 1 : -1]
    inner = sum(of.read[back, recent[:, back]] for back in range(recent.shape[1]))
    inner = inner + of.read[recent.shape[1] :, 0].sum(0)  # 0 is what stands before the window
    logits = np.tanh(inner) @ of.write / data["temperature"]
    logits -= logits.max(1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(1, keepdims=True))


def sample(data: Config, windows: int, rng: np.random.Generator) -> NDArray[Any]:
    """Draw windows [windows, length + 1] of tokens."""
    tokens = np.zeros((windows, data["length"] + 1), np.int64)
    for place in range(1, data["length"] + 1):
        sums = np.cumsum(np.exp(log_conditional(data, tokens[:, :place])), axis=1)
        at = rng.random(windows) * sums[:, -1]
        tokens[:, place] = 1 + np.minimum((sums <= at[:, None]).sum(1), sums.shape[1] - 1)
    return truth.opened(tokens[:, 1:] - 1)


def _each(data: Config, tokens: NDArray[np.integer]) -> Iterator[Array]:
    """The log conditional [N, symbols] of each token after the first."""
    for place in range(1, tokens.shape[1]):
        yield log_conditional(data, tokens[:, :place])


def log_probability(data: Config, samples: NDArray[np.integer]) -> Array:
    """Return log p of windows [N, T] after the token that opens them, in nats."""
    symbols, valid = truth.closed(samples, data["vocab_size"])
    tokens, rows = truth.opened(symbols).astype(np.int64), np.arange(len(symbols))
    logs = [each[rows, symbols[:, i]] for i, each in enumerate(_each(data, tokens))]
    return np.where(valid, np.sum(logs, axis=0), -np.inf)


def floor(data: Config, validation: NDArray[Any]) -> dict[str, Any]:
    """Return bits a token: the exact entropy of each next token, averaged over the validation.

    "sample_value" is the score of the teacher on these windows, -log2 p.
    """
    tokens, total = validation.astype(np.int64), np.zeros(len(validation))
    for logs in _each(data, tokens):
        total -= (np.exp(logs) * logs).sum(1)
    scale = np.log(2) * data["length"]
    return {
        **truth.mean(
            total / scale,
            "bits/token",
            "exact conditional entropies, sample mean",
            f"entropy of the teacher's next token on {len(total)} validation windows",
        ),
        "sample_value": float(-log_probability(data, validation).mean() / scale),
    }
