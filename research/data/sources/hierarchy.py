"""The random hierarchy model: a grammar of fixed depth, whose strings are all as likely.

A string begins as one of the classes. Each symbol becomes `branching` symbols of the level below
by one of its `synonyms` rules, drawn evenly, `depth` times over (Cagnetta et al. 2024;
Cagnetta and Wyart 2024 for the next token). Rules are drawn once, and no two of a level have the
same right side: a string has one derivation at most, so that its probability and the entropy are
exact. A window is a token 0, which only opens it, and whole strings, one after another.
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
Rules = tuple[NDArray[np.int64], ...]
# length: a multiple of branching ** depth, the tokens of a string. vocab_size: the symbols of every
# level but that of classes, with the token 0 that opens a window.
DEFAULTS = {
    "length": 16,
    "vocab_size": 9,
    "depth": 4,
    "branching": 2,
    "synonyms": 4,
    "classes": 8,
    "seed": 0,
    "tokens": 4_000_000,
    "validation_tokens": 400_000,
}
MOST_RULES = 2**20  # right sides, of which those of a level are drawn


def check(data: Config) -> None:
    """Raise UserError for a grammar that cannot be without two readings of a string."""
    check_least(data, "length", "depth", "synonyms", "classes", "tokens", "validation_tokens")
    check_seed(data)
    truth.check_range(data, "vocab_size", 3, 4096)
    truth.check_range(data, "branching", 2, 8)
    truth.check_range(data, "depth", 1, 10)
    symbols, sides = data["vocab_size"] - 1, (data["vocab_size"] - 1) ** data["branching"]
    if sides > MOST_RULES:
        raise UserError(
            f"data.branching is {data['branching']} with data.vocab_size {data['vocab_size']}: "
            f"{sides} right sides of rules; at most {MOST_RULES} are allowed"
        )
    most = sides // (symbols if data["depth"] > 1 else 1)
    if data["synonyms"] > most:
        raise UserError(
            f"data.synonyms is {data['synonyms']}; {symbols} symbols have at most {most} rules of "
            f"{data['branching']} symbols each that tell them apart"
        )
    if data["classes"] * data["synonyms"] > sides:
        raise UserError(
            f"data.classes is {data['classes']}; at most {sides // data['synonyms']} are told "
            f"apart by {data['synonyms']} rules each"
        )
    whole = data["branching"] ** data["depth"]
    if data["length"] % whole:
        valid = max(1, data["length"] // whole) * whole
        raise UserError(
            f"data.length is {data['length']}; it must be a multiple of branching ** depth = "
            f"{whole}, the tokens of a string; nearest valid: {valid}"
        )
    truth.check_windows(data)


def outline(data: Config) -> source.Spec:
    """Windows that are independent draws, so that they share no token."""
    return truth.windows(data)


def fill(writer: Writer, data: Config) -> None:
    """Write the windows of each split, one after another."""
    writer.facts["floor"] = floor(data)
    for split, count, rng in truth.draws(data, "tokens"):
        writer.append(split, "tokens", sample(data, count // data["length"], rng).ravel())


def rules(data: Config) -> Rules:
    """Return the right sides of each level, the classes' first: [left, synonyms, branching]."""
    keys = ("vocab_size", "depth", "branching", "synonyms", "classes", "seed")
    return _rules(*(data[key] for key in keys))


@functools.lru_cache(maxsize=2)
def _rules(
    vocab_size: int, depth: int, branching: int, synonyms: int, classes: int, seed: int
) -> Rules:
    rng, symbols = truth.generator({"seed": seed}), vocab_size - 1
    found = []
    for left in (classes, *[symbols] * (depth - 1)):
        codes = rng.choice(symbols**branching, size=(left, synonyms), replace=False)
        found.append(codes[..., None] // symbols ** np.arange(branching) % symbols)
    return tuple(found)


def sample(data: Config, windows: int, rng: np.random.Generator) -> NDArray[Any]:
    """Draw windows [windows, length + 1] of tokens."""
    strings = windows * data["length"] // data["branching"] ** data["depth"]
    symbols = rng.integers(data["classes"], size=(strings, 1))
    for level in rules(data):
        which = rng.integers(data["synonyms"], size=symbols.shape)
        symbols = level[symbols, which].reshape(strings, -1)
    return truth.opened(symbols.reshape(windows, data["length"]))


def log_probability(data: Config, samples: NDArray[np.integer]) -> Array:
    """Return log p of windows [N, T] after the token that opens them, in nats.

    Strings are read upwards: the probability of what is below a node, by the symbol there. Where
    a window ends within a string, what would follow is any, of probability 1.
    """
    symbols, valid = truth.closed(samples, data["vocab_size"])
    whole = data["branching"] ** data["depth"]
    strings = -(-symbols.shape[1] // whole)
    below = np.ones((len(symbols), strings * whole, data["vocab_size"] - 1))
    below[:, : symbols.shape[1]] = np.eye(data["vocab_size"] - 1)[symbols]
    below = below.reshape(len(symbols) * strings, whole, -1)
    for level in reversed(rules(data)):
        parts = below.reshape(len(below), -1, data["branching"], below.shape[2])
        each = [parts[:, :, place, level[..., place]] for place in range(data["branching"])]
        below = np.prod(each, axis=0).mean(-1)
    with np.errstate(divide="ignore"):
        logs = np.log(below.mean((1, 2))).reshape(-1, strings).sum(1)
    return np.where(valid, logs, -np.inf)


def entropy(data: Config) -> float:
    """Return the entropy of a string in nats: of its class, and of the rule at each node."""
    nodes = sum(data["branching"] ** level for level in range(data["depth"]))
    return float(np.log(data["classes"]) + nodes * np.log(data["synonyms"]))


def floor(data: Config) -> dict[str, Any]:
    """Return the exact entropy in bits a token."""
    return {
        "value": entropy(data) / (np.log(2) * data["branching"] ** data["depth"]),
        "unit": "bits/token",
        "kind": "exact",
        "source": "entropy of the class and of the rules of a string",
    }
