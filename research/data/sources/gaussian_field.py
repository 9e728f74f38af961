"""Gaussian random fields in a torus: images of floats with a spectrum that is a power law.

In the orthonormal Fourier basis the coefficients are independent, of variance |k|^-exponent, where
k are whole numbers, at most half of the resolution, and the variance at k = 0 is 1. So density and
entropy are sums over k (Rue and Held 2005, of circulant precisions).
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from research.data import source, truth
from research.data.pack import Writer
from research.data.settings import Config, check_least, check_seed

Array = NDArray[np.float64]
DEFAULTS = {
    "resolution": 8,
    "exponent": 2.0,
    "seed": 0,
    "images": 20_000,
    "validation_images": 4_000,
}


def check(data: Config) -> None:
    """Raise UserError for a field that cannot be."""
    check_least(data, "images", "validation_images")
    check_seed(data)
    truth.check_range(data, "resolution", 2, 256)
    truth.check_range(data, "exponent", 0, 8)


def outline(data: Config) -> source.Spec:
    """Float images of one channel, all of one class."""
    return source.images((data["resolution"], data["resolution"], 1), ["field"], discrete=False)


def fill(writer: Writer, data: Config) -> None:
    """Write the images of each split."""
    truth.write_images(writer, data, truth.one_class(sample), floor)


def spectrum(data: Config) -> Array:
    """Return the variances of the Fourier coefficients, [resolution, resolution], as of fft2."""
    waves = np.fft.fftfreq(data["resolution"], 1 / data["resolution"])
    squares = waves[:, None] ** 2 + waves**2
    squares[0, 0] = 1
    return squares ** (-data["exponent"] / 2)


def sample(data: Config, count: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Draw images, float32 [count, resolution, resolution, 1]."""
    white = rng.standard_normal((count, data["resolution"], data["resolution"]))
    waves = np.fft.fft2(white, norm="ortho") * spectrum(data) ** 0.5
    return np.fft.ifft2(waves, norm="ortho").real.astype(np.float32)[..., None]


def log_probability(data: Config, samples: ArrayLike) -> Array:
    """Return the natural log density of images [N, resolution, resolution, 1]."""
    variances = spectrum(data)
    waves = np.fft.fft2(np.asarray(samples, np.float64)[..., 0], norm="ortho")
    squares = (np.abs(waves) ** 2 / variances).sum((-2, -1))
    return -0.5 * (squares + np.log(2 * np.pi * variances).sum())


def entropy(data: Config) -> float:
    """Return the differential entropy of an image in nats."""
    return float(0.5 * np.log(2 * np.pi * np.e * spectrum(data)).sum())


def floor(data: Config, validation: NDArray[np.float32]) -> dict[str, Any]:
    """Return the exact entropy in bits a dimension, beside the mean of -log2 p of `validation`."""
    scale = np.log(2) * data["resolution"] ** 2
    each = -log_probability(data, validation) / scale
    return truth.exact(
        entropy(data) / scale, each, "bits/dim", "differential entropy of the field by its spectrum"
    )
