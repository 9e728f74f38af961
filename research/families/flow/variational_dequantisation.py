"""Noise within a level by a flow that sees the image (Ho et al. 2019, arXiv 1902.00275, 3.1).

Two affine coupling layers on normal noise, each half told by the other and by the image, and a
sigmoid. It begins nearly uniform: the sigmoid of 1.7 times a normal number nearly is.
"""

from typing import Any

import jax
import numpy as np
from jax import Array
from jax import numpy as jnp
from ml_collections import ConfigDict, FrozenConfigDict

from research.families.flow import coupling, elementwise, layered
from research.models import common, conv_conditioner

LAYERS = 2
WIDE = 1.7  # a logistic of scale 1 has a deviation of 1.8, a normal one of 1.7 comes near it
AFFINE = FrozenConfigDict(dict(transform="affine"))


def default_model() -> dict[str, Any]:
    """Its keys of `config.model`: those of its network."""
    return conv_conditioner.default_model()


def check(config: ConfigDict) -> None:
    """Raise UserError for a network that cannot be."""
    conv_conditioner.check(config)


def _module(model: Any, hardware: Any) -> tuple[Any, tuple]:
    """The network of a layer, and inputs to start it with."""
    *sides, channels = model.image_shape
    outputs = 2 * channels
    grid = (*sides, outputs)
    kept = FrozenConfigDict({key: model[key] for key in conv_conditioner.default_model()})
    module = conv_conditioner.build(kept, FrozenConfigDict(hardware), grid, outputs)
    return module, (jnp.zeros((1, *grid)),)


def init(model: Any, hardware: Any, key: Array) -> common.Params:
    """Parameters of its layers."""
    module, inputs = _module(model, hardware)
    return layered.init(module, key, LAYERS, *inputs)


def axes(model: Any, hardware: Any) -> common.Params:
    """Logical axes of every parameter."""
    module, inputs = _module(model, hardware)
    return layered.axes(module, *inputs)


def noise(model: Any, hardware: Any, params: Any, seen: Array, key: Array) -> tuple[Array, Array]:
    """Where in its level each dimension lies, from 0 to 1, and the log density of that, [B].

    Args:
        seen: the image as networks see it.
    """
    module, _ = _module(model, hardware)
    start = jax.random.normal(key, seen.shape, seen.dtype)
    log_q = layered.total(-0.5 * (start**2 + np.log(2 * np.pi)))

    def layer(carry, each):
        (x, log_q), (own, kept) = carry, each
        told = jnp.concatenate([jnp.where(kept, x, 0), seen], -1)
        raw = common.apply(module, own, told).reshape(*x.shape, -1)
        y, change = elementwise.forward(AFFINE, raw, x)
        return (jnp.where(kept, x, y), log_q - layered.total(jnp.where(kept, 0, change))), None

    each = params, coupling.halves(("checkerboard",), model.image_shape, LAYERS)
    (x, log_q), _ = layered.run(hardware, layer, (start, log_q), each)
    u, slope = jax.nn.sigmoid(WIDE * x), WIDE * x
    change = np.log(WIDE) + jax.nn.log_sigmoid(slope) + jax.nn.log_sigmoid(-slope)
    return u, log_q - layered.total(change)
