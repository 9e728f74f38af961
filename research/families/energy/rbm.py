"""A restricted Boltzmann machine of two levels: hidden units that are independent given an image.

    E(v, h) = -a v - b h - v W h,  v and h of 0 and 1 (Smolensky 1986; Hinton 2002)

The energy of an image is the free energy, hidden units summed out: -a v - sum_j softplus(b + v W).
At another temperature all of a, b and W are times beta, as chains and annealing want it
(Salakhutdinov & Murray 2008). Where either side has few units, the sum over all its states is log Z
and draws exact samples.
"""

import math
from typing import Any

import jax
import numpy as np
from jax import Array
from jax import numpy as jnp
from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from research.errors import UserError

MOST = 16  # units of the side whose states are gone through


def default_model() -> dict[str, Any]:
    """Its keys of `config.model`."""
    return dict(width=placeholder(int))  # hidden units


def check(config: ConfigDict) -> None:
    """Raise UserError for a machine without hidden units."""
    if config.model.width < 1:
        raise UserError(f"config.model.width={config.model.width} must be at least 1")


def check_images(model: Any) -> None:
    """Raise UserError for images of more than two levels."""
    if not model.discrete or model.levels != 2:
        has = f"{model.levels} levels" if model.discrete else "floats"
        raise UserError(
            f"config.model.energy={model.energy!r} is of 2 levels, and the images have {has}; "
            "nearest valid: neural"
        )


def dims(model: Any) -> int:
    """Numbers of an image."""
    return math.prod(model.image_shape)


def positions(config: ConfigDict) -> int:
    """An image is read as a whole."""
    del config
    return 1


def init(model: Any, hardware: Any, key: Array) -> dict[str, Array]:
    """Weights of deviation 0.01 (Hinton 2010, section 8)."""
    del hardware
    size = dims(model), model.width
    return {
        "weight": 0.01 * jax.random.normal(key, size),
        "visible": jnp.zeros(size[0]),
        "hidden": jnp.zeros(size[1]),
    }


def axes(model: Any, hardware: Any) -> dict[str, tuple]:
    """Logical axes of every parameter."""
    del model, hardware
    return {"weight": ("input", "embed"), "visible": ("norm",), "hidden": ("norm",)}


def _bits(x: Array) -> Array:
    """Images of -1 and 1 as vectors of 0 and 1."""
    return 0.5 * (x.reshape(len(x), -1) + 1)


def energy(
    model: Any, hardware: Any, params: dict, x: Array, label: Any = None, beta: Any = 1.0
) -> Array:
    """The free energy of each image, [B]."""
    del model, hardware, label
    return _free(
        _bits(x), beta * params["weight"], beta * params["visible"], beta * params["hidden"]
    )


def _free(v: Array, weight: Array, own: Array, other: Array) -> Array:
    """Free energy [B] of one side's units, the other side's summed out."""
    return -v @ own - jax.nn.softplus(v @ weight + other).sum(-1)


def sweep(model: Any, params: dict, x: Array, key: Array, beta: Any) -> Array:
    """Hidden units given the image, then the image given these."""
    first, second = jax.random.split(key)
    hidden = _flip(first, beta * (_bits(x) @ params["weight"] + params["hidden"]))
    return _seen(model, params, hidden, second, beta)


def _flip(key: Array, log_odds: Array) -> Array:
    return (jax.random.uniform(key, log_odds.shape) < jax.nn.sigmoid(log_odds)).astype(jnp.float32)


def _seen(model: Any, params: dict, hidden: Array, key: Array, beta: Any) -> Array:
    seen = _flip(key, beta * (hidden @ params["weight"].T + params["visible"]))
    return (2 * seen - 1).reshape(len(hidden), *model.image_shape)


def base(model: Any, key: Array, num: int) -> Array:
    """Images of independent levels."""
    return jax.random.rademacher(key, (num, *model.image_shape), jnp.float32)


def base_log_z(model: Any) -> float:
    """All states of both sides are as likely."""
    return (dims(model) + model.width) * math.log(2)


def enumerable(model: Any) -> bool:
    """Whether one side has few enough units."""
    return min(dims(model), model.width) <= MOST


drawable = enumerable


def states(count: int) -> np.ndarray:
    """All states of `count` units, float32 [2^count, count]."""
    return (np.arange(2**count)[:, None] >> np.arange(count) & 1).astype(np.float32)


def chosen(key: Array, log_weight: Array, num: int) -> Array:
    """Indices of states drawn by their weights, [num]: a number for each draw, not one a state."""
    share = jnp.cumsum(jax.nn.softmax(log_weight))
    drawn = jnp.searchsorted(share, jax.random.uniform(key, (num,), maxval=share[-1]))
    return jnp.minimum(drawn, len(log_weight) - 1)


def _sides(model: Any, params: dict) -> tuple[Array, ...]:
    """Weights from the smaller side, its biases, and those of the other one."""
    weight, visible, hidden = (params[name] for name in ("weight", "visible", "hidden"))
    if dims(model) <= model.width:
        return weight, visible, hidden
    return weight.T, hidden, visible


def log_z(model: Any, params: dict) -> Array:
    """The sum over all states of the smaller side."""
    weight, own, other = _sides(model, params)
    return jax.nn.logsumexp(-_free(jnp.asarray(states(len(own))), weight, own, other))


def draw(model: Any, params: dict, key: Array, num: int) -> Array:
    """Exact samples: a state of the smaller side by its probability, then the rest given it."""
    first, second = jax.random.split(key)
    weight, own, other = _sides(model, params)
    every = jnp.asarray(states(len(own)))
    which = chosen(first, -_free(every, weight, own, other), num)
    if dims(model) <= model.width:
        return (2 * every[which] - 1).reshape(num, *model.image_shape)
    return _seen(model, params, every[which], second, 1.0)
