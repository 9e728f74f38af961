"""Gated PixelCNN (van den Oord et al. 2016b, arXiv 1606.05328, section 2, equations 2 and 4).

A stack of convolutions sees all rows above, another what is left in the row and, at each layer, the
first one: so nothing before a pixel is hidden. Units are tanh times a sigmoid gate, both of which
add a vector of the class.
"""

from typing import Any

import flax.linen as nn
import jax
from jax import numpy as jnp
from ml_collections import ConfigDict, FrozenConfigDict

from research.models import logit_head, pixels
from research.models.masked_conv import ALL, BEFORE, UNTIL, MaskedConv

check, positions, default_model = pixels.check_network, pixels.length, pixels.default_model
check_hardware, logits, nats = logit_head.check_hardware, logit_head.logits, logit_head.nats


def build(model: FrozenConfigDict, hardware: ConfigDict) -> "GatedPixelCnn":
    """The module of the family autoregressive."""
    return GatedPixelCnn(model, jnp.dtype(hardware.compute_dtype))


def gate(y_BxHxWxI: jax.Array) -> jax.Array:
    """tanh of the first half of the features, times the sigmoid of the second (equation 2)."""
    value, opening = jnp.split(y_BxHxWxI, 2, -1)
    return jnp.tanh(value) * jax.nn.sigmoid(opening)


class GatedPixelCnn(pixels.PixelNetwork):
    """Gated layers of the image, `width` the paper's p."""

    @nn.nowrap
    def features(self, tokens_BxL: jax.Array, image_BxHxWxC: jax.Array) -> jax.Array:
        model, channels = self.model, self.model.image_shape[-1]
        above = left = image_BxHxWxC
        for layer in range(model.depth + 1):
            gated = GatedLayer(model, layer == 0, self.dtype, name=f"layer_{layer}")
            above, left = gated(above, left, tokens_BxL)

        out = MaskedConv(
            model.width,
            (0, 0),
            (0, 0),
            UNTIL,
            channels,
            ("embed", "mlp"),
            dtype=self.dtype,
            name="out",
        )
        return jax.nn.relu(out(jax.nn.relu(logit_head.from_last_layer(left))))


class GatedLayer(nn.Module):
    """One layer of both stacks (figure 2): of rows `above`, and of what is `left` in the row.

    The first layer reads the image, of which it sees neither the row in `above` nor the pixel's
    own channel in `left`; and it has no residual.
    """

    model: FrozenConfigDict
    first: bool
    dtype: Any

    @nn.compact
    def __call__(
        self, above: jax.Array, left: jax.Array, tokens_BxL: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        width = self.model.width
        reach = (self.model.first_window if self.first else self.model.window) // 2
        inner = ("input" if self.first else "embed", "mlp")
        how: dict[str, Any] = dict(channels=self.model.image_shape[-1], dtype=self.dtype)
        twice: dict[str, Any] = how | dict(axes=inner, copies=2)
        here = (0, 0)
        rows, sides = (-reach, -1 if self.first else 0), (-reach, reach)
        high = MaskedConv(width, rows, sides, ALL, **twice, name="vertical")(above)
        wide = MaskedConv(
            width, here, (-reach, 0), BEFORE if self.first else UNTIL, **twice, name="horizontal"
        )(left)
        how["axes"] = ("mlp", "embed")
        wide += MaskedConv(width, here, here, ALL, copies=2, **how, name="down")(high)
        both = pixels.add_class(self, self.model, tokens_BxL, jnp.concatenate([high, wide], -1))
        high, wide = jnp.split(both, 2, -1)
        scale = 1.0 if self.first else 0.0  # a layer begins as the identity of `left`
        out = MaskedConv(width, here, here, UNTIL, scale=scale, **how, name="out")(gate(wide))
        return gate(high), out if self.first else left + out
