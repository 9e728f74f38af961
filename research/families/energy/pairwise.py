"""Spins with a field each and a coupling of every bond between neighbours in a torus.

    E(s) = -sum_i h_i s_i - sum_bonds J_ij s_i s_j,  s of -1 and 1

which has the Ising model for equal couplings (`research.data.sources.ising`), so that what training
can reach is known. log Z is the trace of the product of transfer matrices of the columns, each of
which has 2^height states (Onsager 1944), whatever the couplings are. Gibbs sampling takes the two
colours of a checkerboard in turn, whose spins are independent given the other's.
"""

import math
from typing import Any

import jax
import numpy as np
from jax import Array
from jax import numpy as jnp

from research.errors import UserError
from research.families.energy import rbm
from research.families.energy.rbm import base, positions, states

__all__ = ["base", "positions"]
MOST = 8  # spins of a column


def check_images(model: Any) -> None:
    """Raise UserError for more levels than two, and lattices that no checkerboard covers."""
    rbm.check_images(model)
    height, across, channels = model.image_shape
    if height % 2 or across % 2 or min(height, across) < 4 or channels != 1:
        raise UserError(
            f"config.model.image_shape={tuple(model.image_shape)}: energy='pairwise' is of one "
            "channel and of sides that are even and at least 4, so that its torus is a checkerboard"
        )


def init(model: Any, hardware: Any, key: Array) -> dict[str, Array]:
    """Nothing: all spins are independent, and even."""
    del hardware, key
    zeros = jnp.zeros(model.image_shape[:2])
    return {"field": zeros, "down": zeros, "right": zeros}


def axes(model: Any, hardware: Any) -> dict[str, tuple]:
    """Logical axes of every parameter."""
    del model, hardware
    return dict.fromkeys(("field", "down", "right"), ("norm", None))


def energy(
    model: Any, hardware: Any, params: dict, x: Array, label: Any = None, beta: Any = 1.0
) -> Array:
    """E of each image, [B]."""
    del model, hardware, label
    s = x[..., 0]
    bonds = params["down"] * jnp.roll(s, -1, -2) + params["right"] * jnp.roll(s, -1, -1)
    return -beta * (s * (params["field"] + bonds)).sum((1, 2))


def sweep(model: Any, params: dict, x: Array, key: Array, beta: Any) -> Array:
    """Both colours, one after the other, given their neighbours."""
    height, across, _ = model.image_shape
    even = np.indices((height, across)).sum(0) % 2 == 0
    s, (down, right) = x[..., 0], (params["down"], params["right"])
    for colour, own in zip((even, ~even), jax.random.split(key), strict=True):
        field = params["field"] + down * jnp.roll(s, -1, -2) + right * jnp.roll(s, -1, -1)
        field += jnp.roll(down * s, 1, -2) + jnp.roll(right * s, 1, -1)
        up = jax.random.uniform(own, s.shape) < jax.nn.sigmoid(2 * beta * field)
        s = jnp.where(colour, jnp.where(up, 1.0, -1.0), s)
    return s[..., None]


def base_log_z(model: Any) -> float:
    """All lattices are as likely."""
    return rbm.dims(model) * math.log(2)


def enumerable(model: Any) -> bool:
    """Whether a column has few enough states."""
    return model.image_shape[0] <= MOST


def drawable(model: Any) -> bool:
    """Whether the lattice has few enough states."""
    return rbm.dims(model) <= rbm.MOST


def draw(model: Any, params: dict, key: Array, num: int) -> Array:
    """Exact samples, out of all lattices."""
    every = jnp.asarray(2 * states(rbm.dims(model)) - 1).reshape(-1, *model.image_shape)
    return every[rbm.chosen(key, -energy(model, None, params, every), num)]


def _columns(params: dict) -> tuple[Array, Array, Array]:
    """Spins of each state [S, H], and logarithms of the weights of each column's states [W, S] and
    of its bonds to the next [W, S, S]."""
    spins = jnp.asarray(2 * states(params["field"].shape[0]) - 1)
    within = jnp.einsum("sh,sh,hw->ws", spins, jnp.roll(spins, -1, 1), params["down"])
    own = within + jnp.einsum("sh,hw->ws", spins, params["field"])
    return spins, own, jnp.einsum("sh,hw,th->wst", spins, params["right"], spins)


def log_z(model: Any, params: dict) -> Array:
    """log of the trace of the product of the columns' transfer matrices."""
    del model
    _, own, bonds = _columns(params)
    matrices = own[:, :, None] + bonds

    def times(carry: tuple[Array, Array], log_matrix: Array) -> tuple[Any, None]:
        product, scale = carry
        most = log_matrix.max()
        product = jnp.matmul(product, jnp.exp(log_matrix - most), precision="highest")
        largest = product.max()
        return (product / largest, scale + most + jnp.log(largest)), None

    start = jnp.eye(matrices.shape[1]), jnp.zeros(())
    (product, scale), _ = jax.lax.scan(times, start, matrices)
    return scale + jnp.log(jnp.trace(product))
