"""Images as tokens: the channels of a pixel one after another, pixels in raster order.

A token is a level of a channel of a pixel. In front of an image stands its class, 0 where there is
none, so that a network reads the class and all dimensions but the last, and predicts each dimension
(van den Oord et al. 2016a, arXiv 1601.06759, equations 1 and 2).
"""

import math
from collections.abc import Callable
from typing import Any, ClassVar

import flax.linen as nn
import jax
import numpy as np
from jax import numpy as jnp
from ml_collections import ConfigDict, FrozenConfigDict
from ml_collections.config_dict import placeholder

from research.errors import UserError
from research.mesh import constrain
from research.models import logit_head
from research.models.attention import IN_ORDER, Where
from research.models.common import look_up, parameter


def length(config: ConfigDict) -> int:
    """Tokens that are predicted of one example: dimensions of an image, or tokens of a text.

    Raises:
        UserError: when the data are images of which the model does not know the shape.
    """
    shape = config.model.image_shape
    if not shape and "length" not in config.data:
        raise UserError(
            f"config.model.image_shape={shape} must be (height, width, channels) of the images of "
            f"{config.data.name}"
        )
    return math.prod(shape) if shape else config.data.length


def check_data(config: ConfigDict, spec: dict[str, Any]) -> None:
    """Raise UserError for a model that does not fit the tokens or images of the data's `spec`."""
    model, name = config.model, config.data.name
    if "vocab_size" in spec:
        _check_tokens(config, spec["vocab_size"])
        return
    if not spec["discrete"]:
        raise UserError(
            f"config.data.name={name!r} gives images of floats; family {config.family!r} reads "
            "those of levels, such as glyphs, or tokens, such as python_stdlib"
        )
    for key, of_data in (("image_shape", spec["shape"]), ("levels", spec["levels"])):
        if model[key] != of_data:
            raise UserError(f"config.model.{key}={model[key]} must be {of_data} for {name}")
    if not 2 <= model.vocab_size <= model.levels:
        raise UserError(
            f"config.model.vocab_size={model.vocab_size}: images have 2 to {model.levels} levels"
        )
    if model.num_classes not in (0, spec["num_classes"]):
        raise UserError(
            f"config.model.num_classes={model.num_classes} must be 0 or {spec['num_classes']}, "
            f"the classes of {name}"
        )


def _check_tokens(config: ConfigDict, symbols: int) -> None:
    model, name = config.model, config.data.name
    for key, none in (("image_shape", ()), ("num_classes", 0)):
        if model[key]:
            raise UserError(
                f"config.model.{key}={model[key]} must be {none}: {name} gives no images"
            )
    if model.vocab_size < symbols:
        raise UserError(
            f"config.model.vocab_size={model.vocab_size} is too small for the {symbols} symbols of "
            f"{name}"
        )


def default_model() -> dict[str, Any]:
    """Keys of `config.model` of a masked network; its windows are pixels across, odd numbers.

    `depth` counts its layers after the first convolution, be they residual blocks or Row LSTMs.
    `width` features of a pixel go from one to the next, of which each channel has an equal part.
    """
    return dict(depth=placeholder(int), width=placeholder(int), first_window=7, window=3)


def check_network(config: ConfigDict) -> None:
    """Raise UserError where a masked network cannot be built."""
    model = config.model
    if len(model.image_shape) != 3:
        raise UserError(
            f"config.model.network={model.network!r} reads images: config.model.image_shape="
            f"{model.image_shape} must be (height, width, channels)"
        )
    channels = model.image_shape[-1]
    if model.depth < 1:
        raise UserError(f"config.model.depth={model.depth} must be at least 1")
    if model.width < 1 or model.width % (2 * channels):
        nearest = max(1, round(model.width / (2 * channels))) * 2 * channels
        raise UserError(
            f"config.model.width={model.width} must be a multiple of {2 * channels}, twice the "
            f"channels of an image; nearest valid: {nearest}"
        )
    for key, least in (("first_window", 3), ("window", 1)):
        if model[key] < least or model[key] % 2 == 0:
            raise UserError(f"config.model.{key}={model[key]} must be odd and at least {least}")


def tokens(model: Any, batch: dict) -> jax.Array:
    """A batch of images as tokens, int32 [B, 1 + H W C], its classes first.

    Of fewer levels, `vocab_size`, than the data's, each stands for equally many of those.
    """
    image_BxHxWxC = batch["image"].astype(jnp.int32)
    start_B = batch["label"] if model.num_classes else jnp.zeros(len(image_BxHxWxC), jnp.int32)
    level_BxL = image_BxHxWxC.reshape(len(image_BxHxWxC), -1) * model.vocab_size // model.levels
    return jnp.concatenate([start_B[:, None], level_BxL], 1)


def images(model: Any, tokens_BxL: np.ndarray) -> np.ndarray:
    """Images [B, H, W, C], uint8, of tokens without the class; the levels fill the range."""
    most = model.vocab_size - 1
    pixels = (tokens_BxL * (model.levels - 1) + most // 2) // most
    return pixels.astype(np.uint8).reshape(-1, *model.image_shape)


def classes(model: Any, key: jax.Array, num: int) -> jax.Array:
    """Classes to draw images of, uniformly, int32 [num]; 0 for a model without."""
    return jax.random.randint(key, (num,), 0, max(model.num_classes, 1))


def seen(model: Any, tokens_BxL: jax.Array) -> jax.Array:
    """The image of the tokens that are read, from -1 to 1, [B, H, W, C].

    Its last dimension is not among them; it is black, and no masked network sees it.
    """
    tokens_BxL = jnp.concatenate([tokens_BxL[:, 1:], jnp.zeros_like(tokens_BxL[:, :1])], 1)
    level_BxL = tokens_BxL.astype(jnp.float32) * (2 / (model.vocab_size - 1)) - 1
    return level_BxL.reshape(-1, *model.image_shape)


def add_class(
    module: nn.Module, model: Any, tokens_BxL: jax.Array, x_BxHxWxI: jax.Array
) -> jax.Array:
    """x and, where there are classes, the row of the image's own, which stands first."""
    if not model.num_classes:
        return x_BxHxWxI
    normal, shape = nn.initializers.normal(1.0), (model.num_classes, x_BxHxWxI.shape[-1])
    table = parameter(module, "class", normal, ("class", "embed"), shape)
    return x_BxHxWxI + look_up(table, tokens_BxL[:, :1], x_BxHxWxI.dtype)[:, :, None]


class PixelNetwork(nn.Module):
    """Features of each dimension [B, H W C, width / C], from a class and an image as tokens.

    A subclass has `features` of (tokens [B, L], what is seen of the image [B, H, W, C]): those of
    each pixel [B, H, W, width], its channels' one after another, of which none sees its own level.
    """

    model: FrozenConfigDict
    dtype: Any
    features: ClassVar[Callable[..., jax.Array]]

    @nn.compact
    def __call__(
        self, tokens_BxL: jax.Array, where: Where = IN_ORDER, cache: None = None
    ) -> tuple[jax.Array, dict[str, jax.Array], None]:
        del where
        x_BxHxWxI = self.features(tokens_BxL, seen(self.model, tokens_BxL))
        width = self.model.width // self.model.image_shape[-1]
        logit_head.declare(self, self.model.vocab_size, width)
        x_BxLxD = x_BxHxWxI.reshape(len(x_BxHxWxI), -1, width)
        return constrain(x_BxLxD, "batch", "length", None), {}, cache
