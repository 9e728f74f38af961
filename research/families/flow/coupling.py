"""Coupling layers: one half of an image is mapped number by number, as the other half says.

RealNVP (Dinh et al. 2017, arXiv 1605.08803, equations 7 to 9), with an affine map or a spline. A
layer's half is a checkerboard of places or half of the channels; every second layer has the other
half of the one before.
"""

import sys
from typing import Any

import numpy as np
from jax import Array
from jax import numpy as jnp
from ml_collections import ConfigDict, FrozenConfigDict

from research.errors import UserError
from research.families.flow import elementwise, layered
from research.models import common
from research.models.conditioners import CONDITIONERS
from research.parts import check_choice, part

PARTS = {"network": CONDITIONERS}
MASKS = ("checkerboard", "channel")


def default_model() -> dict[str, Any]:
    """Its keys of `config.model`."""
    return elementwise.default_model() | dict(
        network="conv_conditioner",
        flow_layers=8,
        masks=MASKS,  # of two layers each, gone through in turn
        squeeze=2,  # pixels across of the squares that become channels first; 1: none
    )


def check(config: ConfigDict) -> None:
    """Raise UserError for halves that cannot be."""
    model = config.model
    elementwise.check(model)
    for key in ("flow_layers", "squeeze"):
        layered.check_count(model, key)
    if not model.masks:
        raise UserError(f"config.model.masks={model.masks} must be some of {', '.join(MASKS)}")
    for each in model.masks:
        check_choice("model.masks", each, MASKS)


def check_image(model: Any) -> None:
    """Raise UserError for images that the layers cannot cut up."""
    layered.check_side(model, "squeeze", model.squeeze)
    height, across, channels = grid = _grid(model)
    if "channel" in model.masks and channels % 2:
        raise UserError(
            f"config.model.masks={model.masks} halves channels, of which there are {channels}, an "
            "odd number; set config.model.squeeze=2, or masks=('checkerboard',)"
        )
    if "checkerboard" in model.masks and height * across < 2:
        raise UserError(
            f"config.model.masks={model.masks}: {height}x{across} places are no checkerboard, as "
            "it takes two; nearest valid: ('channel',)"
        )
    check_network(sys.modules[__name__], model, grid)


def check_network(owner: Any, model: Any, grid: tuple[int, int, int]) -> None:
    """Raise UserError where the network that `model` names cannot read `grid`."""
    network = part(owner, "network", model)
    if hasattr(network, "check_grid"):
        network.check_grid(model, grid)


def _grid(model: Any) -> tuple[int, int, int]:
    return layered.squeezed(model.image_shape, model.squeeze)


def halves(kinds: Any, grid: tuple[int, int, int], layers: int) -> np.ndarray:
    """What each layer leaves as it is, bool [layers, H, W, C]."""
    row, column, channel = np.indices(grid)
    halves = dict(checkerboard=(row + column) % 2, channel=channel * 2 // max(grid[2], 2))
    chosen = [kinds[layer // 2 % len(kinds)] for layer in range(layers)]
    return np.stack([halves[kind] == layer % 2 for layer, kind in enumerate(chosen)])


def _module(model: Any, hardware: Any) -> tuple[Any, tuple]:
    """The network of a layer, and inputs to start it with."""
    model, grid = FrozenConfigDict(model), _grid(model)
    network, outputs = part(sys.modules[__name__], "network", model), grid[2]
    outputs *= elementwise.numbers(model)
    module = network.build(model, FrozenConfigDict(hardware), grid, outputs)
    return module, (jnp.zeros((1, *grid)), layered.label(model))


def positions(model: Any) -> int:
    """Positions that the network of a layer processes for one image."""
    return part(sys.modules[__name__], "network", model).positions(model, _grid(model))


def calls(model: Any) -> int:
    """How often drawing an image calls a network."""
    return model.flow_layers


def init(model: Any, hardware: Any, key: Array) -> common.Params:
    """Parameters of all layers."""
    module, inputs = _module(model, hardware)
    return layered.init(module, key, model.flow_layers, *inputs)


def axes(model: Any, hardware: Any) -> common.Params:
    """Logical axes of every parameter."""
    module, inputs = _module(model, hardware)
    return layered.axes(module, *inputs)


def _each(model: Any, params: Any) -> tuple[Any, np.ndarray]:
    return params, halves(model.masks, _grid(model), model.flow_layers)


def forward(
    model: Any, hardware: Any, params: Any, x: Array, label: Any = None, key: Any = None
) -> tuple[Array, Array]:
    """z of images x, of one shape, and log|det dz/dx| of each."""
    del key
    module, _ = _module(model, hardware)

    def layer(carry, each):
        (x, log_det), (own, kept) = carry, each
        raw = common.apply(module, own, jnp.where(kept, x, 0), label).reshape(*x.shape, -1)
        y, change = elementwise.forward(model, raw, x)
        change = layered.total(jnp.where(kept, 0, change))
        return (jnp.where(kept, x, y), log_det + change), None

    start = layered.squeeze(x, model.squeeze), layered.nothing(x)
    (z, log_det), _ = layered.run(hardware, layer, start, _each(model, params))
    return layered.unsqueeze(z, model.squeeze), log_det


def inverse(model: Any, hardware: Any, params: Any, z: Array, label: Any = None) -> Array:
    """x of `forward`."""
    module, _ = _module(model, hardware)

    def layer(y, each):
        own, kept = each
        raw = common.apply(module, own, jnp.where(kept, y, 0), label).reshape(*y.shape, -1)
        return jnp.where(kept, y, elementwise.inverse(model, raw, y)), None

    z = layered.squeeze(z, model.squeeze)
    x, _ = layered.run(hardware, layer, z, _each(model, params), reverse=True)
    return layered.unsqueeze(x, model.squeeze)
