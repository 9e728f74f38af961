"""PixelRNN of Row LSTMs (van den Oord et al. 2016a, arXiv 1601.06759, section 3.1, equation 3).

A row at a time from the top: the gates of a pixel see a window to its left by a masked convolution,
all rows at once, and the state of the row above by another along it, row after row. What is seen is
a triangle above; outside of it is a blind spot, as in `pixelcnn`.
"""

from typing import Any

import flax.linen as nn
import jax
from jax import numpy as jnp
from ml_collections import ConfigDict, FrozenConfigDict

from research.mesh import gathered
from research.models import logit_head, pixels
from research.models.common import parameter
from research.models.masked_conv import BEFORE, UNTIL, MaskedConv
from research.models.numerics import conv

check, positions, default_model = pixels.check_network, pixels.length, pixels.default_model
check_hardware, logits, nats = logit_head.check_hardware, logit_head.logits, logit_head.nats


def build(model: FrozenConfigDict, hardware: ConfigDict) -> "PixelRnn":
    """The module of the family autoregressive."""
    return PixelRnn(model, jnp.dtype(hardware.compute_dtype))


class PixelRnn(pixels.PixelNetwork):
    """Row LSTMs of the image, `width` the paper's 2h."""

    @nn.nowrap
    def features(self, tokens_BxL: jax.Array, image_BxHxWxC: jax.Array) -> jax.Array:
        model, channels = self.model, self.model.image_shape[-1]
        reach, here = model.first_window // 2, (0, 0)
        how: dict[str, Any] = dict(channels=channels, dtype=self.dtype)
        axes = ("input", "embed")
        window: Any = ((-reach, 0), (-reach, reach), BEFORE)
        x = MaskedConv(model.width, *window, axes=axes, **how, name="in")(image_BxHxWxC)
        x = pixels.add_class(self, model, tokens_BxL, x)
        for layer in range(model.depth):
            y = RowLstm(model.width // 2, model.window, **how, name=f"rows_{layer}")(x)
            how_up: dict[str, Any] = how | dict(
                axes=("mlp", "embed"), scale=0.0, name=f"up_{layer}"
            )
            x = x + MaskedConv(model.width, here, here, UNTIL, **how_up)(y)
        x, how["axes"] = logit_head.from_last_layer(x), ("embed", "mlp")
        x = MaskedConv(model.width, here, here, UNTIL, **how, name="out")(jax.nn.relu(x))
        return jax.nn.relu(x)


class RowLstm(nn.Module):
    """The states [B, H, W, features] of a long short-term memory that goes down the rows of x."""

    features: int
    window: int
    channels: int
    dtype: Any

    @nn.compact
    def __call__(self, x_BxHxWxI: jax.Array) -> jax.Array:
        features, reach = self.features, self.window // 2
        how: dict[str, Any] = dict(channels=self.channels, axes=("embed", "mlp"))
        seen = MaskedConv(
            features, (0, 0), (-reach, 0), UNTIL, **how, copies=4, dtype=self.dtype, name="input"
        )(x_BxHxWxI)
        shape, axes = (self.window, features, 4 * features), (None, "embed", "mlp")
        normal = nn.initializers.normal((self.window * features) ** -0.5)
        kernel = parameter(self, "state", normal, axes, shape)
        kernel = gathered(kernel.astype(self.dtype), axes)

        def row(carry, seen_BxWxI):
            state_BxWxI, memory_BxWxI = carry
            gates = jnp.split(seen_BxWxI + conv(state_BxWxI, kernel, (1,)), 4, -1)
            output, forget, entry = (jax.nn.sigmoid(each) for each in gates[:3])
            memory_BxWxI = forget * memory_BxWxI + entry * jnp.tanh(gates[3])
            state_BxWxI = output * jnp.tanh(memory_BxWxI)
            return (state_BxWxI, memory_BxWxI), state_BxWxI

        nothing = jnp.zeros_like(seen[:, 0, :, :features])
        _, states = jax.lax.scan(row, (nothing, nothing), jnp.moveaxis(seen, 1, 0))
        return jnp.moveaxis(states, 0, 1)
