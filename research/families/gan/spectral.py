"""Spectral normalisation: kernels over their largest singular value (Miyato et al. 2018).

The value is that of power iteration from the same vector each time, which no gradient goes through
(their appendix A), so that there is nothing to carry from step to step.
"""

from typing import Any

import jax
from jax import Array
from jax import numpy as jnp


def norm(kernel: Array, steps: int) -> Array:
    """The largest singular value of a kernel as a matrix [all inputs, outputs], from below."""
    matrix = jax.lax.stop_gradient(kernel.reshape(-1, kernel.shape[-1]))
    v = jnp.cos(1.0 + jnp.arange(matrix.shape[1]))  # of no direction that a kernel would have

    def step(_: Any, v: Array) -> Array:
        v = matrix.T @ (matrix @ v)
        return v / jnp.maximum(jnp.linalg.norm(v), 1e-30)

    v = jax.lax.fori_loop(0, steps, step, v / jnp.linalg.norm(v))
    u = matrix @ v
    # u and v are held, and the value has the gradient of u^T K v.
    u = u / jnp.maximum(jnp.linalg.norm(u), 1e-30)
    return u @ kernel.reshape(matrix.shape) @ v


def normalised(params: Any, steps: int) -> Any:
    """The parameters of a network with every kernel over its norm."""
    return jax.tree.map(lambda x: x / norm(x, steps) if x.ndim > 1 else x, params)
