"""The Frechet distance of drawn images to real ones, in any features (Heusel 2017, equation 6).

It is |m_1 - m_2|^2 + tr(S_1 + S_2 - 2 (S_1 S_2)^(1/2)) of means m and covariances S. On n images it
is too large by about (D + D (D + 1) / 4) / n for D features where both are alike, so that beside it
is its extrapolation to endless images, by the distance of halves: to first order in 1 / n they are
too large by twice as much (Chong and Forsyth 2020, who fit a line in 1 / n). Beside both is what
held-out images have, the floor: a distance below it is that of images which were learned by heart.
Standard errors are by the jackknife over groups of images of both sides.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from research.errors import UserError
from research.evaluation import image_features, image_samples, intervals
from research.evaluation.intervals import Estimate

GROUPS = 20
NAMES = ("frechet", "frechet_floor", "frechet_unbiased", "frechet_unbiased_floor")


def check(config: Any, spec: dict[str, Any]) -> None:
    features = image_samples.check(config, spec, "frechet")
    size = features.of(np.zeros((1, *spec["shape"]), np.uint8)).shape[1]
    name = config.evaluation.image_recipe
    count = image_samples.RECIPES[name].samples
    check_count(count, size, f"config.evaluation.image_recipe={name!r} draws {count} images")


def check_count(count: int, size: int, said: str) -> None:
    """Raise UserError, which begins as `said`, for fewer images than `size` features need."""
    if count < (least := needed(size)):
        raise UserError(
            f"{said}, too few for evaluator 'frechet' in {size} features, whose halves would have "
            f"no covariance; nearest valid: {least}"
        )


def needed(size: int) -> int:
    """How many images `size` features need: a half without a group has more images than them."""
    return GROUPS * math.ceil((size + 1) / (GROUPS // 2 - 1))


def score_kinds(config: Any) -> dict[str, dict[str, str]]:
    kind = {"unit": "squared distance of features", "kind": "estimate", "better": "lower"}
    return {name: kind for name in NAMES}


def measure(config: Any, params: Any) -> dict[str, Estimate]:
    found = image_samples.sets(config, params)
    values = {}
    for end, images in (("", found.drawn), ("_floor", found.held)):
        plain, unbiased = distances(images, found.reference)
        values[f"frechet{end}"] = plain._replace(signature=found.signature)
        values[f"frechet_unbiased{end}"] = unbiased._replace(signature=found.signature)
    return values


class Sums(NamedTuple):
    """Of features: how many, their sum [D] and the sum of their outer products [D, D]."""

    count: int
    total: NDArray[np.float64]
    outer: NDArray[np.float64]


def distance(
    mean_1: NDArray, covariance_1: NDArray, mean_2: NDArray, covariance_2: NDArray
) -> float:
    """Of two normal distributions: means [D], covariances [D, D] (Dowson and Landau 1982)."""
    values, vectors = np.linalg.eigh(covariance_1)
    root = vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T
    both = np.linalg.eigvalsh(root @ covariance_2 @ root)
    apart = ((mean_1 - mean_2) ** 2).sum()
    traces = np.trace(covariance_1) + np.trace(covariance_2)
    return float(apart + traces - 2 * np.sqrt(np.maximum(both, 0)).sum())


def frechet(x: NDArray, y: NDArray) -> float:
    """The distance of features x [n, D] to y [m, D].

    Raises:
        UserError: when they are not of one dimension, are not finite, or there are too few.
    """
    x, y = _checked(x, y)
    middle = y.mean(0)
    return distance(*moments([_sums(x, middle)]), *moments([_sums(y, middle)]))


def distances(x: NDArray, y: NDArray) -> tuple[Estimate, Estimate]:
    """The distance of features x [n, D] to y [m, D], and its extrapolation in 1 / n and 1 / m.

    Raises:
        UserError: as `frechet` does, or when there are too few for their halves.
    """
    x, y = _checked(x, y)
    check_count(min(len(x), len(y)), x.shape[1], f"{min(len(x), len(y))} images")
    middle = y.mean(0)  # outer products of what is far from zero would lose digits
    groups = [
        [_sums(features[rows], middle) for rows in _groups(len(features))] for features in (x, y)
    ]

    def of(numbers: Sequence[int]) -> float:
        x_and_y = ([side[number] for number in numbers] for side in groups)
        return distance(*(each for kept in x_and_y for each in moments(kept)))

    def both(without: int = -1) -> tuple[float, float]:
        kept = [number for number in range(GROUPS) if number != without]
        halves = [of([number for number in kept if number % 2 == half]) for half in (0, 1)]
        plain = of(kept)
        return plain, 2 * plain - sum(halves) / 2

    without = [both(group) for group in range(GROUPS)]
    values = zip(both(), zip(*without, strict=True), strict=True)
    plain, unbiased = (
        intervals.around(value, intervals.jackknife(each.__getitem__, GROUPS), len(x))
        for value, each in values
    )
    return plain, unbiased


def moments(sums: Sequence[Sums]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean [D] and covariance [D, D], over n - 1, of all of these."""
    count = sum(each.count for each in sums)
    mean = np.sum([each.total for each in sums], 0) / count
    outer = np.sum([each.outer for each in sums], 0)
    return mean, (outer - count * np.outer(mean, mean)) / (count - 1)


def _sums(features: NDArray[np.float64], middle: Any) -> Sums:
    centred = features - middle
    return Sums(len(centred), centred.sum(0), centred.T @ centred)


def _groups(count: int) -> list[NDArray[np.integer]]:
    return np.array_split(np.random.default_rng(0).permutation(count), GROUPS)


def _checked(x: NDArray, y: NDArray) -> list[NDArray[np.float64]]:
    checked = [image_features.finite(each, "images") for each in (x, y)]
    if checked[0].shape[1] != checked[1].shape[1]:
        raise UserError(
            f"features of dimensions {checked[0].shape[1]} and {checked[1].shape[1]} do not compare"
        )
    for each in checked:
        if len(each) <= each.shape[1]:
            raise UserError(
                f"{len(each)} images have no covariance of {each.shape[1]} features; at least "
                f"{each.shape[1] + 1} are needed"
            )
    return checked
