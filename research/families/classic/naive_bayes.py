"""Naive Bayes: pixels that are independent given a class, each with a table of its levels.

With `labels` the classes are the data's and everything is counted once; without, classes are
latent, found by EM: a mixture of Bernoullis on two levels. Either way the likelihood is of an
image, over all classes.

FLOPs of a step, of B images in D dimensions of V levels and K classes: 4 B D V K, products of the
tables with images that are written as ones and zeros, and of these with the classes' shares.
"""

from typing import Any

import jax
from jax import Array
from jax import numpy as jnp
from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from research.errors import UserError
from research.families.classic import readings, stepwise


def default_model() -> dict[str, Any]:
    """Keys of `config.model`."""
    return dict(
        width=placeholder(int),  # classes
        labels=False,  # whether they are the data's; kappa is best 1 then
        pseudo_count=0.5,  # of each class, and of each level of a pixel in it
        kappa=0.6,  # a batch weighs its number to the power -kappa; 1: all weigh the same
        **readings.image_keys(),
    )


def check_data(config: ConfigDict, spec: dict[str, Any]) -> None:
    """Raise UserError for data that are no images of levels, or have other classes."""
    readings.check_images(config, spec)
    model, name = config.model, config.data.name
    if not model.discrete:
        raise UserError(
            f"config.data.name={name!r} gives floats; config.model.kind='naive_bayes' counts "
            "levels: 'mixture' has densities"
        )
    if model.labels and model.width != spec["num_classes"]:
        raise UserError(
            f"config.model.width={model.width} must be {spec['num_classes']}, the classes of "
            f"{name}, where config.model.labels=True"
        )


def observed(config: ConfigDict, batch: dict[str, Array], key: Array) -> tuple[Array, Array]:
    """Pixels as ones and zeros, float32 [B, D * V], and the label of each image, int32 [B]."""
    del key
    one_hot = jax.nn.one_hot(batch["image"], config.model.levels)
    return one_hot.reshape(len(one_hot), -1), batch["label"]


def init(config: ConfigDict, key: Array) -> dict[str, Array]:
    """Classes as likely, with random tables."""
    width, shape = config.model.width, (readings.dims(config), config.model.levels)
    return {
        "class": jnp.full(width, -jnp.log(width)),
        "levels": stepwise.random_shares(key, (width, *shape), 0.5),
    }


def _joint(params: Any, one_hot: Array) -> Array:
    """log p of an image and each class, [K]."""
    return params["class"] + params["levels"].reshape(len(params["class"]), -1) @ one_hot


def log_probability(config: ConfigDict, params: Any, example: tuple[Array, Array]) -> Array:
    """log p of an image."""
    del config
    return jax.nn.logsumexp(_joint(params, example[0]))


def statistics(config: ConfigDict, params: Any, examples: Any) -> tuple[Array, dict[str, Array]]:
    """log p of all images, with their labels where these are used, and counts as its gradient."""

    def of_all(params: Any) -> Array:
        joint_BxK = jax.vmap(lambda image: _joint(params, image))(examples[0])
        if config.model.labels:
            return jnp.take_along_axis(joint_BxK, examples[1][:, None], 1).sum()
        return jax.nn.logsumexp(joint_BxK, axis=1).sum()

    return jax.value_and_grad(of_all)(params)


def shares(params: Any) -> Array:
    """Of the classes, [K]."""
    return jnp.exp(params["class"])


def drawn(config: ConfigDict, params: Any, key: Array, num: int) -> Array:
    """Images of classes drawn by their shares, uint8 [num, H, W, C]."""
    class_key, key = jax.random.split(key)
    which = jax.random.categorical(class_key, params["class"], shape=(num,))
    levels = jax.random.categorical(key, params["levels"][which])
    return levels.astype(jnp.uint8).reshape(num, *config.model.image_shape)
