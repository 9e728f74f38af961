"""Gaussian fields against their covariance, written out."""

import numpy as np
import pytest

from research import data
from research.data.sources import gaussian_field


def settings(resolution, exponent):
    return gaussian_field.DEFAULTS | dict(resolution=resolution, exponent=exponent)


def covariance(resolution, exponent):
    """[pixels, pixels], by the sum of cosines over all waves."""
    size = range(resolution)
    places = np.array([(y, x) for y in size for x in size])
    total = 0
    for a, b in places:
        wave = np.array(
            [a - resolution * (2 * a > resolution), b - resolution * (2 * b > resolution)]
        )
        variance = 1.0 if not wave.any() else np.hypot(*wave) ** -exponent
        phase = 2 * np.pi * (places[:, None] - places) @ wave / resolution
        total = total + variance * np.cos(phase)
    return total / resolution**2


@pytest.mark.parametrize("resolution, exponent", [(4, 2.0), (3, 3.0), (2, 1.0), (4, 0.0)])
def test_density_and_entropy_are_those_of_the_covariance(resolution, exponent):
    config, matrix = settings(resolution, exponent), covariance(resolution, exponent)
    _, logarithm = np.linalg.slogdet(2 * np.pi * np.e * matrix)
    assert gaussian_field.entropy(config) == pytest.approx(logarithm / 2, abs=1e-9)
    images = gaussian_field.sample(config, 5, np.random.default_rng(0))
    flat = images.reshape(5, -1).astype(float)
    squares = np.einsum("ni,ij,nj->n", flat, np.linalg.inv(matrix), flat)
    _, logarithm = np.linalg.slogdet(2 * np.pi * matrix)
    expected = -0.5 * (squares + logarithm)
    assert gaussian_field.log_probability(config, images) == pytest.approx(expected, abs=1e-6)


def test_the_entropy_of_32x32_is_the_known_one():
    config = settings(32, 2.0)
    bits = gaussian_field.entropy(config) / (np.log(2) * 32**2)
    assert bits == pytest.approx(-1.424536, abs=1e-6)


def test_draws_have_the_covariance():
    config, count = settings(4, 2.0), 40_000
    flat = gaussian_field.sample(config, count, np.random.default_rng(0)).reshape(count, -1)
    matrix = covariance(4, 2.0)
    spread = np.sqrt((matrix**2 + np.outer(np.diag(matrix), np.diag(matrix))) / count)
    assert (np.abs(flat.T @ flat / count - matrix) < 4.5 * spread).all()


def test_the_source_has_its_exact_floor(tmp_path):
    config = data.default("gaussian_field")
    config.update(folder=str(tmp_path), images=50, validation_images=2_000)
    source = data.load(config, "validation")
    floor = source.floor or {}
    assert source.spec["levels"] == 0 and not source.spec["discrete"]
    assert (floor["unit"], floor["kind"]) == ("bits/dim", "exact")
    assert floor["value"] == gaussian_field.entropy(config) / (np.log(2) * 64)
    assert abs(floor["value"] - floor["sample_value"]) < 4 * floor["standard_error"] < 0.05
