"""Ising lattices against the sum over all of them."""

import itertools

import numpy as np
import pytest

from research import data
from research.data.sources import ising

CRITICAL = 0.4406868


def settings(height, width, beta):
    return ising.DEFAULTS | dict(height=height, width=width, beta=beta)


def everything(height, width):
    """All lattices, [2 ** (height * width), height, width, 1]."""
    codes = np.arange(2 ** (height * width))[:, None] >> np.arange(height * width) & 1
    return codes.reshape(-1, height, width, 1).astype(np.uint8)


def bonds(lattice):
    """The sum over bonds, one at a time."""
    height, width, _ = lattice.shape
    spins, total = 2 * lattice[..., 0].astype(int) - 1, 0
    for i, j in itertools.product(range(height), range(width)):
        total += spins[i, j] * (spins[(i + 1) % height, j] + spins[i, (j + 1) % width])
    return total


@pytest.mark.parametrize(
    "height, width, beta, known",
    [
        (3, 3, CRITICAL, 9.020213),
        (4, 4, 0.2, 11.771470),
        (4, 4, CRITICAL, 15.521915),
        (3, 4, 1.5, None),
        (4, 3, 0.0, 12 * np.log(2)),
        (5, 3, 0.7, None),
    ],
)
def test_log_z_entropy_and_probabilities_are_those_of_all_lattices(height, width, beta, known):
    config, every = settings(height, width, beta), everything(height, width)
    logs = -beta * ising.energy(every)
    log_z = np.log(np.exp(logs - logs.max()).sum()) + logs.max()
    assert ising.lattice(config).log_z == pytest.approx(log_z, abs=1e-10)
    assert known is None or log_z == pytest.approx(known, abs=1e-6)
    p = np.exp(logs - log_z)
    assert ising.log_probability(config, every) == pytest.approx(logs - log_z, abs=1e-10)
    assert ising.entropy(config) == pytest.approx(-(p @ np.log(p)), abs=1e-10)
    assert ising.energy(every[1:99:7]).tolist() == [-bonds(each) for each in every[1:99:7]]


@pytest.mark.parametrize("beta, bits", [(0.3, 0.832479), (CRITICAL, 0.407405), (0.5, 0.236303)])
def test_the_entropy_of_8x8_is_the_known_one(beta, bits):
    config = settings(8, 8, beta)
    assert ising.entropy(config) / (64 * np.log(2)) == pytest.approx(bits, abs=1e-6)
    if beta == CRITICAL:
        assert ising.lattice(config).log_z == pytest.approx(60.141781, abs=1e-6)


def test_a_lattice_on_its_side_is_the_same():
    assert ising.entropy(settings(3, 7, 0.4)) == pytest.approx(ising.entropy(settings(7, 3, 0.4)))


@pytest.mark.parametrize("beta", [0.2, CRITICAL])
def test_draws_have_the_frequencies_of_all_lattices(beta):
    config, every = settings(3, 3, beta), everything(3, 3)
    p = np.exp(ising.log_probability(config, every))
    drawn = ising.sample(config, 60_000, np.random.default_rng(0))
    found = np.bincount(drawn.reshape(-1, 9) @ (1 << np.arange(9)), minlength=512)
    chi = ((found - len(drawn) * p) ** 2 / (len(drawn) * p)).sum()
    assert abs(chi - 511) < 4 * np.sqrt(2 * 511)


def test_neighbours_agree_as_often_across_the_seam_as_within():
    config = settings(4, 6, CRITICAL)
    drawn = 2.0 * ising.sample(config, 20_000, np.random.default_rng(1))[..., 0] - 1
    known = -ising.lattice(config).energy
    across = (drawn * np.roll(drawn, 1, 2)).sum(1)  # of each pair of columns
    down = (drawn * np.roll(drawn, 1, 1)).sum(2)  # of each pair of rows
    for each in (across, down):
        error = each.std(0) / len(each) ** 0.5
        assert (np.abs(each.mean(0) - each.mean()) < 4 * error).all()
    total = across.sum(1) + down.sum(1)
    assert abs(total.mean() - known) < 4 * total.std() / len(total) ** 0.5


def test_spins_of_every_distance_agree_as_often_as_in_all_lattices():
    config, every = settings(4, 4, CRITICAL), everything(4, 4)
    p = np.exp(ising.log_probability(config, every))
    every, drawn = (
        2.0 * each.reshape(len(each), 16) - 1
        for each in (every, ising.sample(config, 30_000, np.random.default_rng(2)))
    )
    exact = (every * p[:, None]).T @ every
    error = np.sqrt((1 - exact**2) / len(drawn)) + 1e-12
    assert (np.abs(drawn.T @ drawn / len(drawn) - exact) < 4.5 * error).all()
    assert exact[0, 15] == pytest.approx(exact[0, 5]) and exact[0, 1] > exact[0, 2] > 0.5


def test_the_source_has_its_floor_and_two_levels(tmp_path):
    config = data.default("ising")
    config.update(folder=str(tmp_path), images=400, validation_images=2_000)
    source = data.load(config, "validation")
    images = source.gather(np.arange(len(source)))["image"]
    floor = source.floor or {}
    assert source.spec["levels"] == 2 and set(np.unique(images)) == {0, 1}
    assert (floor["unit"], floor["kind"]) == ("bits/dim", "exact")
    assert floor["value"] == pytest.approx(0.407405, abs=1e-6)
    assert abs(floor["value"] - floor["sample_value"]) < 4 * floor["standard_error"] < 0.05
    bad = images[:2].copy()
    bad[0, 3, 3] = 2
    assert ising.log_probability(config, bad)[0] == -np.inf < ising.log_probability(config, bad)[1]


def test_lattices_are_shown_black_and_white():
    lattice = everything(3, 3)[5:7]
    assert np.array_equal(data.shown(data.default("ising"), lattice), 255 * lattice)
