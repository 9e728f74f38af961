"""Ising lattices in a torus, drawn exactly: black and white images whose entropy is known.

The energy is minus the sum of products of neighbouring spins (-1, 1), each bond once, and a
lattice's probability exp(-beta * energy) / Z. With the states of a column as the states of a chain,
Z is the trace of a power of the transfer matrix (Kramers and Wannier 1941; Onsager 1944), and a
lattice is drawn column by column, each given the one before and the first: no Markov chain has
to forget where it began. The default beta is the critical one, log(1 + sqrt(2)) / 2.
"""

import functools
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from research.data import source, truth
from research.data.pack import Writer
from research.data.settings import Config, check_least, check_seed

Array = NDArray[np.float64]
# beta: the inverse temperature; at 0 all spins are independent.
DEFAULTS = {
    "height": 8,
    "width": 8,
    "beta": 0.4406868,
    "seed": 0,
    "images": 20_000,
    "validation_images": 4_000,
}
ROWS = 4096  # lattices that are drawn at a time


class Lattice(NamedTuple):
    """A lattice's transfer matrix over the states of a column, number s having spin i in bit i.

    Attributes:
        spins: -1 or 1, [states, height].
        powers: the transfer matrix to the power of 0, 1, ..., width, each over its own largest
            entry, [width + 1, states, states].
        log_z: log of the partition function.
        energy: the mean energy.
    """

    spins: Array
    powers: Array
    log_z: float
    energy: float


def check(data: Config) -> None:
    """Raise UserError for a lattice that cannot be, or that has too many states in a column."""
    check_least(data, "images", "validation_images")
    check_seed(data)
    truth.check_range(data, "height", 3, 10)
    truth.check_range(data, "width", 3, 32)
    truth.check_range(data, "beta", 0, 2)


def outline(data: Config) -> source.Spec:
    """Images of one channel and two levels, 1 for spin up, all of one class."""
    return source.images((data["height"], data["width"], 1), ["lattice"], levels=2)


def fill(writer: Writer, data: Config) -> None:
    """Write the lattices of each split."""
    truth.write_images(writer, data, truth.one_class(sample), floor)


def lattice(data: Config) -> Lattice:
    """Return what there is to know of the lattice of `data`."""
    return _lattice(data["height"], data["width"], data["beta"])


@functools.lru_cache(maxsize=2)
def _lattice(height: int, width: int, beta: float) -> Lattice:
    states = np.arange(2**height)
    spins = 2.0 * (states[:, None] >> np.arange(height) & 1) - 1
    within = (spins * np.roll(spins, 1, axis=1)).sum(1)
    # Half of the bonds within each column keeps the matrix symmetric.
    bonds = spins @ spins.T + 0.5 * (within[:, None] + within)
    matrix = np.exp(beta * (bonds - bonds.max()))
    powers, logs = [np.eye(len(states))], [0.0]
    for _ in range(width):
        following = powers[-1] @ matrix
        powers.append(following / following.max())
        logs.append(logs[-1] + np.log(following.max()) + beta * bonds.max())
    total = np.trace(powers[-1])
    # d log Z / d beta is the mean of all bonds: those of one column and the next, width times.
    step = powers[-2] * matrix.T
    mean = width * float((step * bonds).sum() / step.sum())
    return Lattice(spins, np.stack(powers), float(logs[-1] + np.log(total)), -mean)


def entropy(data: Config) -> float:
    """Return the entropy of a lattice in nats, log Z + beta * mean energy."""
    found = lattice(data)
    return found.log_z + data["beta"] * found.energy


def energy(images: ArrayLike) -> Array:
    """Return the energies [...] of lattices [..., height, width, 1] of 0 and 1."""
    spins = 2.0 * np.asarray(images, np.float64)[..., 0] - 1
    down, across = (np.roll(spins, 1, axis) for axis in (-2, -1))
    return -(spins * (down + across)).sum((-2, -1))


def log_probability(data: Config, samples: NDArray[Any]) -> Array:
    """Return log p of lattices [N, height, width, 1]; minus infinity where one is not 0 or 1."""
    found = -data["beta"] * energy(samples) - lattice(data).log_z
    return np.where(np.isin(samples, (0, 1)).all((1, 2, 3)), found, -np.inf)


def sample(data: Config, count: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw independent lattices, uint8 [count, height, width, 1]."""
    pieces = [_drawn(data, min(ROWS, count - at), rng) for at in range(0, count, ROWS)]
    return np.concatenate(pieces)[..., None]


def _drawn(data: Config, count: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    found, width = lattice(data), data["width"]
    weights = np.broadcast_to(np.diag(found.powers[-1]), (count, len(found.spins)))
    first = truth.choose(np.cumsum(weights, axis=1), rng)
    columns = [first]
    for left in range(width - 1, 0, -1):
        # P(next | last, first) is M[last, next] times the weight of all ways back to the first.
        weights = found.powers[1][columns[-1]] * found.powers[left][first]
        columns.append(truth.choose(np.cumsum(weights, axis=1), rng))
    return (found.spins[np.stack(columns, axis=1)] > 0).transpose(0, 2, 1).astype(np.uint8)


def shown(data: Config, samples: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Lattices as pictures: spin up is white."""
    del data
    return 255 * samples


def floor(data: Config, validation: NDArray[np.uint8]) -> dict[str, Any]:
    """Return the exact entropy in bits a spin, beside the mean of -log2 p over the validation."""
    scale = np.log(2) * data["height"] * data["width"]
    each = -log_probability(data, validation) / scale
    return truth.exact(
        entropy(data) / scale, each, "bits/dim", "entropy of the lattice by its transfer matrix"
    )
