"""Classifiers of images: what judges the samples of others, and what guides them.

With `config.model.noisy` the image is seen at a log-SNR that is part of the input, all levels from
`gamma_min` to `gamma_max` alike (gamma is -log SNR), as guidance by a classifier needs it
(Dhariwal & Nichol 2021, section 4). It draws no samples.
"""

import sys
from typing import Any

import jax
from jax import numpy as jnp
from ml_collections import ConfigDict, FrozenConfigDict
from ml_collections.config_dict import placeholder

from research import levels
from research.errors import UserError
from research.models import common
from research.parts import part

# A network is a part (`research.parts`) with positions(config) and build(model, hardware) -> module
# of (x_BxHxWxC, gamma_B or None) -> (features_BxD, logits_BxI, measures), in float32.
NETWORKS = {"image_classifier": "research.models.image_classifier"}
PARTS = {"network": NETWORKS}


def default_model() -> ConfigDict:
    """Keys of `config.model` beside the network's; a study says what its images are."""
    return ConfigDict(
        dict(
            network="image_classifier",
            image_shape=placeholder(tuple),  # (height, width, channels)
            discrete=True,  # whole numbers, not floats
            levels=256,  # of them
            num_classes=placeholder(int),
            noisy=False,  # whether images are seen through noise, at a level that is told
            gamma_min=-13.3,
            gamma_max=5.0,
        )
    )


def default_train() -> dict[str, Any]:
    """The optimizer of the diffusion family's recipe, whose networks are made of the same parts."""
    return dict(optimizer="muon", weight_decay=0.03, clip_norm=0.0, ema_decay=0.9)


def default_sampling() -> dict[str, Any]:
    """No samples are drawn."""
    return dict(num=0)


def check(config: Any, spec: dict[str, Any]) -> None:
    """Refuse a model that cannot be built or that does not fit the data's `spec`.

    Raises:
        UserError: naming the key and what was expected.
    """
    model = config.model
    levels.check(config, spec)
    if model.num_classes != spec["num_classes"]:
        raise UserError(
            f"config.model.num_classes={model.num_classes} must be {spec['num_classes']}, the "
            f"classes of {config.data.name}"
        )
    if model.num_classes < 2:
        raise UserError(f"config.data.name={config.data.name!r} has one class: nothing to tell")
    if not model.gamma_min < model.gamma_max:
        raise UserError(
            f"config.model.gamma_min={model.gamma_min} must be below config.model.gamma_max="
            f"{model.gamma_max}"
        )


def network(config: Any) -> tuple[Any, tuple[jax.Array, jax.Array | None]]:
    """The Flax module that `config.model` names, and inputs of the right shapes to start it."""
    model = FrozenConfigDict(config.model)
    found = part(sys.modules[__name__], "network", model)
    gamma_B = jnp.zeros(1) if model.noisy else None
    module = found.build(model, FrozenConfigDict(config.hardware))
    return module, (jnp.zeros((1, *model.image_shape)), gamma_B)


def init(config: Any, key: jax.Array) -> common.Params:
    """Parameters as a nested dict; all classes are as likely at first."""
    module, inputs = network(config)
    return common.init(module, key, *inputs)


def axes(config: Any) -> common.Params:
    """Logical axis names of every parameter, a tree like `init`'s."""
    module, inputs = network(config)
    return common.logical_axes(module, *inputs)


def positions(config: Any) -> int:
    """Positions the network processes for one image."""
    return part(sys.modules[__name__], "network", config.model).positions(config)


def features(config: Any, params: common.Params, images: jax.Array) -> jax.Array:
    """What the last layer gives of clean images [B, H, W, C] of the data, float32 [B, D]."""
    x = levels.scaled(images, config.model.levels)
    return _apply(config, params, x, _clean(config, images))[0]


def probabilities(config: Any, params: common.Params, images: jax.Array) -> jax.Array:
    """Of each class, given clean images [B, H, W, C] of the data, float32 [B, classes]."""
    x, gamma_B = levels.scaled(images, config.model.levels), _clean(config, images)
    return jax.nn.softmax(_apply(config, params, x, gamma_B)[1])


def logits(
    config: Any, params: common.Params, x: jax.Array, gamma: jax.Array | None = None
) -> jax.Array:
    """Logits [B, classes] of x [B, H, W, C], in the range [-1, 1] of `pixels` before its noise.

    Args:
        gamma: -log SNR [B] of a `noisy` classifier's x = sqrt(sigmoid(-gamma)) x_0 +
            sqrt(sigmoid(gamma)) eps; of another it is not read.
    """
    return _apply(config, params, x, gamma)[1]


def _apply(config: Any, params: common.Params, x: jax.Array, gamma_B: Any) -> tuple[Any, ...]:
    module, _ = network(config)
    return common.apply(module, params, x, gamma_B if config.model.noisy else None)


def _clean(config: Any, images: jax.Array) -> jax.Array:
    """The least noise that the network was shown, for each image [B]."""
    return jnp.full(len(images), config.model.gamma_min)


def _seen(config: Any, images: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The images as they are to be told apart, and gamma [B] spread evenly over the batch."""
    x, model = levels.scaled(images, config.model.levels), config.model
    if not model.noisy:
        return x, _clean(config, images)
    time_key, noise_key = jax.random.split(key)
    place_B = jnp.arange(len(x)) / len(x) + jax.random.uniform(time_key)
    gamma_B = model.gamma_min + (model.gamma_max - model.gamma_min) * (place_B % 1.0)
    alpha, sigma = (jnp.sqrt(jax.nn.sigmoid(s * gamma_B))[:, None, None, None] for s in (-1, 1))
    return alpha * x + sigma * jax.random.normal(noise_key, x.shape), gamma_B


def _judged(
    config: Any, params: common.Params, batch: dict[str, jax.Array], key: jax.Array
) -> tuple[jax.Array, jax.Array, dict[str, jax.Array]]:
    """Nats [B] of the labels, whether each is the likeliest [B], and what the network measures."""
    _, logits_BxI, measures = _apply(config, params, *_seen(config, batch["image"], key))
    log_probability = jax.nn.log_softmax(logits_BxI)
    nats_B = -jnp.take_along_axis(log_probability, batch["label"][:, None], -1)[:, 0]
    return nats_B, logits_BxI.argmax(-1) == batch["label"], measures


def loss(
    config: Any, params: common.Params, batch: dict[str, jax.Array], key: jax.Array, step: jax.Array
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Mean cross-entropy of one batch in nats, and its share that is right."""
    del step
    nats_B, right_B, measures = _judged(config, params, batch, key)
    penalty = measures.pop("penalty", 0.0)
    return nats_B.mean() + penalty, {"accuracy": right_B.mean(), **measures}


def score(
    config: Any, params: common.Params, batch: dict[str, jax.Array], key: jax.Array
) -> dict[str, dict[str, jax.Array]]:
    """Cross-entropy in bits and the share that is right, of the rows not masked.

    A noisy classifier sees each image at one level; over a batch they are evenly spread.
    """
    nats_B, right_B, _ = _judged(config, params, batch, key)
    rows_B = batch.get("mask", jnp.ones(len(nats_B)))
    found = {"cross_entropy": nats_B / jnp.log(2.0), "accuracy": right_B}
    return {k: {"total": (rows_B * v_B).sum(), "count": rows_B.sum()} for k, v_B in found.items()}


def score_kinds(config: Any) -> dict[str, dict[str, Any]]:
    """What `score` measures."""
    kind = "estimate" if config.model.noisy else "exact"
    chance = {"chance": 1 / config.model.num_classes}
    return {
        "cross_entropy": {"unit": "bits/image", "kind": kind, "better": "lower"},
        "accuracy": {"unit": "share of images", "kind": kind, "better": "higher", **chance},
    }
