"""Images that a network is given beside the noisy one; in training, of the batch's own images.

A kind of them has `channels`, how many there are for images of C channels, and `make` of (model, a
clean image [B, H, W, C], a key) what the network is given of it, [B, H, W, channels].
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax import Array
from jax import numpy as jnp

from research.errors import UserError
from research.parts import check_choice

INPUTS = ("concatenate", "control")  # beside the noisy image, or into copies of the first blocks


class Kind(NamedTuple):
    """A kind of images that a network is given."""

    channels: Callable[[int], int]
    make: Callable[[Any, Array, Array], Array]


def default_model() -> dict[str, Any]:
    """Keys of `config.model` of the family."""
    return dict(
        image_condition="none",
        image_input="concatenate",
        image_factor=2,  # of image_condition "low_resolution"
        image_noise=0.0,  # deviation of the noise on it, in the range of pixels
    )


def smaller(x_BxHxWxC: Array, factor: int) -> Array:
    """The mean of each square of `factor` x `factor` pixels, [B, H / factor, W / factor, C]."""
    batch, height, width, channels = x_BxHxWxC.shape
    squares = (batch, height // factor, factor, width // factor, factor, channels)
    return x_BxHxWxC.reshape(squares).mean((2, 4))


def larger(x_BxHxWxC: Array, factor: int) -> Array:
    """Each pixel as a square of `factor` x `factor`: what `smaller` makes x of."""
    return x_BxHxWxC.repeat(factor, 1).repeat(factor, 2)


def low_resolution(model: Any, x0: Array, key: Array) -> Array:
    """The image at a lower resolution, as wide as before, with noise (Ho et al. 2022, cascades)."""
    small = smaller(x0, model.image_factor)
    small += model.image_noise * jax.random.normal(key, small.shape)
    return larger(small, model.image_factor)


def masked(x0: Array, mask_BxHxWx1: Array) -> Array:
    """The image without what is hidden, where `mask` is 1, and the mask."""
    return jnp.concatenate([x0 * (1 - mask_BxHxWx1), mask_BxHxWx1], -1)


def around(model: Any, x0: Array, key: Array) -> Array:
    """The image without a rectangle, and where that is: for inpainting (Rombach et al. 2022).

    Its two sides are each as long as the distance of two random places, so that all sizes occur.
    """
    del model
    inside = []
    for axis, each in zip((1, 2), jax.random.split(key), strict=True):
        size = x0.shape[axis]
        ends = jnp.sort(jax.random.randint(each, (len(x0), 2), 0, size + 1), -1)
        at = jnp.arange(size)
        inside.append((at >= ends[:, :1]) & (at < ends[:, 1:]))
    mask = (inside[0][:, :, None] & inside[1][:, None, :])[..., None]
    return masked(x0, mask.astype(x0.dtype))


KINDS = {
    "none": Kind(lambda channels: 0, lambda model, x0, key: x0[..., :0]),
    "low_resolution": Kind(lambda channels: channels, low_resolution),
    "around": Kind(lambda channels: channels + 1, around),
}


def channels(model: Any) -> int:
    """Channels of the image that the network is given; 0 where it is given none."""
    return KINDS[model.image_condition].channels(model.image_shape[-1])


def blank(model: Any, num: int) -> Array | None:
    """What says nothing, [num, H, W, channels]: a grey image, all of which is hidden."""
    if model.image_condition == "none":
        return None
    x0 = jnp.zeros((num, *model.image_shape))
    return masked(x0, jnp.ones_like(x0[..., :1])) if model.image_condition == "around" else x0


def check(model: Any, network: Any) -> None:
    """Raise UserError for an image that cannot be made, or that the `network` cannot read."""
    check_choice("model.image_condition", model.image_condition, KINDS)
    check_choice("model.image_input", model.image_input, INPUTS)
    height, width, _ = model.image_shape
    factor = model.image_factor
    if model.image_condition == "low_resolution" and (
        factor < 2 or height % factor or width % factor
    ):
        valid = [n for n in range(2, height + 1) if height % n == 0 and width % n == 0]
        near = min(valid, key=lambda n: abs(n - factor), default=None)
        raise UserError(
            f"config.model.image_factor={factor} must be at least 2 and divide the "
            f"{height}x{width} image; nearest valid: {near}"
        )
    if model.image_noise < 0:
        raise UserError(f"config.model.image_noise={model.image_noise} must not be negative")
    if model.image_input == "control" and model.image_condition == "none":
        raise UserError(
            "config.model.image_input='control' has no image to read: set "
            "config.model.image_condition to low_resolution or around"
        )
    if model.image_input == "control" and "control" not in getattr(network, "READS", ()):
        raise UserError(
            f"config.model.image_input='control': network {model.network!r} has no copies that "
            "read an image; use 'concatenate', or network 'dit' or 'unet'"
        )
