"""The energy of a network: the encoder of a coder, to one number an image.

With classes it says a logit of each, whose log-sum-exp is minus the energy, so that the same
network is a classifier (JEM: Grathwohl et al. 2020, arXiv 1912.03263, equation 5). Chains and
annealing go from independent normal numbers, or even levels, to it: (1 - beta) E_base + beta E.
"""

import functools
import math
import sys
from types import ModuleType
from typing import Any

import jax
from jax import Array
from jax import numpy as jnp
from ml_collections import ConfigDict, FrozenConfigDict

from research.families.energy import rbm
from research.models import common
from research.models.coders import CODERS
from research.parts import part

PARTS = {"network": CODERS}


def default_model() -> dict[str, Any]:
    """Its keys of `config.model`."""
    return dict(network="mlp_coder")


def _network(model: Any) -> ModuleType:
    return part(sys.modules[__name__], "network", model)


@functools.lru_cache
def _built(network: ModuleType, model: Any, hardware: Any) -> Any:
    return network.build(model, hardware, max(1, model.num_classes), 1)[0]


def _module(model: Any, hardware: Any) -> tuple[Any, Array]:
    """The network, and an image to start it with."""
    chosen = FrozenConfigDict(model), FrozenConfigDict(hardware)
    return _built(_network(model), *chosen), jnp.zeros((1, *model.image_shape))


def positions(config: ConfigDict) -> int:
    """Positions that the network processes for one image."""
    return _network(config.model).positions(config)


def init(model: Any, hardware: Any, key: Array) -> common.Params:
    """Parameters of the network."""
    module, x = _module(model, hardware)
    return common.init(module, key, x)


def axes(model: Any, hardware: Any) -> common.Params:
    """Logical axes of them."""
    module, x = _module(model, hardware)
    return common.logical_axes(module, x)


def _logits(model: Any, hardware: Any, params: Any, x: Array) -> Array:
    """[B, classes], or [B, 1], the mean over places."""
    module, _ = _module(model, hardware)
    return common.apply(module, params, x).mean((1, 2))


def energy(
    model: Any, hardware: Any, params: Any, x: Array, label: Any = None, beta: Any = 1.0
) -> Array:
    """E of each image, [B], or of the image and its class where that is told."""
    said_BxV = _logits(model, hardware, params, x)
    if label is None:
        of_network = -jax.nn.logsumexp(said_BxV, axis=-1)
    else:
        of_network = -jnp.take_along_axis(said_BxV, label[:, None], 1)[:, 0]
    if model.discrete:
        return beta * of_network
    return beta * of_network + (1 - beta) * 0.5 * jnp.square(x).sum((1, 2, 3))


def class_cost(model: Any, hardware: Any, params: Any, x: Array, label: Array) -> Array:
    """-log p(label | x), nats [B]."""
    log_p = jax.nn.log_softmax(_logits(model, hardware, params, x))
    return -jnp.take_along_axis(log_p, label[:, None], 1)[:, 0]


def base(model: Any, key: Array, num: int) -> Array:
    """Images of independent normal numbers, or levels."""
    if model.discrete:
        return rbm.base(model, key, num)
    return jax.random.normal(key, (num, *model.image_shape))


def base_log_z(model: Any) -> float:
    """Of these."""
    return rbm.dims(model) * (math.log(2) if model.discrete else 0.5 * math.log(2 * math.pi))
