"""The Gaussian mixture's density is a density, and its samples are drawn from it."""

import itertools

import numpy as np
import pytest
from scipy import special, stats

from research import data
from research.data.sources import gaussian_mixture


def config(**changes):
    made = data.default("gaussian_mixture")
    made.update(changes)
    return made


def test_the_density_integrates_to_one():
    # The trapezoid rule is exact to rounding for Gaussians sampled finer than their deviation.
    small = config(resolution=2, components=3, rank=1, noise=0.6, seed=1)
    axis = np.arange(-9, 9.1, 0.5)
    total = 0.0
    for first in axis:
        grid = np.array(list(itertools.product([first], axis, axis, axis)))
        total += (
            np.exp(gaussian_mixture.log_density(small, grid.reshape(-1, 2, 2, 1))).sum() * 0.5**4
        )
    assert total == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("changes", [{}, {"rank": 0}, {"components": 1}, {"rank": 16}])
def test_the_density_is_that_of_the_mixture(changes):
    chosen = config(resolution=4, **changes)
    weights, means, factors = gaussian_mixture.parameters(chosen)
    images, _ = gaussian_mixture.sample(chosen, 50, np.random.default_rng(0))
    each = [
        np.log(w)
        + stats.multivariate_normal(m, f @ f.T + 0.09 * np.eye(16)).logpdf(
            images.reshape(50, 16).astype(np.float64)
        )
        for w, m, f in zip(weights, means, factors, strict=True)
    ]
    found = gaussian_mixture.log_density(chosen, images)
    assert found.dtype == np.float64 and found.shape == (50,)
    assert found == pytest.approx(special.logsumexp(each, axis=0), abs=1e-9)
    assert gaussian_mixture.log_density(chosen, images[0]).shape == ()


def test_samples_have_the_mean_and_covariance_of_the_mixture():
    chosen = config(resolution=3, components=2, rank=2)
    weights, means, factors = gaussian_mixture.parameters(chosen)
    images, labels = gaussian_mixture.sample(chosen, 100_000, np.random.default_rng(0))
    assert np.bincount(labels) / len(labels) == pytest.approx(weights, abs=0.01)
    for k in range(2):
        values = images[labels == k].reshape(-1, 9)
        assert values.mean(0) == pytest.approx(means[k], abs=0.03)
        expected = factors[k] @ factors[k].T + 0.09 * np.eye(9)
        assert np.cov(values.T) == pytest.approx(expected, abs=0.08)
    assert images.var(axis=0).mean() == pytest.approx(1, abs=0.02)
    assert images.mean(axis=0) == pytest.approx(np.zeros((3, 3, 1)), abs=0.02)


def test_the_floor_is_the_entropy(tmp_path):
    chosen = config(resolution=3, components=1, rank=2, images=10, validation_images=5000)
    chosen.folder = str(tmp_path)
    source = data.load(chosen, "validation")
    _, _, factors = gaussian_mixture.parameters(chosen)
    covariance = factors[0] @ factors[0].T + 0.09 * np.eye(9)
    exact = 0.5 * np.linalg.slogdet(2 * np.pi * np.e * covariance)[1] / (9 * np.log(2))
    floor = source.floor or {}
    assert floor["unit"] == "bits/dim" and source.spec["unit"] == "images"
    assert 0 < floor["standard_error"] < 0.02
    assert abs(floor["value"] - exact) < 4 * floor["standard_error"]
    assert source[0]["image"].dtype == np.float32 and not source.spec["discrete"]
