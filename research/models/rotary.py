"""Rotary positions (Su et al. 2021), of all features or some, scaled for length in four ways."""

import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp
from ml_collections import ConfigDict

from research.errors import UserError
from research.parts import check_choice


def default_model() -> dict[str, Any]:
    """Its keys of `config.model`; the last two are read where positions are scaled."""
    return dict(
        rotary_base=10_000.0,
        rotary_fraction=1.0,  # of a head's features
        rotary_scaling="none",
        rotary_factor=1.0,  # how many times the length of training
        rotary_length=1024,  # of that training
    )


def check(config: ConfigDict) -> None:
    """Raise UserError, naming the key, for what turns nothing or cannot be scaled."""
    model = config.model
    check_choice("model.rotary_scaling", model.rotary_scaling, SCALINGS)
    for key in ("rotary_base", "rotary_factor"):
        if not 1 <= model[key] < math.inf:
            raise UserError(f"config.model.{key}={model[key]} must be at least 1")
    if not 0 < model.rotary_fraction <= 1:
        raise UserError(
            f"config.model.rotary_fraction={model.rotary_fraction} must be above 0 and at most 1"
        )
    if model.rotary_length < 1:
        raise UserError(f"config.model.rotary_length={model.rotary_length} must be at least 1")


def _unscaled(model: Any, size: int) -> np.ndarray:
    """Radians a position of each pair of `size` features, [size / 2]."""
    half = size // 2
    return model.rotary_base ** (-np.arange(half, dtype=np.float32) / half)


def _linear(model: Any, size: int) -> np.ndarray:
    """Positions between those of training (Chen et al. 2023, eq. 3)."""
    return _unscaled(model, size) / model.rotary_factor


def _ntk(model: Any, size: int) -> np.ndarray:
    """A larger base: the slowest pair is slower by the factor, the fastest as it was.

    bloc97 2023, "NTK-aware scaled RoPE"; Peng et al. 2024 (YaRN), eq. 16.
    """
    base = model.rotary_factor ** (size / max(size - 2, 1))
    return _unscaled(model, size) * base ** (-np.arange(size // 2, dtype=np.float32) / (size // 2))


def _yarn(model: Any, size: int) -> np.ndarray:
    """Pairs that turn less than once in training are scaled, those above 32 times are not.

    Peng et al. 2024 (YaRN, section 3.2): a ramp between the two, which ends at whole pairs, as
    those of the authors' code do.
    """
    unscaled, half = _unscaled(model, size), size // 2

    def pair(turns: float) -> float:
        """The pair that makes so many turns in training."""
        return half * math.log(model.rotary_length / (turns * 2 * math.pi)) / math.log(base)

    base = max(model.rotary_base, 1 + 1e-6)
    low = max(math.floor(pair(32)), 0)
    high = min(math.ceil(pair(1)), size - 1)
    ramp = np.clip((np.arange(half) - low) / max(high - low, 1e-3), 0, 1).astype(np.float32)
    return unscaled * (1 - ramp) + unscaled / model.rotary_factor * ramp


def _llama3(model: Any, size: int) -> np.ndarray:
    """Pairs by their turns in training: below 1 scaled, above 4 not, between by a line.

    Grattafiori et al. 2024 (Llama 3.1), as its published code has it.
    """
    unscaled = _unscaled(model, size)
    turns = model.rotary_length * unscaled / (2 * math.pi)
    kept = np.clip((turns - 1) / (4 - 1), 0, 1)
    return unscaled * kept + unscaled / model.rotary_factor * (1 - kept)


SCALINGS: dict[str, Callable[[Any, int], np.ndarray]] = {
    "none": _unscaled,
    "linear": _linear,
    "ntk": _ntk,
    "yarn": _yarn,
    "llama3": _llama3,
}


def turn(model: Any, x: jax.Array, at: jax.Array | None = None) -> jax.Array:
    """x [..., L, K] turned by its positions (eq. 34): the first half of a head's turned features
    are one side of the pairs, the second half the other.

    Where positions are simply in order, the cosines and sines are constants of the program: XLA
    fuses them with the product otherwise, and on CPU finds them anew for each head of each example.
    """
    size = 2 * int(x.shape[-1] * model.rotary_fraction / 2)
    frequency = SCALINGS[model.rotary_scaling](model, size).astype(np.float32)
    # YaRN's temperature, on queries and keys alike (Peng et al. 2024, eq. 22).
    grown = 0.1 * math.log(model.rotary_factor) if model.rotary_scaling == "yarn" else 0.0
    xp: Any = np if at is None else jnp
    places: Any = np.arange(x.shape[-2]) if at is None else at
    angle = places.astype(np.float32)[..., None] * frequency
    cos, sin = (f(angle) * np.float32(1 + grown) for f in (xp.cos, xp.sin))
    cos, sin = cos.astype(x.dtype), sin.astype(x.dtype)
    first, second, *rest = jnp.split(x, [size // 2, size], -1)
    turned = [first * cos - second * sin, second * cos + first * sin]
    return jnp.concatenate([*turned, *(each for each in rest if each.shape[-1])], -1)
