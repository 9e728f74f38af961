"""What the classics see of a batch: whole windows of tokens, levels of pixels, or numbers."""

import math
from typing import Any

import jax
from jax import Array
from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from research import levels
from research.data import sources
from research.errors import UserError


def image_keys() -> dict[str, Any]:
    """Keys of `config.model` that say what images are."""
    return dict(
        image_shape=placeholder(tuple),  # (height, width, channels)
        discrete=True,  # levels, not floats
        levels=256,  # from 0 on, where they are discrete
    )


def check_tokens(config: ConfigDict, spec: dict[str, Any]) -> None:
    """Raise UserError for data that are no text."""
    if "vocab_size" not in spec or "tokens" not in spec["arrays"]:
        raise UserError(
            f"config.model.kind={config.model.kind!r} reads tokens, such as those of markov; "
            f"config.data.name={config.data.name!r} gives images"
        )


def check_images(config: ConfigDict, spec: dict[str, Any]) -> None:
    """Raise UserError for data that are no images, or not as the model's keys say."""
    if "shape" not in spec:
        raise UserError(
            f"config.model.kind={config.model.kind!r} reads images, such as gaussian_mixture or "
            f"glyphs; config.data.name={config.data.name!r} gives tokens"
        )
    levels.check(config, spec)


def symbols(config: ConfigDict) -> int:
    """How many tokens the data have; it reads nothing that a compiled program may not."""
    return sources.load(config.data.name).outline(config.data)["vocab_size"]


def windows(config: ConfigDict, batch: dict[str, Array], key: Array) -> Array:
    """Windows of tokens, [B, L + 1]."""
    del config, key
    return batch["tokens"]


def dims(config: ConfigDict) -> int:
    """Dimensions of an image."""
    height, width, channels = config.model.image_shape
    return height * width * channels


def numbers(config: ConfigDict, batch: dict[str, Array], key: Array) -> Array:
    """Images as float32 [B, D]: levels in [-1, 1], each filled up with uniform noise."""
    x_BxD = levels.scaled(batch["image"], config.model.levels).reshape(len(batch["image"]), -1)
    if not config.model.discrete:
        return x_BxD
    noise = jax.random.uniform(key, x_BxD.shape, minval=-0.5, maxval=0.5)
    return x_BxD + levels.gap(config.model.levels) * noise


def log_volume(config: ConfigDict) -> float:
    """log of the volume that `numbers` fills up for an image, 0 where it is floats.

    By Jensen -log p of a density there less this is, on average over the noise, at least -log P of
    the levels (Theis 2016, arXiv 1511.01844, section 3.1).
    """
    if not config.model.discrete:
        return 0.0
    return dims(config) * math.log(levels.gap(config.model.levels))


def images(config: ConfigDict, x_BxD: Array) -> Array:
    """Numbers as images [B, H, W, C]: the nearest levels, or float32."""
    x = x_BxD.reshape(-1, *config.model.image_shape)
    return levels.nearest(x, config.model.levels) if config.model.discrete else x
