"""A random hidden Markov model: text whose memory no window of tokens holds.

States follow one another by a table and each emits a symbol by another, all rows being drawn from a
symmetric Dirichlet. The probability of a text is exact by the forward algorithm (Rabiner 1989,
equations 19 to 21). A window is a token 0, which only opens it, and `length` symbols of the
stationary process, so that a network has all that there is to know.
"""

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from research.data import source, truth
from research.data.pack import Writer
from research.data.settings import Config, check_least, check_seed
from research.data.sources import markov

Array = NDArray[np.float64]
# vocab_size: with the token 0 that opens a window. concentration: of the symmetric Dirichlet that
# draws each row of both tables.
DEFAULTS = {
    "length": 64,
    "vocab_size": 17,
    "states": 16,
    "concentration": 0.1,
    "seed": 0,
    "tokens": 4_000_000,
    "validation_tokens": 400_000,
}


def check(data: Config) -> None:
    """Raise UserError for a model that cannot be."""
    check_least(data, "length", "tokens", "validation_tokens")
    check_seed(data)
    truth.check_range(data, "vocab_size", 3, 4096)
    truth.check_range(data, "states", 2, 256)
    truth.check_range(data, "concentration", 1e-3, 1e6)
    truth.check_windows(data)


def outline(data: Config) -> source.Spec:
    """Windows that are independent draws, so that they share no token."""
    return truth.windows(data)


def fill(writer: Writer, data: Config) -> None:
    """Write the windows of each split, one after another."""
    truth.write_windows(writer, data, sample, floor)


def tables(data: Config) -> tuple[Array, Array]:
    """Return P(next state | state) [states, states] and P(symbol | state) [states, symbols]."""
    return _tables(data["states"], data["vocab_size"] - 1, data["concentration"], data["seed"])


@functools.lru_cache(maxsize=2)
def _tables(states: int, symbols: int, concentration: float, seed: int) -> tuple[Array, Array]:
    rng = truth.generator({"seed": seed})
    found = [rng.dirichlet(np.full(n, concentration), size=states) for n in (states, symbols)]
    for each in found:
        each.setflags(write=False)
    return found[0], found[1]


def sample(data: Config, windows: int, rng: np.random.Generator) -> NDArray[Any]:
    """Draw windows [windows, length + 1] of tokens."""
    following, emission = tables(data)
    states = markov.sample(following, windows, data["length"] - 1, rng)
    sums = np.cumsum(emission, axis=1)
    table = (sums / sums[:, -1:] + np.arange(len(sums))[:, None]).ravel()
    found = np.searchsorted(table, states + rng.random(states.shape), side="right")
    return truth.opened(np.clip(found - states * emission.shape[1], 0, emission.shape[1] - 1))


def log_probability(data: Config, samples: NDArray[np.integer]) -> Array:
    """Return log p of windows [N, T] after the token that opens them, in nats."""
    following, emission = tables(data)
    symbols, valid = truth.closed(samples, data["vocab_size"])
    belief, total = np.tile(markov.stationary(following), (len(symbols), 1)), np.zeros(len(symbols))
    with np.errstate(divide="ignore", invalid="ignore"):
        for column in symbols.T:
            joint = belief * emission.T[column]
            each = joint.sum(1, keepdims=True)
            total += np.log(each[:, 0])
            belief = np.where(each > 0, joint / each, 0) @ following
    return np.where(valid, total, -np.inf)


def floor(data: Config, validation: NDArray[Any]) -> dict[str, Any]:
    """Return bits a token, as -log2 p averaged over the windows of the validation split."""
    each = -log_probability(data, validation) / (np.log(2) * data["length"])
    return truth.mean(
        each,
        "bits/token",
        "exact log probability, sample mean",
        f"forward algorithm on {len(each)} validation windows of {data['length']} tokens",
    )
