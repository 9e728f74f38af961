"""TarFlow (Zhai et al. 2024, arXiv 2412.06329): a patch is mapped as those before it say.

Each layer goes through the patches in the order opposite to that of the layer before (equation 5).
Other than there, what is said of a patch may be a spline of each number, and the first patch, which
none is before, is mapped too.
"""

import functools
from typing import Any

import jax
from jax import Array
from jax import numpy as jnp
from ml_collections import ConfigDict, FrozenConfigDict

from research.families.flow import elementwise, layered
from research.models import common, patch_conditioner, transformer
from research.models.causal_patches import CausalPatches
from research.models.dit import patchify, unpatchify

PARTS = transformer.PARTS
PREFERRED = dict(positions="none", qk_norm=False)
check_hardware = transformer.check_hardware


def default_model() -> dict[str, Any]:
    """Its keys of `config.model`; `depth` is that of the network of each layer."""
    own = patch_conditioner.default_model() | elementwise.default_model()
    return own | dict(flow_layers=4)


def check(config: ConfigDict) -> None:
    """Raise UserError for layers or patches that cannot be."""
    patch_conditioner.check(config)
    elementwise.check(config.model)
    layered.check_count(config.model, "flow_layers")


def check_image(model: Any) -> None:
    """Raise UserError for images that the layers cannot cut up."""
    patch_conditioner.check_grid(model, model.image_shape)


def positions(model: Any) -> int:
    """Patches of an image."""
    return patch_conditioner.positions(model, model.image_shape)


def calls(model: Any) -> int:
    """How often drawing an image calls a network: once for each patch, of each layer."""
    return model.flow_layers * positions(model)


def _module(model: Any, hardware: Any) -> tuple[Any, tuple]:
    """The network of a layer, and inputs to start it with."""
    module = CausalPatches(
        FrozenConfigDict(model), FrozenConfigDict(hardware), elementwise.numbers(model)
    )
    patches = jnp.zeros((1, positions(model), model.patch_size**2 * model.image_shape[-1]))
    return module, (patches, layered.label(model))


def init(model: Any, hardware: Any, key: Array) -> common.Params:
    """Parameters of all layers."""
    module, inputs = _module(model, hardware)
    return layered.init(module, key, model.flow_layers, *inputs)


def axes(model: Any, hardware: Any) -> common.Params:
    """Logical axes of every parameter."""
    module, inputs = _module(model, hardware)
    return layered.axes(module, *inputs)


def forward(
    model: Any, hardware: Any, params: Any, x: Array, label: Any = None, key: Any = None
) -> tuple[Array, Array]:
    """z of images x, of one shape, and log|det dz/dx| of each."""
    del key
    module, _ = _module(model, hardware)

    def layer(carry, own):
        x_BxLxI, log_det = carry
        raw = common.apply(module, own, x_BxLxI, label)
        y, change = elementwise.forward(model, raw, x_BxLxI)
        return (y[:, ::-1], log_det + layered.total(change)), None

    start = patchify(x, model.patch_size), layered.nothing(x)
    (z, log_det), _ = layered.run(hardware, layer, start, params)
    return unpatchify(z, model.patch_size, *x.shape[1:3]), log_det


def inverse(model: Any, hardware: Any, params: Any, z: Array, label: Any = None) -> Array:
    """x of `forward`."""
    module, _ = _module(model, hardware)

    def layer(y_BxLxI, own):
        y_BxLxI = y_BxLxI[:, ::-1]

        def patch(x_BxLxI, index):
            raw = common.apply(module, own, x_BxLxI, label)[:, index]
            found = elementwise.inverse(model, raw, y_BxLxI[:, index])
            return x_BxLxI.at[:, index].set(found), None

        at = jnp.arange(y_BxLxI.shape[1])
        return jax.lax.scan(patch, jnp.zeros_like(y_BxLxI), at)[0], None

    run = functools.partial(layered.run, hardware, layer, reverse=True)
    x, _ = run(patchify(z, model.patch_size), params)
    return unpatchify(x, model.patch_size, *z.shape[1:3])
