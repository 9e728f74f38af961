"""Noise within a level, the same everywhere (Theis et al. 2016, arXiv 1511.01844, section 3.1)."""

from typing import Any

import jax
from jax import Array

from research.families.flow import layered


def init(model: Any, hardware: Any, key: Array) -> dict:
    """It has no parameters."""
    del model, hardware, key
    return {}


def axes(model: Any, hardware: Any) -> dict:
    """It has no parameters."""
    del model, hardware
    return {}


def noise(model: Any, hardware: Any, params: Any, seen: Array, key: Array) -> tuple[Array, Array]:
    """Where in its level each dimension lies, from 0 to 1, and the log density of that, [B]."""
    del model, hardware, params
    return jax.random.uniform(key, seen.shape, seen.dtype), layered.nothing(seen)
