"""Images drawn from a mixture of Gaussians whose log density is known exactly.

Component k has the covariance F_k F_k^T + noise^2 I, with F_k [pixels, rank]; means and factors
are smooth (sums of low cosines), so the images look like soft blobs. The scale is such that a
pixel has mean 0 and variance 1, averaged over the image.
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
Parameters = tuple[Array, Array, Array]
# rank: of the covariance of a component, beside its diagonal of noise**2.
DEFAULTS = {
    "resolution": 8,
    "components": 4,
    "rank": 4,
    "noise": 0.3,
    "seed": 0,
    "images": 20_000,
    "validation_images": 4_000,
}


def check(data: Config) -> None:
    """Raise UserError for a mixture that cannot be."""
    check_least(data, "components", "images", "validation_images")
    check_seed(data)
    if not 2 <= data["resolution"] <= 64:
        raise UserError(f"data.resolution is {data['resolution']}; a Gaussian mixture has 2 to 64")
    if not 0 <= data["rank"] <= data["resolution"] ** 2:
        raise UserError(
            f"data.rank is {data['rank']}; it must be from 0 to {data['resolution'] ** 2} pixels"
        )
    if not 0 < data["noise"] < 1:
        raise UserError(f"data.noise is {data['noise']}; it must be above 0 and below 1")


def outline(data: Config) -> source.Spec:
    """Float images of one channel, labelled by component."""
    names = [f"component {k}" for k in range(data["components"])]
    return source.images((data["resolution"], data["resolution"], 1), names, discrete=False)


def fill(writer: Writer, data: Config) -> None:
    """Write the images of each split and the components that drew them."""
    truth.write_images(writer, data, sample, floor)


def parameters(data: Config) -> Parameters:
    """Return weights [components], means [components, pixels], factors [components, pixels, rank].

    Pixels are numbered row by row; everything is float64 and a function of the config alone.
    """
    keys = ("resolution", "components", "rank", "noise", "seed")
    return _parameters(*(data[key] for key in keys))


@functools.lru_cache(maxsize=2)
def _parameters(resolution: int, components: int, rank: int, noise: float, seed: int) -> Parameters:
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(0,)))
    weights = rng.dirichlet(np.full(components, 5.0))
    means = _smooth(rng, components, resolution)
    factors = _smooth(rng, components * rank, resolution)
    factors = factors.reshape(components, rank, resolution**2).transpose(0, 2, 1)
    means = means - weights @ means
    # The variance that the noise leaves is shared by means and factors.
    spread = float((weights @ means**2).mean())
    within = float((weights @ (factors**2).sum(2)).mean())
    parts = (spread > 1e-12) + (within > 0)
    left = (1 - noise**2) / max(parts, 1)
    means = means * (left / spread) ** 0.5 if spread > 1e-12 else means
    factors = factors * (left / within) ** 0.5 if within > 0 else factors
    return weights, means, factors


def _smooth(rng: np.random.Generator, count: int, resolution: int) -> Array:
    """Draw [count, pixels] smooth random fields: cosine waves, fainter as they get finer."""
    waves = np.arange(resolution)
    basis = np.cos(np.pi * (waves[:, None] + 0.5) * waves / resolution)
    weight = np.exp(-(waves[:, None] + waves) / 2)
    drawn = rng.standard_normal((count, resolution, resolution)) * weight
    return np.einsum("yv,nvu,xu->nyx", basis, drawn, basis).reshape(count, resolution**2)


def log_density(data: Config, images: ArrayLike) -> Array:
    """Return the exact natural log density of images.

    Args:
        data: the config of the source.
        images: [..., height, width, 1].

    Returns:
        float64 [...], in nats; divide by -log(2) * height * width for bits a dimension.
    """
    weights, means, factors = parameters(data)
    pixels = means.shape[1]
    values = np.asarray(images, np.float64)
    flat = values.reshape(-1, pixels)
    joint = np.empty((len(weights), len(flat)))
    for k, weight in enumerate(weights):
        covariance = factors[k] @ factors[k].T + data["noise"] ** 2 * np.eye(pixels)
        lower = np.linalg.cholesky(covariance)
        white = np.linalg.solve(lower, (flat - means[k]).T)
        determinant = 2 * np.log(np.diag(lower)).sum()
        joint[k] = np.log(weight) - 0.5 * (
            (white**2).sum(0) + determinant + pixels * np.log(2 * np.pi)
        )
    return np.logaddexp.reduce(joint, axis=0).reshape(values.shape[:-3])


def log_probability(data: Config, samples: ArrayLike) -> Array:
    """Return `log_density` of images [N, height, width, 1] (`research.data.truth`)."""
    return log_density(data, samples)


def sample(
    data: Config, count: int, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Draw images float32 [count, height, width, 1] and their components int32 [count]."""
    weights, means, factors = parameters(data)
    label = rng.choice(len(weights), size=count, p=weights)
    inner = rng.standard_normal((count, factors.shape[2]))
    values = means[label] + data["noise"] * rng.standard_normal((count, means.shape[1]))
    for k in range(len(weights)):
        values[label == k] += inner[label == k] @ factors[k].T
    shape = (count, data["resolution"], data["resolution"], 1)
    return values.reshape(shape).astype(np.float32), label.astype(np.int32)


def floor(data: Config, validation: NDArray[np.float32]) -> dict[str, Any]:
    """Return the differential entropy in bits a dimension, as -log2 p averaged over the split.

    The density is exact; the average has the standard error given beside it.
    """
    each = -log_density(data, validation) / (np.log(2) * data["resolution"] ** 2)
    return truth.mean(
        each,
        "bits/dim",
        "exact log density, sample mean",
        f"exact log density of the mixture on {len(each)} validation images",
    )
