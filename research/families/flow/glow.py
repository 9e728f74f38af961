"""Glow (Kingma & Dhariwal 2018, arXiv 1807.03039): actnorm, invertible 1x1 convolution, coupling.

`scales` times squares of pixels become channels, `flow_layers` steps follow, and half of the
channels leave as they are (Dinh et al. 2017, section 3.6). A step's matrix is P L (U + diag(s))
with a fixed permutation P and fixed signs of s (section 3.2), and begins as a rotation. Actnorm
begins with what makes the first batch have mean 0 and deviation 1 a channel: `begun` finds that on
its way, has it in place of the parameters, and hands it back.
"""

import sys
from typing import Any, NamedTuple

import jax
import numpy as np
import scipy.linalg
from jax import Array
from jax import numpy as jnp
from ml_collections import ConfigDict, FrozenConfigDict

from research.families.flow import coupling, elementwise, layered
from research.models import common
from research.models.conditioners import CONDITIONERS
from research.parts import part

PARTS = {"network": CONDITIONERS}
SMALL = 1e-6  # added to a deviation


def default_model() -> dict[str, Any]:
    """Its keys of `config.model`."""
    return elementwise.default_model() | dict(
        network="conv_conditioner",
        flow_layers=4,  # steps of a scale
        scales=2,
    )


def check(config: ConfigDict) -> None:
    """Raise UserError for scales that cannot be."""
    model = config.model
    elementwise.check(model)
    for key in ("flow_layers", "scales"):
        layered.check_count(model, key)


def check_image(model: Any) -> None:
    """Raise UserError for images that the layers cannot cut up."""
    layered.check_side(model, "scales", 2**model.scales)
    for grid in _grids(model):
        coupling.check_network(sys.modules[__name__], model, _half(grid))


def _grids(model: Any) -> list[tuple[int, int, int]]:
    """The shape of each scale: half of the channels of the one before go on, four times as many."""
    found, (height, across, channels) = [], model.image_shape
    for scale in range(model.scales):
        height, across = height // 2, across // 2
        channels = channels * 4 // (2 if scale else 1)
        found.append((height, across, channels))
    return found


def _half(grid: tuple[int, int, int]) -> tuple[int, int, int]:
    return (*grid[:2], grid[2] // 2)


def _module(model: Any, hardware: Any, grid: tuple[int, int, int]) -> tuple[Any, tuple]:
    """The network of a step, and inputs to start it with."""
    model, half = FrozenConfigDict(model), _half(grid)
    network = part(sys.modules[__name__], "network", model)
    outputs = half[2] * elementwise.numbers(model)
    module = network.build(model, FrozenConfigDict(hardware), half, outputs)
    return module, (jnp.zeros((1, *half)), layered.label(model))


def positions(model: Any) -> int:
    """Positions that networks process for one image, a step of each scale, on average."""
    network = part(sys.modules[__name__], "network", model)
    each = [network.positions(model, _half(grid)) for grid in _grids(model)]
    return max(1, sum(each) // len(each))


def calls(model: Any) -> int:
    """How often drawing an image calls a network."""
    return model.flow_layers * model.scales


class Rotation(NamedTuple):
    """The parts of the matrices that the steps of a scale begin with, each [steps, ...]."""

    permutation: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    signs: np.ndarray
    log_diagonal: np.ndarray


def rotations(model: Any, scale: int) -> Rotation:
    """Of a scale: the same for every seed of a run, for permutation and signs do not learn."""
    channels, found = _grids(model)[scale][2], []
    for step in range(model.flow_layers):
        normal = np.random.default_rng([scale, step]).normal(size=(channels, channels))
        permutation, lower, upper = scipy.linalg.lu(np.linalg.qr(normal)[0])
        diagonal = np.diag(upper)
        own = permutation, np.tril(lower, -1), np.triu(upper, 1), np.sign(diagonal)
        found.append((*own, np.log(np.abs(diagonal))))
    return Rotation(*(np.stack(each).astype(np.float32) for each in zip(*found, strict=True)))


def matrix(own: dict[str, Any], fixed: Rotation) -> Array:
    """The matrix of each step, [..., C, C], of which `log_diagonal` sums to the log-determinant."""
    eye = np.eye(own["lower"].shape[-1], dtype=np.float32)
    lower = jnp.tril(own["lower"], -1) + eye
    upper = jnp.triu(own["upper"], 1)
    upper += eye * (fixed.signs * jnp.exp(own["log_diagonal"]))[..., None, :]
    return jnp.asarray(fixed.permutation) @ lower @ upper


def init(model: Any, hardware: Any, key: Array) -> common.Params:
    """Parameters of the steps of each scale."""
    params = {}
    for scale, (each, grid) in enumerate(
        zip(jax.random.split(key, model.scales), _grids(model), strict=True)
    ):
        module, inputs = _module(model, hardware, grid)
        zeros, start = jnp.zeros((model.flow_layers, grid[2])), rotations(model, scale)
        params[f"scale_{scale}"] = {
            "shift": zeros,
            "log_scale": zeros,
            "lower": jnp.asarray(start.lower),
            "upper": jnp.asarray(start.upper),
            "log_diagonal": jnp.asarray(start.log_diagonal),
            "network": layered.init(module, each, model.flow_layers, *inputs),
        }
    return params


def axes(model: Any, hardware: Any) -> common.Params:
    """Logical axes of every parameter: matrices of channels are no maps of the width."""
    found = {}
    for scale, grid in enumerate(_grids(model)):
        module, inputs = _module(model, hardware, grid)
        scalars = dict.fromkeys(("shift", "log_scale", "log_diagonal"), ("layers", "norm"))
        matrices = dict.fromkeys(("lower", "upper"), ("layers", "norm", None))
        own = {"network": layered.axes(module, *inputs)}
        found[f"scale_{scale}"] = scalars | matrices | own
    return found


def _statistics(own: dict[str, Array], x: Array) -> dict[str, Array]:
    """What actnorm is to be, that x have mean 0 and deviation 1 a channel."""
    deviation = x.std((0, 1, 2)) + SMALL
    found = {"shift": -x.mean((0, 1, 2)) / deviation, "log_scale": -jnp.log(deviation)}
    return jax.tree.map(jax.lax.stop_gradient, found)


def _step(model: Any, module: Any, first: Any, label: Any) -> Any:
    """The layer of a scan over (parameters, fixed parts): actnorm, matrix, coupling."""

    def layer(carry: Any, each: Any) -> Any:
        (x, log_det), (own, fixed) = carry, each
        norm = {name: own[name] for name in ("shift", "log_scale")}
        found = _statistics(own, x) if first is not None else None
        if found:  # in place of the parameters, whose gradient is that of where they will be
            norm = jax.tree.map(
                lambda old, new: old + jnp.where(first, jax.lax.stop_gradient(new - old), 0),
                norm,
                found,
            )
        places = x.shape[1] * x.shape[2]
        log_det += places * (norm["log_scale"].sum() + own["log_diagonal"].sum())
        x = x * jnp.exp(norm["log_scale"]) + norm["shift"]
        x = x @ matrix(own, fixed).astype(x.dtype)
        kept, x = jnp.split(x, 2, axis=-1)
        raw = common.apply(module, own["network"], kept, label).reshape(*x.shape, -1)
        y, change = elementwise.forward(model, raw, x)
        return (jnp.concatenate([kept, y], -1), log_det + layered.total(change)), found

    return layer


def begun(
    model: Any, hardware: Any, params: Any, x: Array, label: Any = None, first: Any = True
) -> tuple[Array, Array, Any]:
    """`forward`, and what actnorm is to be by this batch: where it is the `first`, it is that."""
    left, log_det, said = [], layered.nothing(x), {}
    shape = x.shape
    for scale, grid in enumerate(_grids(model)):
        name, (module, _) = f"scale_{scale}", _module(model, hardware, grid)
        if scale:
            x, done = jnp.split(x, 2, axis=-1)
            left.append(done.reshape(len(x), -1))
        each, step = (params[name], rotations(model, scale)), _step(model, module, first, label)
        carry = (layered.squeeze(x, 2), log_det)
        (x, log_det), said[name] = layered.run(hardware, step, carry, each)
    left.append(x.reshape(len(x), -1))
    return jnp.concatenate(left, axis=-1).reshape(shape), log_det, said


def moved(now: Any, found: Any, step: Array) -> Any:
    """Parameters after a step, of which the first leaves actnorm where its batch put it.

    Its gradient is zero there but for rounding, which Adam would make whole steps of.
    """
    return {
        name: now[name] | {key: jnp.where(step == 0, each[key], now[name][key]) for key in each}
        for name, each in found.items()
    }


def forward(
    model: Any, hardware: Any, params: Any, x: Array, label: Any = None, key: Any = None
) -> tuple[Array, Array]:
    """z of images x, of one shape, and log|det dz/dx| of each."""
    del key
    return begun(model, hardware, params, x, label, None)[:2]


def inverse(model: Any, hardware: Any, params: Any, z: Array, label: Any = None) -> Array:
    """x of `forward`."""
    grids, batch = _grids(model), len(z)
    sizes = [int(np.prod(grid)) // 2 for grid in grids[:-1]]
    *left, x = jnp.split(z.reshape(batch, -1), np.cumsum(sizes), axis=-1)
    for scale, grid in reversed([*enumerate(grids)]):
        module, _ = _module(model, hardware, grid)

        def layer(x: Array, each: Any, module: Any = module) -> Any:
            own, fixed = each
            kept, y = jnp.split(x, 2, axis=-1)
            raw = common.apply(module, own["network"], kept, label).reshape(*y.shape, -1)
            y = jnp.concatenate([kept, elementwise.inverse(model, raw, y)], -1)
            y = y @ jnp.linalg.inv(matrix(own, fixed)).astype(y.dtype)
            return (y - own["shift"]) * jnp.exp(-own["log_scale"]), None

        each = params[f"scale_{scale}"], rotations(model, scale)
        x, _ = layered.run(hardware, layer, x.reshape(batch, *grid), each, reverse=True)
        x = layered.unsqueeze(x, 2)
        if scale:
            x = jnp.concatenate([x, left[scale - 1].reshape(x.shape)], axis=-1)
    return x
