"""PixelCNN (van den Oord et al. 2016a, arXiv 1601.06759, sections 3.3 to 3.5 and table 1).

A masked convolution, residual blocks of masked ones, and two of one pixel, all with ReLU. What is
above and more to the right than the windows climb is never seen: the blind spot, which
`gated_pixelcnn` has not.
"""

import flax.linen as nn
import jax
from jax import numpy as jnp
from ml_collections import ConfigDict, FrozenConfigDict

from research.models import logit_head, pixels
from research.models.masked_conv import BEFORE, UNTIL, MaskedConv

check, positions, default_model = pixels.check_network, pixels.length, pixels.default_model
check_hardware, logits, nats = logit_head.check_hardware, logit_head.logits, logit_head.nats


def build(model: FrozenConfigDict, hardware: ConfigDict) -> "PixelCnn":
    """The module of the family autoregressive."""
    return PixelCnn(model, jnp.dtype(hardware.compute_dtype))


class PixelCnn(pixels.PixelNetwork):
    """Masked convolutions of the image, `width` the paper's 2h."""

    @nn.nowrap
    def features(self, tokens_BxL: jax.Array, image_BxHxWxC: jax.Array) -> jax.Array:
        model, channels = self.model, self.model.image_shape[-1]

        def conv(name, features, window, axes, sees=UNTIL, **how):
            reach = window // 2
            rows, columns = (-reach, 0), (-reach, reach)
            how |= dict(channels=channels, dtype=self.dtype, name=name)
            return MaskedConv(features, rows, columns, sees, axes=axes, **how)

        x = conv("in", model.width, model.first_window, ("input", "embed"), BEFORE)(image_BxHxWxC)
        x = pixels.add_class(self, model, tokens_BxL, x)
        for layer in range(model.depth):
            half, inner = model.width // 2, ("embed", "mlp")
            y = conv(f"down_{layer}", half, 1, inner)(jax.nn.relu(x))
            y = conv(f"masked_{layer}", half, model.window, inner)(jax.nn.relu(y))
            # A block begins as the identity.
            up = conv(f"up_{layer}", model.width, 1, ("mlp", "embed"), scale=0.0)
            x = x + up(jax.nn.relu(y))
        x = logit_head.from_last_layer(x)
        return jax.nn.relu(conv("out", model.width, 1, ("embed", "mlp"))(jax.nn.relu(x)))
