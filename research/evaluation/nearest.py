"""Whether drawn images are copies of those that the run was trained on, by nearest neighbours.

`nearest_pixels` and `nearest_features` are the share of pairs of a drawn and a held-out image of
which the drawn one lies nearer to the training images: a half for one who learned the distribution,
more for one who copies (Meehan 2020, section 3). `nearest_copies` is the share of drawn images that
lie, in pixels, nearer to a training image than half of the mean distance of their 50 nearest ones
(Carlini 2023, section 5.1), beside that of held-out images: some characters are one another's
likeness. All training images that the run read are looked at, and no others.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from research.errors import UserError
from research.evaluation import image_features, image_samples, intervals
from research.evaluation.intervals import Estimate
from research.evaluation.precision_recall import distances

NEIGHBOURS = 50
COPY = 0.5  # of the mean distance of these: nearer is a copy
ROWS = 256  # whose distances to all training images are in memory at a time


def check(config: Any, spec: dict[str, Any]) -> None:
    image_samples.check(config, spec, "nearest")


def score_kinds(config: Any) -> dict[str, dict[str, Any]]:
    pairs = {"unit": "share of pairs", "kind": "estimate", "better": "lower", "chance": 0.5}
    copies = {"unit": "share of images", "kind": "estimate", "better": "lower"}
    return {
        "nearest_pixels": pairs,
        "nearest_features": pairs,
        "nearest_copies": copies,
        "nearest_copies_held_out": copies,
    }


def measure(config: Any, params: Any) -> dict[str, Estimate]:
    features = image_features.load(config.evaluation.features)
    real = image_samples.reference(config)
    images = (
        image_samples.drawn(config, params),
        image_samples.held_out(config),
        image_samples.trained_on(config),
    )
    pixels = image_features.load("pixels")
    in_pixels = [pixels.of(each) for each in images]
    in_features = [image_features.finite(features.of(each), "images") for each in images]
    found = {
        "nearest_pixels": nearer(*in_pixels),
        "nearest_features": nearer(*in_features),
        "nearest_copies": copies(in_pixels[0], in_pixels[2]),
        "nearest_copies_held_out": copies(in_pixels[1], in_pixels[2]),
    }
    signature = image_samples.signature(config, real, features)
    return {name: each._replace(signature=signature) for name, each in found.items()}


def nearer(drawn: NDArray, held: NDArray, train: NDArray) -> Estimate:
    """The share of pairs of drawn [n, D] and held-out images [m, D] whose drawn one is nearer.

    Equal distances are half a pair. The interval is over drawn images.
    """
    of_drawn, of_held = (neighbours(each, train, 1)[:, 0] for each in (drawn, held))
    of_held = np.sort(of_held)
    farther = len(of_held) - np.searchsorted(of_held, of_drawn, side="right")
    equal = np.searchsorted(of_held, of_drawn, side="right") - np.searchsorted(of_held, of_drawn)
    return intervals.bootstrap((farther + equal / 2) / len(of_held))


def copies(images: NDArray, train: NDArray) -> Estimate:
    """The share of images [n, D] that are copies of one of the training images [m, D].

    Raises:
        UserError: when there are fewer of these than neighbours that are looked at.
    """
    if len(train) < NEIGHBOURS:
        raise UserError(
            f"evaluator 'nearest' looks at the {NEIGHBOURS} nearest training images, and there are "
            f"{len(train)}"
        )
    found = neighbours(images, train, NEIGHBOURS)
    return intervals.share((found[:, 0] < COPY * found.mean(1)).sum(), len(images))


def neighbours(images: NDArray, train: NDArray, count: int) -> NDArray[np.float64]:
    """Distances [n, count] of images [n, D] to the nearest of train [m, D], the nearest first."""
    found = []
    for start in range(0, len(images), ROWS):
        apart = distances(images[start : start + ROWS], train)
        found.append(np.sort(np.partition(apart, count - 1, axis=1)[:, :count], 1))
    return np.sqrt(np.concatenate(found))
