"""How much of what a network writes stands in its training text, by runs of 8, 16 and 32 tokens.

A score is the share of the n-grams of samples that the training split holds; beside it is the same
of validation text, which nobody copied: code repeats itself. N-grams are compared by 64-bit hashes,
computed for all places of a text at once, and the training text is read piece by piece from where
it is mapped, so that only the hashes of the samples are kept.
"""

from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from research import data, families
from research.errors import UserError
from research.evaluation import intervals

LENGTHS = (8, 16, 32)
SAMPLES = 64  # texts of config.data.length tokens
PIECE = 2**20  # tokens that are hashed at a time
FACTOR = np.uint64(0x9E3779B97F4A7C15)  # odd, and far from any power of two (Knuth 1998, 6.4)


def check(config: Any, spec: dict[str, Any]) -> None:
    if "vocab_size" not in spec:
        raise UserError(
            "config.evaluation.evaluators: 'overlap' reads text; "
            f"config.data.name={config.data.name!r} gives images"
        )
    if config.data.length < max(LENGTHS):
        raise UserError(
            f"config.data.length={config.data.length} is too short for evaluator 'overlap', which "
            f"looks for runs of {max(LENGTHS)} tokens; nearest valid: {max(LENGTHS)}"
        )


def score_kinds(config: Any) -> dict[str, dict[str, str]]:
    kind = {"unit": "share of n-grams", "kind": "estimate", "better": "lower"}
    return {name: kind for n in LENGTHS for name in (f"overlap_{n}", f"overlap_{n}_validation")}


def measure(config: Any, params: Any) -> dict[str, intervals.Estimate]:
    """The shares of samples and of as many windows of validation text, resampled by text."""
    count = min(config.evaluation.examples or SAMPLES, SAMPLES)
    sample = families.load(config.family).sample
    drawn = np.asarray(sample(config, params, jax.random.key(0), count))
    train, held = (data.load(config.data, split) for split in ("train", "validation"))
    batch = next(data.eval_batches(held, min(count, len(held)), count))
    read = train.arrays["tokens"]
    if train.taken is not None:  # data.unique: only these windows were read
        read = train.gather(np.arange(len(train)))["tokens"]
    return overlaps(read, drawn, batch["tokens"][:, : drawn.shape[1]])


def overlaps(train: NDArray, drawn: NDArray, held: NDArray) -> dict[str, intervals.Estimate]:
    """The shares of n-grams of `drawn` and `held` [texts, length] in `train`, stream or windows."""
    found = {}
    for n in LENGTHS:
        of_drawn, of_held = shares(train, [drawn, held], n)
        found[f"overlap_{n}"] = intervals.bootstrap(of_drawn)
        found[f"overlap_{n}_validation"] = intervals.bootstrap(of_held)
    return found


def shares(train: NDArray, texts: list[NDArray], n: int) -> list[NDArray[np.float64]]:
    """The share of the n-grams of each text that `train` holds: [texts] for each [texts, length].

    Every place counts, so that what is written twice counts twice.
    """
    asked = [hashes(each, n) for each in texts]
    wanted = np.unique(np.concatenate([each.ravel() for each in asked]))
    there = np.zeros(len(wanted), bool)
    for start in range(0, max(1, len(train) - n + 1), PIECE):
        known = hashes(np.asarray(train[start : start + PIECE + n - 1]), n)
        place = np.minimum(np.searchsorted(wanted, known), len(wanted) - 1)
        there[place[wanted[place] == known]] = True
    return [there[np.searchsorted(wanted, each)].mean(1) for each in asked]


def hashes(tokens: NDArray, n: int) -> NDArray[np.uint64]:
    """A 64-bit hash of each run of `n` tokens, a power of two, along the last axis.

    That of twice as many is the sum of two, the first one times FACTOR to the power of how many
    they are (Karp and Rabin 1987), modulo 2^64; tokens are mixed first.
    """
    hashed, power, length = _mixed(tokens), FACTOR, 1
    with np.errstate(over="ignore"):
        while length < n:
            hashed = hashed[..., :-length] * power + hashed[..., length:]
            power, length = power * power, 2 * length
    return hashed


def _mixed(tokens: NDArray) -> NDArray[np.uint64]:
    """Integers as 64-bit numbers without a pattern: splitmix64 (Steele et al. 2014)."""
    mixed = (np.asarray(tokens).astype(np.uint64) + np.uint64(1)) * FACTOR
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return mixed
