"""Mixtures of equal Gaussians far apart, on which it is seen which modes a model lost.

They are 8 on a ring and 25 on a grid (Metz et al. 2017; Srivastava et al. 2017), or
1000 in a cube, in place of the stacked digits of these papers. A point is an image of one row and
one channel. All modes are as likely, lie within [-1, 1], and are at least eight deviations apart.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from research.data import source, truth
from research.data.pack import Writer
from research.data.settings import Config, check_least, check_seed
from research.errors import UserError, nearest

Array = NDArray[np.float64]
# deviation: of each Gaussian in each dimension.
DEFAULTS = {
    "layout": "ring",
    "deviation": 0.02,
    "seed": 0,
    "images": 50_000,
    "validation_images": 10_000,
}
LAYOUTS = ("ring", "grid", "cube")
NEAR = 4  # deviations within which a point is of high quality
ROWS = 1024  # points whose distances to all modes are in memory at a time


def check(data: Config) -> None:
    """Raise UserError for a layout that is unknown, or modes that are not apart."""
    check_least(data, "images", "validation_images")
    check_seed(data)
    if data["layout"] not in LAYOUTS:
        raise UserError(
            f"data.layout is {data['layout']!r}; it is one of {', '.join(LAYOUTS)}"
            f"{nearest(data['layout'], LAYOUTS)}"
        )
    truth.check_range(data, "deviation", 1e-4, gap(data) / (2 * NEAR))


def outline(data: Config) -> source.Spec:
    """Float images (1, dimensions, 1), labelled by mode."""
    found = centres(data)
    names = [f"mode {k}" for k in range(len(found))]
    return source.images((1, found.shape[1], 1), names, discrete=False)


def fill(writer: Writer, data: Config) -> None:
    """Write the points of each split and their modes."""
    truth.write_images(writer, data, sample, floor)


def centres(data: Config) -> Array:
    """Return the means [modes, dimensions]."""
    if data["layout"] == "ring":
        angles = 2 * np.pi * np.arange(8) / 8
        return np.stack([np.cos(angles), np.sin(angles)], axis=1)
    side, dimensions = (5, 2) if data["layout"] == "grid" else (10, 3)
    places = np.meshgrid(*[np.linspace(-1, 1, side)] * dimensions, indexing="ij")
    return np.stack(places, axis=-1).reshape(-1, dimensions)


def gap(data: Config) -> float:
    """Return the least distance of two means; of a ring and of a grid, it is from the first."""
    found = centres(data)
    return float(np.linalg.norm(found[1:] - found[0], axis=1).min())


def sample(
    data: Config, count: int, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Draw points float32 [count, 1, dimensions, 1] and their modes int32 [count]."""
    found = centres(data)
    label = rng.integers(len(found), size=count)
    points = found[label] + data["deviation"] * rng.standard_normal((count, found.shape[1]))
    return points.astype(np.float32)[:, None, :, None], label.astype(np.int32)


def log_probability(data: Config, samples: ArrayLike) -> Array:
    """Return the natural log density of points [N, 1, dimensions, 1]."""
    return _density(data, samples)[0]


def _density(data: Config, samples: ArrayLike) -> tuple[Array, Array]:
    """The log density of points, and the entropy in nats of their mode given them: [N] each."""
    found, variance = centres(data), data["deviation"] ** 2
    modes, dimensions = found.shape
    constant = np.log(modes) + 0.5 * dimensions * np.log(2 * np.pi * variance)
    density, left = [], []
    for points in _pieces(samples, dimensions):
        joint = -0.5 * _distances(points, found) / variance - constant
        most = joint.max(1)
        density.append(most + np.log(np.exp(joint - most[:, None]).sum(1)))
        given = joint - density[-1][:, None]
        left.append(-(np.exp(given) * given).sum(1))
    return np.concatenate(density), np.concatenate(left)


def _distances(points: Array, found: Array) -> Array:
    """Squared distances [points, modes]."""
    return ((points[:, None] - found) ** 2).sum(2)


def _pieces(samples: ArrayLike, dimensions: int) -> list[Array]:
    points = np.asarray(samples, np.float64).reshape(-1, dimensions)
    return [points[at : at + ROWS] for at in range(0, max(len(points), 1), ROWS)]


def nearest_modes(data: Config, samples: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return the nearest mode of points [N, 1, dimensions, 1], and whether it is near: [N] each.

    Near is within 4 deviations, in distance over all dimensions. A point that is not finite is
    near none.
    """
    found, which, near = centres(data), [], []
    for points in _pieces(samples, found.shape[1]):
        finite = np.isfinite(points)
        apart = _distances(np.where(finite, points, 0), found)
        which.append(apart.argmin(1))
        near.append(finite.all(1) & (apart.min(1) <= (NEAR * data["deviation"]) ** 2))
    return np.concatenate(which), np.concatenate(near)


def floor(data: Config, validation: NDArray[np.float32]) -> dict[str, Any]:
    """Return the differential entropy in bits a dimension.

    It is that of a mode and its Gaussian, less the entropy of the mode given the point. Only this
    is averaged over the validation points: next to nothing where modes are apart.
    """
    modes, dimensions = centres(data).shape
    both = np.log(modes) + 0.5 * dimensions * np.log(2 * np.pi * np.e * data["deviation"] ** 2)
    left = _density(data, validation)[1]
    return truth.mean(
        (both - left) / (np.log(2) * dimensions),
        "bits/dim",
        "exact log density, sample mean",
        f"entropy of {modes} Gaussians, less their overlap on {len(left)} validation points",
    )
