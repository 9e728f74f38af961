"""A perceptron that reads all places as one vector and says all numbers of them at once."""

from typing import Any

from jax import numpy as jnp
from ml_collections import FrozenConfigDict

from research.models import mlp_coder
from research.models.mlp_coder import Perceptron

default_model = mlp_coder.default_model
check = mlp_coder.check


def positions(model: Any, grid: tuple[int, int, int]) -> int:
    """It reads an array as a whole."""
    del model, grid
    return 1


def build(
    model: FrozenConfigDict, hardware: FrozenConfigDict, grid: tuple[int, int, int], outputs: int
) -> Perceptron:
    """The module; see `research.models.conditioners`."""
    dtype = jnp.dtype(hardware.compute_dtype)
    return Perceptron(model, dtype, (*grid[:2], outputs), last_scale=0.0)
