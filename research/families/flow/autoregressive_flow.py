"""Autoregressive flows: each number is mapped as those before it say, in turn from either end.

With the direction "density" it is MAF (Papamakarios et al. 2017, arXiv 1705.07057): one pass gives
a likelihood, a sample is drawn number by number. With "sampling" it is IAF (Kingma et al. 2016,
arXiv 1606.04934): the same layers, which go from noise to images, so it is the other way round.
"""

from typing import Any

import jax
from jax import Array
from jax import numpy as jnp
from ml_collections import ConfigDict, FrozenConfigDict

from research.families.flow import elementwise, layered
from research.models import common, masked_perceptron
from research.parts import check_choice

DIRECTIONS = ("density", "sampling")


def default_model() -> dict[str, Any]:
    """Its keys of `config.model`."""
    own = dict(flow_layers=4, direction="density")
    return masked_perceptron.default_model() | elementwise.default_model() | own


def check(config: ConfigDict) -> None:
    """Raise UserError for layers that cannot be."""
    masked_perceptron.check(config)
    elementwise.check(config.model)
    layered.check_count(config.model, "flow_layers")
    check_choice("model.direction", config.model.direction, DIRECTIONS)


def _dims(model: Any) -> int:
    height, across, channels = model.image_shape
    return height * across * channels


def _module(model: Any, hardware: Any) -> tuple[Any, tuple]:
    """The network of a layer, and inputs to start it with."""
    dtype = jnp.dtype(hardware.compute_dtype)
    module = masked_perceptron.MaskedPerceptron(
        FrozenConfigDict(model), dtype, elementwise.numbers(model)
    )
    return module, (jnp.zeros((1, _dims(model))), layered.label(model))


def positions(model: Any) -> int:
    """An image is read as a whole."""
    del model
    return 1


def calls(model: Any) -> int:
    """How often drawing an image calls a network."""
    return model.flow_layers * (_dims(model) if model.direction == "density" else 1)


def init(model: Any, hardware: Any, key: Array) -> common.Params:
    """Parameters of all layers."""
    module, inputs = _module(model, hardware)
    return layered.init(module, key, model.flow_layers, *inputs)


def axes(model: Any, hardware: Any) -> common.Params:
    """Logical axes of every parameter."""
    module, inputs = _module(model, hardware)
    return layered.axes(module, *inputs)


def _at_once(model: Any, hardware: Any, params: Any, x: Array, label: Any) -> tuple[Array, Array]:
    """All layers from where every number is known, and log|det| of what they do."""
    module, _ = _module(model, hardware)

    def layer(carry, own):
        x_BxD, log_det = carry
        y, change = elementwise.forward(model, common.apply(module, own, x_BxD, label), x_BxD)
        return (y[:, ::-1], log_det + layered.total(change)), None

    start = x.reshape(len(x), -1), layered.nothing(x)
    (y, log_det), _ = layered.run(hardware, layer, start, params)
    return y.reshape(x.shape), log_det


def _in_turn(model: Any, hardware: Any, params: Any, y: Array, label: Any) -> tuple[Array, Array]:
    """All layers undone, a number after another, and log|det| of what that does."""
    module, _ = _module(model, hardware)

    def layer(carry, own):
        y_BxD, log_det = carry
        y_BxD = y_BxD[:, ::-1]

        def number(x_BxD, index):
            raw = common.apply(module, own, x_BxD, label)[:, index]
            return x_BxD.at[:, index].set(elementwise.inverse(model, raw, y_BxD[:, index])), None

        x_BxD, _ = jax.lax.scan(number, jnp.zeros_like(y_BxD), jnp.arange(y_BxD.shape[1]))
        raw = common.apply(module, own, x_BxD, label)
        _, change = elementwise.forward(model, raw, x_BxD)
        return (x_BxD, log_det - layered.total(change)), None

    start = y.reshape(len(y), -1), layered.nothing(y)
    (x, log_det), _ = layered.run(hardware, layer, start, params, reverse=True)
    return x.reshape(y.shape), log_det


def forward(
    model: Any, hardware: Any, params: Any, x: Array, label: Any = None, key: Any = None
) -> tuple[Array, Array]:
    """z of images x, of one shape, and log|det dz/dx| of each."""
    del key
    way = _at_once if model.direction == "density" else _in_turn
    return way(model, hardware, params, x, label)


def inverse(model: Any, hardware: Any, params: Any, z: Array, label: Any = None) -> Array:
    """x of `forward`."""
    way = _in_turn if model.direction == "density" else _at_once
    return way(model, hardware, params, z, label)[0]
