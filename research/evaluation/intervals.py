"""95% intervals of scores over examples, from sums alone or by bootstrap."""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Z = 1.959963984540054  # of the normal distribution, two-sided 95%


class Estimate(NamedTuple):
    """A score with its interval.

    Attributes:
        value: what was found on the examples.
        interval: (low, high), where the score of endless examples of their kind is, at 95%; or,
            of a score that is drawn, that of endless draws.
        examples: how many there were, if not as many as those of the batches.
        signature: of the tool that counted, its version and what it was told, if there was one.
    """

    value: float
    interval: tuple[float, float]
    examples: int | None = None
    signature: str = ""


def share(hits: float, count: float) -> Estimate:
    """The share of `count` examples that are hits, by Wilson (1927), which holds at 0 and 1 too.

    A share of no examples is NaN, and may be anything.
    """
    if not count:
        return Estimate(math.nan, (0.0, 1.0), 0)
    value = hits / count
    middle = (value + Z**2 / (2 * count)) / (1 + Z**2 / count)
    half = math.sqrt(value * (1 - value) / count + Z**2 / (4 * count**2)) * Z / (1 + Z**2 / count)
    low, high = max(0.0, middle - half), min(1.0, middle + half)
    return Estimate(value, (min(low, value), max(high, value)), int(count))


def bootstrap(
    values: NDArray[np.floating],
    statistic: Callable[[NDArray[np.floating]], NDArray[np.floating]] = lambda x: x.mean(-1),
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> Estimate:
    """A statistic of `values` [examples] and the percentiles of its resamples (Efron 1979).

    Args:
        statistic: of the last axis; the mean by default.
    """
    values = np.asarray(values, np.float64)
    drawn = np.random.default_rng(seed).integers(0, len(values), (resamples, len(values)))
    low, high = np.quantile(statistic(values[drawn]), (0.025, 0.975))
    return Estimate(float(statistic(values)), (float(low), float(high)), len(values))


def jackknife(statistic: Callable[[int], float], groups: int) -> float:
    """The standard error of a statistic by leaving out groups (Shao and Wu 1989).

    Args:
        statistic: what it is without group 0, 1, ... of `groups` of one size, drawn at random.
    """
    found = np.array([statistic(group) for group in range(groups)])
    return float(np.sqrt((groups - 1) / groups * ((found - found.mean()) ** 2).sum()))


def around(value: float, error: float, examples: int, signature: str = "") -> Estimate:
    """A value with the interval that its standard error gives."""
    return Estimate(value, (value - Z * error, value + Z * error), examples, signature)
