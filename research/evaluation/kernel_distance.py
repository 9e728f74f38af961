"""The kernel distance of drawn images to real ones, KID: the squared MMD of a cubic polynomial.

Of a block of n drawn and n real images with D features it is the mean of k(x, x') over pairs of two
drawn ones, and of two real ones, less twice that over pairs of one each, where k(x, y) is (x y / D
+ 1)^3: zero on average where both are alike, whatever n (Binkowski 2018, section 4). The score is
the mean over blocks that share no image, so that its standard error is that of their mean. Beside
it is what held-out images have.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from research.errors import UserError
from research.evaluation import image_features, image_samples, intervals
from research.evaluation.intervals import Estimate

BLOCKS = 16


def check(config: Any, spec: dict[str, Any]) -> None:
    image_samples.check(config, spec, "kernel_distance")


def score_kinds(config: Any) -> dict[str, dict[str, str]]:
    kind = {"unit": "squared MMD", "kind": "estimate", "better": "lower"}
    return {"kernel_distance": kind, "kernel_distance_floor": kind}


def measure(config: Any, params: Any) -> dict[str, Estimate]:
    found = image_samples.sets(config, params)
    values = {"": found.drawn, "_floor": found.held}
    return {
        f"kernel_distance{end}": kernel_distance(images, found.reference)._replace(
            signature=found.signature
        )
        for end, images in values.items()
    }


def kernel_distance(x: NDArray, y: NDArray, blocks: int = BLOCKS) -> Estimate:
    """Of features x [n, D] and y [m, D], over as many of each.

    Raises:
        UserError: when they are not of one dimension, are not finite, or fewer than two a block.
    """
    x, y = (image_features.finite(each, "images") for each in (x, y))
    if x.shape[1] != y.shape[1]:
        raise UserError(f"features of dimensions {x.shape[1]} and {y.shape[1]} do not compare")
    size = min(len(x), len(y)) // blocks
    if size < 2:
        raise UserError(
            f"{min(len(x), len(y))} images are too few for {blocks} blocks; nearest valid: "
            f"{2 * blocks}"
        )
    draw = np.random.default_rng(0)
    rows = [draw.permutation(len(each))[: size * blocks].reshape(blocks, size) for each in (x, y)]
    found = [squared_mmd(x[own], y[other]) for own, other in zip(*rows, strict=True)]
    error = np.std(found, ddof=1) / np.sqrt(blocks) if blocks > 1 else np.nan
    return intervals.around(float(np.mean(found)), float(error), size * blocks)


def squared_mmd(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """The unbiased estimate from x [n, D] and y [m, D] (Gretton 2012, equation 3)."""
    means = []
    for each in (x, y):
        kernel = (each @ each.T / each.shape[1] + 1) ** 3
        means.append((kernel.sum() - np.trace(kernel)) / (len(each) * (len(each) - 1)))
    return float(sum(means) - 2 * ((x @ y.T / x.shape[1] + 1) ** 3).mean())
