"""Flows: images are mapped to as many independent normal numbers, one to one.

    log p(x) = log N(z; 0, 1) + log|det dz/dx|

is exact for images of floats. Whole levels are spread over their cells by noise u of density q(u):
-log P(level) <= E[-log p(x + u) + log q(u | x)], an upper bound in bits a dimension (Theis et al.
2016, arXiv 1511.01844; Ho et al. 2019, arXiv 1902.00275, equation 9), which several samples of the
noise make tighter (Burda et al. 2016).
"""

import functools
import sys
from types import ModuleType
from typing import Any

import jax
import numpy as np
from jax import Array
from jax import numpy as jnp
from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from research import levels, optim
from research.config import frozen
from research.errors import UserError
from research.failures import Limit
from research.families.flow import layered
from research.models import common
from research.parts import part

# A flow is a part (`research.parts`) with init(model, hardware, key), axes(model, hardware),
# forward(model, hardware, params, x, label, key) -> (z, log|det dz/dx| [B]), both of one shape,
# inverse(model, hardware, params, z, label) -> x, and positions(model) and calls(model), what its
# networks process of one image and how often one that is drawn calls them. Where not every image
# will do, check_image(model) raises UserError. KIND is "estimate" where
# the log-determinant is. Parameters that begin with what the first batch says have begun(model,
# hardware, params, x, label, first) -> (z, log-determinant, found), and moved(now, found, step) ->
# those after a step.
FLOWS = {
    "coupling": "research.families.flow.coupling",
    "glow": "research.families.flow.glow",
    "autoregressive_flow": "research.families.flow.autoregressive_flow",
    "transformer_flow": "research.families.flow.transformer_flow",
    "continuous": "research.families.flow.continuous",
}
# A part with init and axes, and noise(model, hardware, params, seen, key) -> (u, log q(u) [B]).
DEQUANTISATIONS = {
    "uniform": "research.families.flow.uniform_dequantisation",
    "variational": "research.families.flow.variational_dequantisation",
}
PARTS = {"flow": FLOWS, "dequantisation": DEQUANTISATIONS}
CHECKED = 4  # images of a batch that are mapped back, which may take as long as drawing them
_SELF = sys.modules[__name__]


def default_model() -> ConfigDict:
    """Keys of `config.model` beside those of the flow."""
    return ConfigDict(
        dict(
            flow="coupling",
            dequantisation="uniform",  # of levels
            image_shape=placeholder(tuple),  # (height, width, channels)
            discrete=True,  # levels, not floats
            levels=256,  # of a discrete image
            num_classes=0,  # 0: no label is given to the networks
        )
    )


def default_train() -> dict[str, Any]:
    """No decay of weights, which would pull every scale to one."""
    return dict(optimizer="adamw", weight_decay=0.0)


def default_sampling() -> dict[str, Any]:
    """Keys of `config.sampling`: the deviation of the normal numbers that images are drawn from."""
    return dict(temperature=1.0)


def default_evaluation() -> dict[str, Any]:
    """Keys of `config.evaluation`: samples of the noise within levels, for `bounds`."""
    return dict(importance_samples=16)


def check(config: ConfigDict, spec: dict[str, Any]) -> None:
    """Raise UserError for what the data's `spec` does not fit."""
    model = config.model
    levels.check(config, spec)
    if hasattr(_part(config, "flow"), "check_image"):
        _part(config, "flow").check_image(model)
    if model.num_classes not in (0, spec["num_classes"]):
        raise UserError(
            f"config.model.num_classes={model.num_classes} must be 0 or {spec['num_classes']}, "
            f"the classes of {config.data.name}"
        )
    if not model.discrete and model.dequantisation != "uniform":
        raise UserError(
            f"config.model.dequantisation={model.dequantisation!r} must be 'uniform', which floats "
            "have no use for: there is nothing to dequantise"
        )
    if config.sampling.temperature < 0:
        raise UserError(
            f"config.sampling.temperature={config.sampling.temperature} must not be negative"
        )
    if config.evaluation.importance_samples < 1:
        raise UserError(
            f"config.evaluation.importance_samples={config.evaluation.importance_samples} must be "
            "at least 1"
        )


def _part(config: Any, key: str) -> ModuleType:
    return part(_SELF, key, config.model)


def positions(config: ConfigDict) -> int:
    """Positions that a network of the flow processes for one image."""
    return _part(config, "flow").positions(config.model)


def network_calls(config: ConfigDict) -> int:
    """How often drawing a sample calls a network."""
    return _part(config, "flow").calls(config.model)


def init(config: ConfigDict, key: Array) -> common.Params:
    """Parameters of the flow, which begins as a map of log-determinant 0, and of the noise."""
    keys = dict(zip(PARTS, jax.random.split(key, len(PARTS)), strict=True))
    return {
        name: _part(config, name).init(config.model, config.hardware, keys[name]) for name in PARTS
    }


def axes(config: ConfigDict) -> common.Params:
    """Logical axes of every parameter."""
    return {name: _part(config, name).axes(config.model, config.hardware) for name in PARTS}


def _label(config: Any, batch: dict) -> Any:
    return batch["label"] if config.model.num_classes else None


def dequantised(config: Any, params: Any, image: Array, key: Array) -> tuple[Array, Array]:
    """Images as floats, and what to add to -log of their density, nats of each, [B]."""
    seen = levels.scaled(image, config.model.levels)
    if not config.model.discrete:
        return seen, layered.nothing(seen)
    own, gap = params["dequantisation"], levels.gap(config.model.levels)
    with jax.named_scope("dequantisation"):
        u, log_q = _part(config, "dequantisation").noise(
            config.model, config.hardware, own, seen, key
        )
    return seen + gap * (u - 0.5), log_q - seen[0].size * np.log(gap)


def encode(
    config: Any, params: Any, x: Array, label: Any = None, key: Any = None
) -> tuple[Array, Array]:
    """The normal numbers of images of floats, of one shape, and log|det| of the map, [B]."""
    with jax.named_scope("flow"):
        of = config.model, config.hardware, params["flow"]
        return _part(config, "flow").forward(*of, x, label, key)


def inverse(config: Any, params: Any, z: Array, label: Any = None) -> Array:
    """Images of floats of normal numbers: `encode` undone."""
    with jax.named_scope("flow"):
        return _part(config, "flow").inverse(
            config.model, config.hardware, params["flow"], z, label
        )


def _nats(z: Array, log_det: Array, more: Array) -> Array:
    """-log p of each image, [B], of what `dequantised` and `encode` say."""
    return layered.total(0.5 * (z**2 + np.log(2 * np.pi))) - log_det + more


def _judged(config: Any, params: Any, batch: dict, key: Array) -> tuple[Array, Array, Array]:
    """Nats of each image, [B], the floats that it was and its log-determinant."""
    keys = jax.random.split(key)
    x, more = dequantised(config, params, batch["image"], keys[0])
    z, log_det = encode(config, params, x, _label(config, batch), keys[1])
    return _nats(z, log_det, more), x, log_det


def _largest(log_det: Array, dims: int) -> Array:
    """The largest |log-determinant| of a batch, nats a dimension."""
    return jax.lax.stop_gradient(jnp.abs(log_det).max()) / dims


def loss(
    config: ConfigDict, params: Any, batch: dict, key: Array, step: Array
) -> tuple[Array, dict[str, Any]]:
    """Bits a dimension, and the metric "log_det", the largest of the batch."""
    del step
    nats, _, log_det = _judged(config, params, batch, key)
    dims = batch["image"][0].size
    return nats.mean() / (dims * np.log(2)), {"log_det": _largest(log_det, dims)}


def _begun_loss(
    config: ConfigDict, params: Any, batch: dict, key: Array, step: Array
) -> tuple[Array, dict[str, Any]]:
    """`loss` where the first batch says what some parameters begin with."""
    x, more = dequantised(config, params, batch["image"], jax.random.split(key)[0])
    with jax.named_scope("flow"):
        given = config.model, config.hardware, params["flow"], x, _label(config, batch)
        z, log_det, found = _part(config, "flow").begun(*given, step == 0)
    value = _nats(z, log_det, more).mean() / (x[0].size * np.log(2))
    return value, {"log_det": _largest(log_det, x[0].size), "found": found}


def update(
    config: ConfigDict, state: dict, batch: dict, key: Array, step: Array, rate: Array
) -> tuple[dict, dict]:
    """One gradient step; the first leaves some parameters where its batch puts them.

    So no pass over the batch is made for that, and a run that is resumed needs nothing beside step.
    """
    flow = _part(config, "flow")
    if not hasattr(flow, "begun"):
        return optim.update(loss, config, state, batch, key, step, rate)
    state, metrics = optim.update(_begun_loss, config, state, batch, key, step, rate)
    params = state["params"]
    params = params | {"flow": flow.moved(params["flow"], metrics.pop("found"), step)}
    return {**state, "params": params}, metrics


def score(config: ConfigDict, params: Any, batch: dict, key: Array) -> dict:
    """Bits of the rows not masked, and how far images that are mapped back are off at most.

    Deterministic given `key`.
    """
    nats, x, _ = _judged(config, params, batch, key)
    rows_B = batch.get("mask", jnp.ones(len(x)))
    few, label = x[:CHECKED], _label(config, batch)
    label = None if label is None else label[:CHECKED]
    back = inverse(config, params, encode(config, params, few, label)[0], label)
    error = (jnp.abs(back - few) * rows_B[:CHECKED, None, None, None]).max()
    count = rows_B.sum()
    return {
        "likelihood": {"total": (rows_B * nats).sum() / np.log(2), "count": count * x[0].size},
        "inverse_error": {"total": error * count, "count": count},
    }


def _kind(config: Any) -> str:
    of_floats = getattr(_part(config, "flow"), "KIND", "exact")
    return "upper bound" if config.model.discrete and of_floats == "exact" else of_floats


def score_kinds(config: ConfigDict) -> dict[str, dict[str, str]]:
    """What `score` measures: a density of floats, a bound of levels."""
    bits = {"unit": "bits/dim", "kind": _kind(config), "better": "lower"}
    error = {"unit": "largest of a batch", "kind": "estimate", "better": "lower"}
    return {"likelihood": bits, "inverse_error": error}


def limits(config: ConfigDict) -> dict[str, Limit]:
    """Beyond these a flow is one to one on paper only (Behrmann et al. 2021, arXiv 2006.09347)."""
    del config
    return {
        "not_invertible": Limit("inverse_error", "images mapped back are others", high=0.05),
        "exploding_map": Limit("log_det", "the map stretches without bound", high=20.0),
    }


def bounds(
    config: ConfigDict, params: Any, batch: dict, key: Array, shared: Any
) -> dict[str, Array]:
    """-log p of each image, nats: of floats as it is, of levels by one and by several samples."""
    del shared
    if not config.model.discrete:
        return {"likelihood": _judged(config, params, batch, key)[0]}
    keys = jax.random.split(key, config.evaluation.importance_samples)
    each = jax.lax.map(lambda key: _judged(config, params, batch, key)[0], keys)
    tighter = np.log(len(keys)) - jax.nn.logsumexp(-each, axis=0)
    return {"bound": each.mean(0), "importance_bound": tighter}


def bound_kinds(config: ConfigDict) -> dict[str, str]:
    """The kind of each of `bounds`."""
    names = ("bound", "importance_bound") if config.model.discrete else ("likelihood",)
    return dict.fromkeys(names, _kind(config))


@functools.partial(jax.jit, static_argnums=(0, 3))
def _draw(config: Any, params: Any, key: Array, num: int, temperature: Array, label: Any) -> Array:
    model, (key, label_key) = config.model, jax.random.split(key)
    if model.num_classes and label is None:
        label = jax.random.randint(label_key, (num,), 0, model.num_classes)
    z = temperature * jax.random.normal(key, (num, *model.image_shape))
    x = inverse(config, params, z, label)
    return levels.nearest(x, model.levels) if model.discrete else x


def sample(config: ConfigDict, params: Any, key: Array, num: int, label: Any = None) -> np.ndarray:
    """Images, [num, H, W, C], uint8 if the data are, else float32.

    Args:
        label: the class of each, int32 [num]; without, classes are drawn evenly.
    """
    used = frozen(config, "model", "hardware")
    temperature = jnp.float32(config.sampling.temperature)
    return np.asarray(_draw(used, params, key, num, temperature, label))
