"""The mixer "lstm": long short-term memory (Hochreiter & Schmidhuber 1997), the baseline of old.

With the forget gate of Gers, Schmidhuber & Cummins (2000), which begins open by a bias of 1
(Jozefowicz, Zaremba & Sutskever 2015). It has as many cells as the stream is wide.
"""

from typing import Any

import flax.linen as nn
import jax
from jax import lax
from jax import numpy as jnp
from ml_collections import FrozenConfigDict

from research.mesh import constrain, gathered
from research.models.attention import IN_ORDER, Where
from research.models.common import Dense, parameter, residual_map
from research.models.numerics import dot
from research.models.recurrence import directed, real, runs

FORGET_BIAS = 1.0


def empty_cache(model: Any, batch: int, length: int, dtype: Any) -> dict[str, jax.Array]:
    """The state before the first position, whatever the length."""
    shape = (batch, model.width)
    return {"hidden": jnp.zeros(shape, dtype), "cell": jnp.zeros(shape, jnp.float32)}


class LSTM(nn.Module):
    """x [B, L, D] to [B, L, D]: one product for the four gates of all positions, then a scan.

    With a cache (`empty_cache`) x are the next L positions. Returns the cache too, None without.
    """

    model: FrozenConfigDict
    dtype: Any

    @nn.compact
    def __call__(
        self, x_BxLxD: jax.Array, where: Where = IN_ORDER, cache: Any = None
    ) -> tuple[jax.Array, Any]:
        batch, _, width = x_BxLxD.shape
        axes, features = ("embed", None, "mlp"), (4, width)
        gates = Dense(features, axes, True, dtype=self.dtype, name="input")(x_BxLxD)
        gates_BxLx4xD = constrain(gates, "batch", None, None, "mlp")
        normal = nn.initializers.normal(width**-0.5)
        kernel = parameter(self, "recurrent", normal, axes, (width, *features))
        kernel_Dx4D = gathered(kernel.astype(self.dtype), axes).reshape(width, -1)
        run, kept = runs(where), real(where)
        first = None if run is None else jnp.diff(run, axis=1, prepend=0) > 0

        def step(state: dict, here: tuple) -> tuple[dict, jax.Array]:
            gates, first, kept = here
            old = state
            if first is not None:
                old = {name: jnp.where(first[:, None], 0, x) for name, x in old.items()}
            gates = gates + jnp.reshape(dot(old["hidden"], kernel_Dx4D), gates.shape)
            ahead, admit, forget, show = jnp.moveaxis(gates.astype(jnp.float32), 1, 0)
            forgotten = jax.nn.sigmoid(forget + FORGET_BIAS) * old["cell"]
            cell = forgotten + jax.nn.sigmoid(admit) * jnp.tanh(ahead)
            hidden = (jax.nn.sigmoid(show) * jnp.tanh(cell)).astype(self.dtype)
            new = {"hidden": hidden, "cell": cell}
            if kept is not None:
                new = {name: jnp.where(kept[:, None], new[name], old[name]) for name in new}
            return new, hidden

        by_position = jax.tree.map(lambda x: x.swapaxes(0, 1), (gates_BxLx4xD, first, kept))
        state = empty_cache(self.model, batch, 0, self.dtype) if cache is None else cache
        state, hidden_LxBxD = lax.scan(step, state, by_position)
        y_BxLxD = constrain(hidden_LxBxD.swapaxes(0, 1), "batch", None, "mlp")
        out = residual_map(self.model, width, self.dtype, "mlp")
        return out(y_BxLxD), None if cache is None else state


def build(model: FrozenConfigDict, causal: bool, kernel: str, dtype: Any) -> nn.Module:
    """The mixer of one block."""
    return directed(LSTM, model, causal, dtype, "lstm")
