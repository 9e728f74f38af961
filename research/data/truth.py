"""What sources whose distribution is known have in common: their draws and what they say of it.

Such a source may have, beside the protocol of `research.data.sources`,

    log_probability(data, samples) -> float64 [N], the natural log of the true probability, or
        density, of samples as a family draws them: images [N, height, width, channels], or tokens
        [N, T], T from 2 to data.length + 1, given the first one of each; minus infinity where they
        cannot be

which `research.evaluation.reverse_cross_entropy` and `.excess` read.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from research.data import source, sources
from research.data.pack import Writer
from research.data.settings import SPLITS, Config
from research.errors import UserError


def known(data: Config, where: str) -> None:
    """Raise UserError, which begins with `where`, for a source that knows no true probability."""
    if not hasattr(sources.load(data["name"]), "log_probability"):
        valid = [n for n in sources.SOURCES if hasattr(sources.load(n), "log_probability")]
        raise UserError(
            f"{where} asks for the true probability, which config.data.name={data['name']!r} does "
            f"not know; nearest valid: {', '.join(valid)}"
        )


def generator(data: Config, number: int = 0) -> np.random.Generator:
    """The random numbers of split `number`, from 1 on; 0 draws what all splits share."""
    return np.random.default_rng(np.random.SeedSequence(data["seed"], spawn_key=(number,)))


def draws(data: Config, unit: str) -> Iterator[tuple[str, int, np.random.Generator]]:
    """Each split, how many of the `unit` it has by `data`, and its random numbers."""
    for number, split in enumerate(SPLITS, start=1):
        key = unit if split == "train" else f"validation_{unit}"
        yield split, data[key], generator(data, number)


def windows(data: Config) -> source.Spec:
    """The spec of windows that are independent draws, so that they share no token."""
    return source.text(data["length"], data["vocab_size"], stride=data["length"] + 1)


def write_windows(writer: Writer, data: Config, sample: Callable, floor: Callable) -> None:
    """Write the windows of each split, one after another, and the floor of the validation's.

    Args:
        sample: (data, how many, random numbers) -> windows [windows, length + 1].
        floor: (data, windows) -> a floor.
    """
    for split, count, rng in draws(data, "tokens"):
        drawn = sample(data, count // data["length"], rng)
        writer.append(split, "tokens", drawn.ravel())
        if split == "validation":
            writer.facts["floor"] = floor(data, drawn)


def write_images(writer: Writer, data: Config, sample: Callable, floor: Callable) -> None:
    """Write the images of each split, and the floor of the validation's.

    Args:
        sample: (data, how many, random numbers) -> (images, labels).
        floor: (data, images) -> a floor.
    """
    for split, count, rng in draws(data, "images"):
        images, labels = sample(data, count, rng)
        writer.append(split, "image", images)
        writer.append(split, "label", labels)
        if split == "validation":
            writer.facts["floor"] = floor(data, images)


def one_class(sample: Callable) -> Callable:
    """`sample`, which draws images alone, with the label 0 of each."""

    def labelled(data: Config, count: int, rng: np.random.Generator) -> tuple[NDArray, NDArray]:
        return sample(data, count, rng), np.zeros(count, np.int32)

    return labelled


def choose(sums: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw a number [rows] by each row of cumulated weights [rows, numbers]."""
    at = rng.random(len(sums)) * sums[:, -1]
    return np.minimum((sums <= at[:, None]).sum(1), sums.shape[1] - 1)


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


def exact(value: float, each: NDArray[np.float64], unit: str, source: str) -> dict[str, Any]:
    """An exact floor, beside the mean of bits [examples] that were drawn, and its error."""
    drawn = mean(each, unit, "exact", source)
    return {**drawn, "value": value, "sample_value": drawn["value"]}


def check_range(data: Config, key: str, low: float, high: float) -> None:
    """Raise UserError for a value of `key` that is not from `low` to `high`."""
    if not low <= data[key] <= high:
        raise UserError(f"data.{key} is {data[key]}; it must be from {low:g} to {high:g}")


def check_windows(data: Config) -> None:
    """Raise UserError for a split of data.tokens without a whole window of data.length."""
    for key in ("tokens", "validation_tokens"):
        if data[key] < data["length"]:
            raise UserError(f"data.length is {data['length']}, longer than data.{key} {data[key]}")
