"""Two Transformers, one over patches and one over words, that end in one space (Radford 2021)."""

from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jax import numpy as jnp
from ml_collections import ConfigDict, FrozenConfigDict

from research.errors import UserError
from research.models import image_classifier
from research.models.attention import Where
from research.models.common import Dense, Norm, look_up, parameter
from research.models.image_classifier import ImageEncoder
from research.models.transformer import Stack

PARTS = image_classifier.PARTS
PREFERRED = image_classifier.PREFERRED
check_hardware = image_classifier.check_hardware
positions = image_classifier.positions
FIRST_TEMPERATURE = 0.07  # by which similarities are divided; learned (Radford 2021, section 2.5)


def default_model() -> dict[str, Any]:
    """The stack's keys of `config.model`, which both Transformers share, and the common space."""
    return image_classifier.default_model() | dict(embedding=32)


def check(config: ConfigDict) -> None:
    """Raise UserError for networks that cannot be built."""
    image_classifier.check(config)
    if config.model.embedding < 1:
        raise UserError(f"config.model.embedding={config.model.embedding} must be at least 1")


def build(model: FrozenConfigDict, hardware: FrozenConfigDict) -> "ImageText":
    """The module of the family clip."""
    return ImageText(model, hardware)


class ImageText(nn.Module):
    """Directions of images and of texts, [B, I] of length 1, a scale, and what the stacks measure.

    Inputs are images [B, H, W, C] and words [B, S], where 0 is padding that no word sees; either
    may be None, and so is then its direction. Similarities are multiplied by the scale, which is
    learned and at most 100 (Radford 2021, section 2.5).
    """

    model: Any  # FrozenConfigDict
    hardware: Any  # FrozenConfigDict

    @nn.compact
    def __call__(
        self, image_BxHxWxC: jax.Array | None, text_BxS: jax.Array | None
    ) -> tuple[jax.Array | None, jax.Array | None, jax.Array, list[dict[str, jax.Array]]]:
        model, image_BxI, text_BxI, measured = self.model, None, None, []
        if image_BxHxWxC is not None:
            encoder = ImageEncoder(model, self.hardware, name="image")
            x_BxD, measures = encoder(image_BxHxWxC)
            image_BxI, measured = self._direction("image_map", x_BxD), [measures]
        if text_BxS is not None:
            encoder = TextEncoder(model, self.hardware, name="text")
            x_BxD, measures = encoder(text_BxS)
            text_BxI, measured = self._direction("text_map", x_BxD), [*measured, measures]
        first = -np.log(FIRST_TEMPERATURE)
        log_scale = parameter(self, "log_scale", nn.initializers.constant(first), (), ())
        scale = jnp.exp(jnp.minimum(log_scale, np.log(100.0)))
        return image_BxI, text_BxI, scale, measured

    @nn.nowrap
    def _direction(self, name: str, x_BxD: jax.Array) -> jax.Array:
        y_BxI = Dense((self.model.embedding,), ("embed", "output"), name=name)(x_BxD)
        return y_BxI / jnp.linalg.norm(y_BxI, axis=-1, keepdims=True)


class TextEncoder(nn.Module):
    """Features [B, D] (float32), the mean over words [B, S], and what the stack measures."""

    model: Any  # FrozenConfigDict
    hardware: Any  # FrozenConfigDict

    @nn.compact
    def __call__(self, text_BxS: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        model, dtype = self.model, jnp.dtype(self.hardware.compute_dtype)
        shape = (model.text_vocab_size, model.width)
        normal = nn.initializers.normal(1.0)
        table = parameter(self, "words", normal, ("vocab", "embed"), shape)
        x_BxSxD = look_up(table, text_BxS, dtype)
        word_BxS = text_BxS > 0
        where = Where(segments=word_BxS.astype(jnp.int32))
        stack = Stack(model, self.hardware, causal=False, name="stack")
        x_BxSxD, measures, _ = stack(x_BxSxD, None, where)
        x_BxSxD = Norm(model.norm, bias=model.bias, name="final_norm")(x_BxSxD)
        share_BxS = word_BxS / jnp.maximum(word_BxS.sum(1, keepdims=True), 1)
        return (share_BxS[..., None] * x_BxSxD.astype(jnp.float32)).sum(1), measures
