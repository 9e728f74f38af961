"""Mixtures of modes: their density by quadrature, their draws, and what is covered."""

import numpy as np
import pytest
from scipy import stats

from research import data
from research.data.sources import modes


def settings(layout="ring", **changes):
    return modes.DEFAULTS | dict(layout=layout, **changes)


@pytest.mark.parametrize(
    "layout, count, dimensions", [("ring", 8, 2), ("grid", 25, 2), ("cube", 1000, 3)]
)
def test_layouts_have_their_modes_apart_and_within_a_box(layout, count, dimensions):
    config = settings(layout)
    centres = modes.centres(config)
    assert centres.shape == (count, dimensions) and np.abs(centres).max() == 1
    apart = np.linalg.norm(centres[:, None] - centres, axis=2) + 9 * np.eye(count)
    assert apart.min() == pytest.approx(modes.gap(config)) and np.allclose(
        apart.min(1), apart.min()
    )
    assert data.outline(config | {"name": "modes", "folder": "data"})["num_classes"] == count


@pytest.mark.parametrize("layout", modes.LAYOUTS)
def test_the_density_is_the_mean_of_that_of_each_mode(layout):
    config = settings(layout)
    points, _ = modes.sample(config, 50, np.random.default_rng(0))
    centres, flat = modes.centres(config), points.reshape(50, -1).astype(float)
    each = stats.norm.pdf(flat[:, None], centres, config["deviation"]).prod(2)
    assert modes.log_probability(config, points) == pytest.approx(np.log(each.mean(1)), abs=1e-8)


def test_the_density_integrates_to_one_and_gives_the_entropy():
    config = settings(deviation=0.2)  # nearer to one another than a config may have them
    axis = np.linspace(-2.5, 2.5, 501)
    grid = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 1, 2, 1)
    logs, cell = modes.log_probability(config, grid), (axis[1] - axis[0]) ** 2
    assert np.exp(logs).sum() * cell == pytest.approx(1, abs=1e-9)
    bits = -(np.exp(logs) * logs).sum() * cell / (2 * np.log(2))
    points, _ = modes.sample(config, 50_000, np.random.default_rng(0))
    floor = modes.floor(config, points)
    assert abs(floor["value"] - bits) < 4 * floor["standard_error"] < 5e-3
    both = np.log2(8) / 2 + 0.5 * np.log2(2 * np.pi * np.e * 0.2**2)
    assert both - bits > 4 * floor["standard_error"]  # the overlap is there


def test_what_is_covered():
    config = settings("grid")
    points, label = modes.sample(config, 20_000, np.random.default_rng(0))
    which, near = modes.nearest_modes(config, points)
    assert (which == label).all()
    inside = np.exp(-(4**2) / 2)  # Rayleigh: two dimensions farther out than 4 deviations
    assert (~near).sum() == pytest.approx(20_000 * inside, abs=4 * np.sqrt(20_000 * inside))
    assert np.abs(np.bincount(label, minlength=25) - 800).max() < 4.5 * np.sqrt(800)
    odd = np.array([[1, 1], [0.75, 1], [np.nan, 0], [1 - 4.1 * 0.02, 1], [1 - 3.9 * 0.02, 1]])
    which, near = modes.nearest_modes(config, odd.reshape(-1, 1, 2, 1))
    assert which[[0, 3, 4]].tolist() == [24] * 3 and near.tolist() == [
        True,
        False,
        False,
        False,
        True,
    ]


def test_the_source_has_its_floor(tmp_path):
    config = data.default("modes")
    config.update(folder=str(tmp_path), layout="cube", images=3_000, validation_images=2_000)
    source = data.load(config, "validation")
    batch, floor = source.gather(np.arange(2_000)), source.floor or {}
    known = np.log2(1000) / 3 + 0.5 * np.log2(2 * np.pi * np.e * 0.02**2)
    assert floor["value"] == pytest.approx(known, abs=1e-5) and floor["standard_error"] < 1e-5
    own = -modes.log_probability(config, batch["image"]) / (3 * np.log(2))
    assert abs(own.mean() - floor["value"]) < 4 * own.std() / 2_000**0.5
    assert batch["image"].shape == (2_000, 1, 3, 1) and batch["label"].max() > 900
