"""How much of what is drawn is like real images, and how much of these is drawn.

Precision is the share of drawn images that lie within reach of a real one, where the reach of an
image is the distance to its third neighbour among its own kind; recall is the share of real images
within reach of a drawn one (Kynkaanniemi 2019). One odd image with a far reach spoils both, so that
beside them are density, by how many reaches of real images, to the fifth neighbour, a drawn one is
in, over five, and coverage, the share of real images within whose reach a drawn one lies (Naeem
2020). There are as many real images as drawn ones. Beside each is what held-out images have.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from research.errors import UserError
from research.evaluation import image_features, image_samples, intervals
from research.evaluation.intervals import Estimate

NAMES = ("precision", "recall", "density", "coverage")
NEIGHBOURS = {"precision": 3, "recall": 3, "density": 5, "coverage": 5}
ROWS = 512  # whose distances to all others are in memory at a time


def check(config: Any, spec: dict[str, Any]) -> None:
    image_samples.check(config, spec, "precision_recall")


def score_kinds(config: Any) -> dict[str, dict[str, str]]:
    share = {"unit": "share of images", "kind": "estimate", "better": "higher"}
    kinds = {name: share for name in NAMES} | {"density": {**share, "unit": "reaches, over 5"}}
    return {f"{name}{end}": kinds[name] for end in ("", "_held_out") for name in NAMES}


def measure(config: Any, params: Any) -> dict[str, Estimate]:
    found = image_samples.sets(config, params)
    order = np.random.default_rng(0).permutation(len(found.reference))
    values = {}
    for end, images in (("", found.drawn), ("_held_out", found.held)):
        scores = precision_recall(images, found.reference[order[: len(images)]])
        for name, each in scores.items():
            values[f"{name}{end}"] = each._replace(signature=found.signature)
    return values


def precision_recall(drawn: NDArray, real: NDArray) -> dict[str, Estimate]:
    """The four scores of features drawn [n, D] and real [m, D].

    Precision and recall count what lies on the rim of a reach, and the others do not, as their
    papers have it: of two equal sets all four are 1. The intervals hold the other side fixed.

    Raises:
        UserError: when they are not of one dimension, are not finite, or are no more than five.
    """
    drawn, real = (image_features.finite(each, "images") for each in (drawn, real))
    if drawn.shape[1] != real.shape[1]:
        raise UserError(
            f"features of dimensions {drawn.shape[1]} and {real.shape[1]} do not compare"
        )
    if min(len(drawn), len(real)) <= max(NEIGHBOURS.values()):
        raise UserError(
            f"{min(len(drawn), len(real))} images have no fifth neighbour; at least "
            f"{max(NEIGHBOURS.values()) + 1} are needed"
        )
    few, many = NEIGHBOURS["precision"], NEIGHBOURS["density"]
    of_real, of_drawn = _reaches(real, (few, many)), _reaches(drawn, (few,))
    like_real = np.zeros(len(drawn), bool)
    reached, reaches = np.zeros(len(real), bool), np.zeros(len(drawn))
    covered = np.zeros(len(real), bool)
    for rows in _pieces(len(drawn)):
        apart = distances(drawn[rows], real)
        like_real[rows] = (apart <= of_real[few]).any(1)
        reached |= (apart <= of_drawn[few][rows, None]).any(0)
        inside = apart < of_real[many]
        reaches[rows] = inside.sum(1) / many
        covered |= inside.any(0)
    return {
        "precision": intervals.share(like_real.sum(), len(drawn)),
        "recall": intervals.share(reached.sum(), len(real)),
        "density": intervals.bootstrap(reaches),
        "coverage": intervals.share(covered.sum(), len(real)),
    }


def _reaches(x: NDArray[np.float64], neighbours: tuple[int, ...]) -> dict[int, NDArray]:
    """{k: squared distance [n] to the k-th neighbour} of each of x [n, D] among the others."""
    found = np.empty((len(x), len(neighbours)))
    for rows in _pieces(len(x)):
        apart = distances(x[rows], x)
        apart[np.arange(len(rows)), rows] = -1  # itself, before whatever is equal to it
        found[rows] = np.partition(apart, neighbours, axis=1)[:, neighbours]
    return dict(zip(neighbours, found.T, strict=True))


def _pieces(count: int) -> list[NDArray[np.integer]]:
    return np.array_split(np.arange(count), -(-count // ROWS))


def distances(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Squared distances [n, m] of x [n, D] and y [m, D]."""
    squares = (x**2).sum(1)[:, None] + (y**2).sum(1)
    return np.maximum(squares - 2 * x @ y.T, 0)
