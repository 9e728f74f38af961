"""Facts as often as a power of their rank, each to be learned by heart: a known learning curve.

Fact i = 0, 1, ... comes with a probability in proportion to (i + 1)^-(alpha + 1), and its answer is
drawn once, evenly, so that nothing of it follows from others. Who remembers what was seen errs,
after n examples, on what was not: sum_i p_i (1 - p_i)^n, which falls as n^-beta as long as there
are facts left, beta = alpha / (1 + alpha) (Hutter 2021; Michaud et al. 2023, who have the exponent
alpha for how many facts fit into a network). A window is a token 0, the digits of i, and the
answer, which alone has a weight, so that scores are bits an answer.
"""

import functools
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from research.data import source, truth
from research.data.pack import Writer
from research.data.settings import Config, check_least, check_seed
from research.errors import UserError

Array = NDArray[np.float64]
# length: the digits of a fact and its answer. vocab_size: the digits, as many answers, and 0.
DEFAULTS = {
    "length": 4,
    "vocab_size": 17,
    "facts": 4_096,
    "alpha": 0.5,
    "seed": 0,
    "examples": 200_000,
    "validation_examples": 20_000,
}


def check(data: Config) -> None:
    """Raise UserError for facts that cannot be, or that their digits do not tell apart."""
    check_least(data, "facts", "examples", "validation_examples")
    check_seed(data)
    truth.check_range(data, "length", 2, 16)
    truth.check_range(data, "vocab_size", 3, 4096)
    truth.check_range(data, "alpha", 0.01, 10)
    most = min((data["vocab_size"] - 1) ** (data["length"] - 1), 2**24)
    if data["facts"] > most:
        raise UserError(
            f"data.facts is {data['facts']}; at most {most} are told apart by {data['length'] - 1} "
            f"digits of {data['vocab_size'] - 1} kinds"
        )


def outline(data: Config) -> source.Spec:
    """Windows of one fact each, with weights."""
    length, vocab_size = data["length"], data["vocab_size"]
    return source.text(length, vocab_size, stride=length + 1, beside=("weights",))


def fill(writer: Writer, data: Config) -> None:
    """Write the windows of each split, and weights that are the length on answers: 1 on average."""
    weights = np.zeros(data["length"] + 1, np.float32)
    weights[-1] = data["length"]
    for split, count, rng in truth.draws(data, "examples"):
        drawn = sample(data, count, rng)
        writer.append(split, "tokens", windows(data, drawn).ravel())
        writer.append(split, "weights", np.tile(weights, count))
        if split == "train":
            writer.facts["floor"] = floor(data, drawn)


def probabilities(data: Config) -> Array:
    """Return how often each fact comes, [facts]."""
    return _probabilities(data["facts"], data["alpha"])


@functools.lru_cache(maxsize=2)
def _probabilities(facts: int, alpha: float) -> Array:
    found = np.arange(1, facts + 1) ** -(alpha + 1.0)
    found /= found.sum()
    found.setflags(write=False)
    return found


def answers(data: Config) -> NDArray[np.int64]:
    """Return the answer of each fact, [facts] from 0 to vocab_size - 2."""
    return truth.generator(data).integers(data["vocab_size"] - 1, size=data["facts"])


def sample(data: Config, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw facts [count] by their numbers."""
    sums = np.cumsum(probabilities(data))
    return np.searchsorted(sums[:-1] / sums[-1], rng.random(count), side="right")


def windows(data: Config, facts: NDArray[np.integer]) -> NDArray[Any]:
    """Return windows [N, length + 1] of facts [N]: digits, the last one first, and answers."""
    symbols = data["vocab_size"] - 1
    digits = facts[:, None] // symbols ** np.arange(data["length"] - 1) % symbols
    return truth.opened(np.concatenate([digits, answers(data)[facts][:, None]], axis=1))


def exponent(data: Config) -> float:
    """Return beta, by which the error of who remembers falls with examples."""
    return data["alpha"] / (1 + data["alpha"])


def learning_curve(data: Config, examples: ArrayLike) -> Array:
    """Return the expected share of unseen facts after so many examples [...], exactly.

    It is the error of who remembers everything and does not guess; log2(vocab_size - 1) times it
    are the expected bits an answer of who guesses evenly.
    """
    p, counts = probabilities(data), np.asarray(examples, np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):  # of one fact alone
        logs = np.log1p(-p)
        left = [np.exp(np.where(n > 0, n * logs, 0.0)) @ p for n in counts.ravel()]
    return np.array(left).reshape(counts.shape)


def floor(data: Config, train: NDArray[np.integer]) -> dict[str, Any]:
    """Return the bits an answer of who knows all that the train split holds, and guesses the rest.

    It is the probability of facts that are not in it, times log2 of the answers there are.
    """
    unseen = np.bincount(train, minlength=data["facts"]) == 0
    return {
        "value": float(probabilities(data)[unseen].sum() * np.log2(data["vocab_size"] - 1)),
        "unit": "bits/token",
        "kind": "exact",
        "source": f"answers of the facts that are not among {len(train)} training examples",
    }
