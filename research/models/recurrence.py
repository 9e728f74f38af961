"""What mixers that carry a state from position to position share: its texts, taps and decay.

Of `attention.Where` they read two things. A negative position is padding before a prompt: it leaves
the state as it was, and no convolution sees it. Where segments change, the state begins anew and
a convolution reaches no further back; a cache then has no place.
"""

from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jax import numpy as jnp
from ml_collections import ConfigDict, FrozenConfigDict

from research.errors import UserError
from research.models.attention import IN_ORDER, Where
from research.models.common import parameter


def check_heads(config: ConfigDict, features: int = 1) -> None:
    """Raise UserError unless `model.num_heads` divides `features` times the width."""
    heads, width = config.model.num_heads, features * config.model.width
    if heads < 1:
        raise UserError(f"config.model.num_heads={heads} must be at least 1")
    if width % heads:
        near = min((h for h in range(1, width + 1) if width % h == 0), key=lambda h: abs(h - heads))
        raise UserError(
            f"config.model.num_heads={heads} does not divide the {width} features of a position; "
            f"nearest valid: {near}"
        )


def check_window(config: ConfigDict) -> None:
    """Raise UserError for a convolution that has not even the tap of a position's own."""
    if config.model.conv_window < 1:
        raise UserError(f"config.model.conv_window={config.model.conv_window} must be at least 1")


def real(where: Where) -> jax.Array | None:
    """Whether a position is one, not padding: [B, L] or [1, L]; None where all are."""
    if where.positions is None:
        return None
    return jnp.atleast_2d(where.positions) >= 0


def runs(where: Where) -> jax.Array | None:
    """Which text of the example a position is in, [B, L], counted from 0; None: all in one."""
    if where.segments is None:
        return None
    changes = where.segments[:, 1:] != where.segments[:, :-1]
    return jnp.pad(jnp.cumsum(changes, 1), ((0, 0), (1, 0)))


def masked(x: jax.Array, mask: jax.Array | None) -> jax.Array:
    """x [B, L, ...] where the mask [B or 1, L] says so, else 0."""
    return x if mask is None else x * mask.reshape(*mask.shape, *[1] * (x.ndim - 2)).astype(x.dtype)


class CausalConvolution(nn.Module):
    """Each feature of x [B, L, ...] by itself, with `window` taps: a position and those before it.

    A sum of shifted arrays, which XLA fuses, and which can stop where a text begins. As all that is
    done element by element, it counts no FLOPs: 2 `window` a feature, against 2 D of a product.
    With the taps before, [B, window - 1, ...], x goes on from there; the next ones are returned.
    """

    window: int
    axes: tuple[str | None, ...]
    dtype: Any

    @nn.compact
    def __call__(
        self, x: jax.Array, where: Where = IN_ORDER, before: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array]:
        window, length, run = self.window, x.shape[1], runs(where)
        normal = nn.initializers.normal(window**-0.5)
        shape = (window, *x.shape[2:])
        kernel = parameter(self, "kernel", normal, (None, *self.axes), shape).astype(self.dtype)
        x = masked(x.astype(self.dtype), real(where))
        if before is None:
            before = jnp.zeros((len(x), window - 1, *x.shape[2:]), self.dtype)
        long = jnp.concatenate([before, x], 1)
        y = jnp.zeros_like(x)
        for back in range(window):
            first = window - 1 - back
            there = long[:, first : first + length]
            if run is not None and back:
                same = run == jnp.pad(run, ((0, 0), (back, 0)), constant_values=-1)[:, :length]
                there = masked(there, same)
            y += kernel[first] * there
        return y, long[:, length:]


def step_and_decay(module: nn.Module, wide_BxLxN: jax.Array) -> tuple[jax.Array, jax.Array]:
    """How long a position lasts for each head, and the log of what its state keeps, [B, L, N].

    Steps begin between 0.001 and 0.1 and rates between 1 and 16, spread over heads (Dao & Gu 2024,
    as in Mamba; section 7 and their code), so that memories of many lengths are there at first.
    """

    def rates(key, shape):
        return jnp.log(jax.random.uniform(key, shape, minval=1.0, maxval=16.0))

    def steps(key, shape):
        low, high = np.log(0.001), np.log(0.1)
        step = jnp.exp(jax.random.uniform(key, shape, minval=low, maxval=high))
        return step + jnp.log(-jnp.expm1(-step))  # the inverse of softplus

    heads = wide_BxLxN.shape[-1:]
    log_rate = parameter(module, "log_rate", rates, ("mlp",), heads)
    bias = parameter(module, "step_bias", steps, ("mlp",), heads)
    step = jax.nn.softplus(wide_BxLxN.astype(jnp.float32) + bias)
    return step, -jnp.exp(log_rate) * step


class BothWays(nn.Module):
    """For a network that is not causal: one mixer forwards and another backwards, summed."""

    mixer: Any
    model: FrozenConfigDict
    dtype: Any

    @nn.compact
    def __call__(
        self, x_BxLxD: jax.Array, where: Where = IN_ORDER, cache: None = None
    ) -> tuple[jax.Array, None]:
        turned = Where(*(None if each is None else each[..., ::-1] for each in where))
        forwards, _ = self.mixer(self.model, self.dtype, name="forwards")(x_BxLxD, where)
        backwards = self.mixer(self.model, self.dtype, name="backwards")
        return forwards + backwards(x_BxLxD[:, ::-1], turned)[0][:, ::-1], cache


def directed(mixer: Any, model: FrozenConfigDict, causal: bool, dtype: Any, name: str) -> nn.Module:
    """The module of a block: `mixer` where it is causal, one each way where it is not."""
    if causal:
        return mixer(model, dtype, name=name)
    return BothWays(mixer, model, dtype, name=name)
