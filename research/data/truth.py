"""What sources whose distribution is known have in common: their draws and what they say of it.

Such a source may have, beside the protocol of `research.data.sources`,

    log_probability(data, samples) -> float64 [N], the natural log of the true probability, or
        density, of samples as a family draws them: images [N, height, width, channels], or tokens
        [N, T], T from 2 to data.length + 1, given the first one of each; minus infinity where they
        cannot be

which `research.evaluation.reverse_cross_entropy` reads.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from research.data.settings import SPLITS, Config
from research.errors import UserError


def generator(data: Config, number: int = 0) -> np.random.Generator:
    """The random numbers of split `number`, from 1 on; 0 draws what all splits share."""
    return np.random.default_rng(np.random.SeedSequence(data["seed"], spawn_key=(number,)))


def draws(data: Config, unit: str) -> Iterator[tuple[str, int, np.random.Generator]]:
    """Each split, how many of the `unit` it has by `data`, and its random numbers."""
    for number, split in enumerate(SPLITS, start=1):
        key = unit if split == "train" else f"validation_{unit}"
        yield split, data[key], generator(data, number)


def opened(symbols: NDArray[np.integer]) -> NDArray[Any]:
    """Windows [windows, length + 1]: `symbols` [windows, length], from 0 on, after a token 0.

    The token 0 opens a window and stands nowhere else, so that what follows it is the whole of a
    draw: symbol s is token s + 1.
    """
    kind = np.uint8 if symbols.max(initial=0) < 255 else np.uint16
    return np.pad(symbols + 1, ((0, 0), (1, 0))).astype(kind)


def closed(samples: NDArray[np.integer], vocab_size: int) -> tuple[NDArray[np.int64], NDArray]:
    """Symbols [N, T - 1] after the token that opens a window, and which rows are such, bool [N].

    Symbols of the other rows are any that there are.
    """
    symbols = np.asarray(samples)[:, 1:].astype(np.int64) - 1
    valid = ((symbols >= 0) & (symbols < vocab_size - 1)).all(1) & (np.asarray(samples)[:, 0] == 0)
    return np.where(valid[:, None], symbols, 0), valid


def mean(each: NDArray[np.float64], unit: str, kind: str, source: str) -> dict[str, Any]:
    """A floor that is the mean of bits [examples], with its standard error."""
    error = float(each.std(ddof=1) / len(each) ** 0.5) if len(each) > 1 else 0.0
    return {
        "value": float(each.mean()),
        "unit": unit,
        "kind": kind,
        "source": source,
        "standard_error": error,
    }


def check_range(data: Config, key: str, low: float, high: float) -> None:
    """Raise UserError for a value of `key` that is not from `low` to `high`."""
    if not low <= data[key] <= high:
        raise UserError(f"data.{key} is {data[key]}; it must be from {low:g} to {high:g}")


def check_windows(data: Config) -> None:
    """Raise UserError for a split of data.tokens without a whole window of data.length."""
    for key in ("tokens", "validation_tokens"):
        if data[key] < data["length"]:
            raise UserError(f"data.length is {data['length']}, longer than data.{key} {data[key]}")
