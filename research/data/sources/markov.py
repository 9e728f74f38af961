"""A random Markov chain of known entropy: text that no model can predict better than the floor.

The next symbol depends on the `order` symbols before it; each row of transition probabilities is
drawn from a symmetric Dirichlet. Entropies are those of the stationary chain (Cover & Thomas
2006, theorem 4.2.4), in bits a token, computed exactly.
"""

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from research.data import source, truth
from research.data.pack import Writer
from research.data.settings import Config, check_least, check_seed
from research.errors import UserError

Array = NDArray[np.float64]
# concentration: of the symmetric Dirichlet that draws each row of transition probabilities.
DEFAULTS = {
    "length": 128,
    "vocab_size": 16,
    "order": 2,
    "concentration": 0.3,
    "seed": 0,
    "tokens": 4_000_000,
    "validation_tokens": 400_000,
}


def check(data: Config) -> None:
    """Raise UserError for a chain that cannot be."""
    check_least(data, "length", "order", "tokens", "validation_tokens")
    check_seed(data)
    vocab_size, order = data["vocab_size"], data["order"]
    if not 2 <= vocab_size <= 256:
        raise UserError(f"data.vocab_size is {vocab_size}; a Markov chain has 2 to 256 symbols")
    if vocab_size ** (order + 1) > 2**22:
        raise UserError(
            f"data.order is {order} with data.vocab_size {vocab_size}: the chain would have"
            f" {vocab_size}^{order + 1} probabilities; at most 4194304 are allowed"
        )
    if not 1e-3 <= data["concentration"] <= 1e6:
        raise UserError(f"data.concentration is {data['concentration']}; it must be in 0.001..1e6")
    for key in ("tokens", "validation_tokens"):
        if data[key] < data["length"]:
            raise UserError(f"data.length is {data['length']}, longer than data.{key} {data[key]}")


def outline(data: Config) -> source.Spec:
    """Windows that are independent draws, so that they share no token."""
    return truth.windows(data)


def fill(writer: Writer, data: Config) -> None:
    """Write the windows of each split, one after another."""

    def drawn(data: Config, windows: int, rng: np.random.Generator) -> NDArray[np.uint8]:
        return sample(transition(data), windows, data["length"], rng)

    truth.write_windows(writer, data, drawn, floor)


def transition(data: Config) -> Array:
    """Return P(next | last `order` symbols), float64 [vocab_size ** order, vocab_size]."""
    return _transition(data["vocab_size"], data["order"], data["concentration"], data["seed"])


@functools.lru_cache(maxsize=2)
def _transition(vocab_size: int, order: int, concentration: float, seed: int) -> Array:
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(0,)))
    rows = rng.dirichlet(np.full(vocab_size, concentration), size=vocab_size**order)
    rows.setflags(write=False)
    return rows


def stationary(rows: Array, tolerance: float = 1e-15, most: int = 200_000) -> Array:
    """Return the stationary distribution of the chain over its last `order` symbols.

    State s stands for the symbols of s written in base vocab_size, the oldest first. The lazy
    chain (P + I) / 2 is iterated, which has the same distribution and cannot oscillate.

    Args:
        rows: P(next | state), float64 [vocab_size ** order, vocab_size].
        tolerance: the total change of one iteration at which it stops.
        most: iterations allowed.

    Raises:
        UserError: when the chain mixes too slowly for `most` iterations.
    """
    states, vocab_size = rows.shape
    now = np.full(states, 1 / states)
    for _ in range(most):
        # Dropping the oldest symbol and appending the next one is a sum over the first axis.
        joint = (now[:, None] * rows).reshape(vocab_size, states)
        after = 0.5 * (now + joint.sum(0))
        after /= after.sum()
        change = np.abs(after - now).sum()
        now = after
        if change < tolerance:
            return now
    raise UserError(
        f"data.concentration: the Markov chain is not mixed after {most} steps; raise it"
    )


def blocks(rows: Array) -> list[Array]:
    """Return the probabilities of the first 1, 2, ..., order + 1 symbols of the stationary chain.

    Entry j - 1 is float64 [vocab_size ** j], indexed as the states of `stationary` are.
    """
    vocab_size = rows.shape[1]
    longest = (stationary(rows)[:, None] * rows).ravel()
    found = [longest]
    while len(found[0]) > vocab_size:
        found.insert(0, found[0].reshape(-1, vocab_size).sum(1))
    return found


def entropy(probabilities: Array) -> float:
    """Return the entropy of a distribution in bits; 0 log 0 is 0."""
    positive = probabilities[probabilities > 0]
    return float(-(positive * np.log2(positive)).sum())


def entropy_rate(rows: Array) -> float:
    """Return lim H(next | all before) in bits a token: the mean entropy of a row, by state."""
    each = np.array([entropy(row) for row in rows])
    return float(stationary(rows) @ each)


def window_entropy(rows: Array, length: int) -> float:
    """Return the mean of H(x_t | x_0 .. x_t-1) over t = 1 .. `length`, in bits a token.

    This is the floor of a model that sees nothing before its window of length + 1 tokens: its
    first order - 1 predictions have less context than the chain uses, so it lies above the
    entropy rate. By the chain rule H(x_t | before) is a difference of two block entropies.
    """
    known = [entropy(block) for block in blocks(rows)]
    short = np.diff(known)[: min(length, len(known) - 2)]  # t = 1 .. order - 1
    return float(short.sum() + (length - len(short)) * entropy_rate(rows)) / length


def log2_probability(rows: Array, windows: NDArray[np.integer]) -> Array:
    """Return log2 P(x_1 .. x_length | x_0) of the stationary chain.

    Args:
        rows: P(next | state), float64 [vocab_size ** order, vocab_size].
        windows: symbols, [windows, length + 1].

    Returns:
        float64 [windows], in bits; minus its mean over windows / length is the score of the
        chain itself on these windows, which tends to `window_entropy`.
    """
    vocab_size = rows.shape[1]
    known = blocks(rows)
    order, total = len(known) - 1, np.zeros(len(windows))
    state = windows[:, 0].astype(np.int64)
    for position in range(1, windows.shape[1]):
        following = state * vocab_size + windows[:, position]
        if position < order:
            total += np.log2(known[position][following]) - np.log2(known[position - 1][state])
        else:
            total += np.log2(rows.ravel()[following])
        state = following % vocab_size**order
    return total


def log_probability(data: Config, samples: NDArray[np.integer]) -> Array:
    """Return log P of windows [N, T] after their first symbol, in nats (`research.data.truth`)."""
    valid = ((samples >= 0) & (samples < data["vocab_size"])).all(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        bits = log2_probability(transition(data), np.where(valid[:, None], samples, 0))
    return np.where(valid & ~np.isnan(bits), bits * np.log(2), -np.inf)


def sample(rows: Array, windows: int, length: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw independent stationary windows, uint8 [windows, length + 1], all chains in step."""
    states, vocab_size = rows.shape
    # Row s of the cumulative table is shifted by s, so one search serves every state at once.
    table = (np.cumsum(rows, axis=1) + np.arange(states)[:, None]).ravel()
    order = round(np.log(states) / np.log(vocab_size))
    first = np.searchsorted(np.cumsum(stationary(rows)), rng.random(windows), side="right")
    state = np.minimum(first, states - 1)
    symbols = np.empty((windows, max(length + 1, order)), np.uint8)
    for position in range(order):
        symbols[:, position] = state // vocab_size ** (order - 1 - position) % vocab_size
    for position in range(order, length + 1):
        found = np.searchsorted(table, state + rng.random(windows), side="right")
        following = np.clip(found, state * vocab_size, state * vocab_size + vocab_size - 1)
        symbols[:, position] = following % vocab_size
        state = following % states
    return symbols[:, : length + 1]


def floor(data: Config, validation: NDArray[np.uint8]) -> dict[str, Any]:
    """Return the exact floor in bits a token for windows of data.length predicted tokens.

    "value" is the expectation; "sample_value" is the score of the chain itself on the windows of
    the validation split, whose standard error is "standard_error".
    """
    rows, length = transition(data), data["length"]
    each = -log2_probability(rows, validation) / length
    said = f"mean conditional entropy of the chain over {length} tokens of a window"
    known = truth.exact(window_entropy(rows, length), each, "bits/token", said)
    return {**known, "entropy_rate": entropy_rate(rows)}
