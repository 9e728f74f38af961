"""WaveNet (van den Oord et al. 2016c, arXiv 1609.03499, sections 2.1, 2.3 and 2.4).

Causal convolutions whose taps lie 1, 2, 4, ... positions apart, cycle after cycle, with gated
units, residuals, and skip connections that are summed. It sees 1 + (taps - 1) x the sum of these
distances positions. In sampling each layer keeps what it will still read (Le Paine et al. 2016).
"""

from typing import Any

import flax.linen as nn
import jax
from jax import numpy as jnp
from ml_collections import ConfigDict, FrozenConfigDict
from ml_collections.config_dict import placeholder

from research import config as configs
from research.errors import UserError
from research.mesh import constrain
from research.models import logit_head, pixels
from research.models.attention import IN_ORDER, Where
from research.models.common import Dense, look_up, parameter

positions = pixels.length
check_hardware, logits, nats = logit_head.check_hardware, logit_head.logits, logit_head.nats
RANGES: dict[str, tuple[float, float]] = {
    "width": (1, 2**31),
    "taps": (2, 2**31),
    "cycle": (1, 31),
    "cycles": (1, 2**31),
}


def default_model() -> dict[str, Any]:
    """Keys of `config.model`: `cycles` times `cycle` layers, 1 to 2^(cycle - 1) apart."""
    return dict(width=placeholder(int), taps=2, cycle=10, cycles=1)


def check(config: ConfigDict) -> None:
    """Raise UserError for layers that cannot be built, or classes, which it is not given."""
    configs.check_ranges(config.model, "config.model", RANGES)
    if config.model.num_classes:
        raise UserError(
            f"config.model.num_classes={config.model.num_classes} must be 0: network 'wavenet' is "
            "given no class"
        )


def dilations(model: Any) -> list[int]:
    """How far apart the taps of each layer are."""
    return [2**layer for layer in range(model.cycle)] * model.cycles


def receptive_field(model: Any) -> int:
    """Positions that a prediction sees, its own among them."""
    return 1 + (model.taps - 1) * sum(dilations(model))


def build(model: FrozenConfigDict, hardware: ConfigDict) -> "WaveNet":
    """The module of the family autoregressive."""
    return WaveNet(model, jnp.dtype(hardware.compute_dtype))


def empty_cache(
    model: Any, hardware: Any, batch: int, length: int, dtype: Any = None, padding: int = 0
) -> list[jax.Array]:
    """What each layer was given last, as far back as its taps reach, [B, S, D]: zeros at first."""
    del length, padding
    dtype, reach = dtype or jnp.dtype(hardware.compute_dtype), model.taps - 1
    return [jnp.zeros((batch, reach * apart, model.width), dtype) for apart in dilations(model)]


class WaveNet(nn.Module):
    """What the head reads, [B, L, D], from int tokens [B, L].

    Given a cache (`empty_cache`), the tokens are those after all that it has seen, and the next
    cache is returned too.
    """

    model: FrozenConfigDict
    dtype: Any

    @nn.compact
    def __call__(
        self,
        tokens_BxL: jax.Array,
        where: Where = IN_ORDER,
        cache: list[jax.Array] | None = None,
    ) -> tuple[jax.Array, dict[str, jax.Array], list[jax.Array] | None]:
        logit_head.refuse_segments(self.model, where)
        model, width, length = self.model, self.model.width, tokens_BxL.shape[1]
        shape, normal = (model.vocab_size, width), nn.initializers.normal(1.0)
        embedding_VxD = parameter(self, "embedding", normal, ("vocab", "embed"), shape)
        x_BxLxD = look_up(embedding_VxD, tokens_BxL, self.dtype)
        summed_BxLxD, kept = jnp.zeros_like(x_BxLxD), []
        for layer, apart in enumerate(dilations(model)):
            reach = (model.taps - 1) * apart
            if cache is not None:  # padding before a text is as what is before its first
                x_BxLxD *= (where.positions >= 0)[..., None]
            past = jnp.zeros_like(x_BxLxD, shape=(len(x_BxLxD), reach, width))
            line = jnp.concatenate([past if cache is None else cache[layer], x_BxLxD], 1)
            kept.append(line[:, length:])
            taps = [line[:, tap * apart :][:, :length] for tap in range(model.taps)]
            scale = len(dilations(model)) ** -0.5  # as many are summed
            gated = Gated(width, scale, self.dtype, name=f"layer_{layer}")
            x_BxLxD, skip_BxLxD = gated(taps)
            summed_BxLxD += skip_BxLxD
        out = Dense((width,), ("embed", "mlp"), True, dtype=self.dtype, name="out")
        summed_BxLxD = logit_head.from_last_layer(summed_BxLxD)
        x_BxLxD = jax.nn.relu(out(jax.nn.relu(summed_BxLxD)))
        logit_head.declare(self, model.vocab_size, width)
        x_BxLxD = constrain(x_BxLxD, "batch", "length", None)
        return x_BxLxD, {}, None if cache is None else kept


class Gated(nn.Module):
    """Of taps [B, L, D], oldest first: the next layer's x [B, L, D] and the skip connection."""

    width: int
    scale: float
    dtype: Any

    @nn.compact
    def __call__(self, taps: list[jax.Array]) -> tuple[jax.Array, jax.Array]:
        how: dict[str, Any] = dict(bias=True, dtype=self.dtype)
        taps_BxLxI = jnp.concatenate(taps, -1)  # one product for all taps of the kernel
        gates = Dense((2, self.width), ("embed", None, "mlp"), **how, name="gates")(taps_BxLxI)
        inner_BxLxD = jnp.tanh(gates[..., 0, :]) * jax.nn.sigmoid(gates[..., 1, :])
        how["scale"] = self.scale
        both = Dense((2, self.width), ("mlp", None, "embed"), **how, name="out")(inner_BxLxD)
        return taps[-1] + both[..., 0, :], both[..., 1, :]
