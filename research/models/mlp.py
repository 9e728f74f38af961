"""The channel part "mlp": a two-layer perceptron."""

from typing import Any

import flax.linen as nn
import jax
from ml_collections import ConfigDict, FrozenConfigDict

from research.errors import UserError
from research.mesh import constrain
from research.models.common import ACTIVATIONS, GATED, Dense, activate, residual_map
from research.parts import check_choice


def default_model() -> dict[str, Any]:
    """Its keys of `config.model`."""
    return dict(mlp_ratio=4.0, activation="relu2")


def check(config: ConfigDict) -> None:
    """Raise UserError, naming the key, for a hidden layer that cannot be."""
    model = config.model
    if model.mlp_ratio <= 0:
        raise UserError(f"config.model.mlp_ratio={model.mlp_ratio} must be positive")
    if round(model.width * model.mlp_ratio) < 1:
        raise UserError(
            f"config.model.mlp_ratio={model.mlp_ratio} x width={model.width} leaves no hidden unit"
        )
    check_choice("model.activation", model.activation, ACTIVATIONS)


class MLP(nn.Module):
    """x [..., D] through one hidden layer, gated where the activation is one of `GATED`.

    It measures nothing, keeps nothing in a cache and asks for no positions.
    """

    model: FrozenConfigDict
    dtype: Any

    @nn.compact
    def __call__(
        self, x_BxLxD: jax.Array, cache: Any = None, positions: Any = None
    ) -> tuple[jax.Array, dict[str, jax.Array], Any]:
        model, width = self.model, x_BxLxD.shape[-1]
        hidden = (round(width * model.mlp_ratio),)

        def up(name):
            y = Dense(hidden, ("embed", "mlp"), model.bias, dtype=self.dtype, name=name)(x_BxLxD)
            return constrain(y, "batch", "length", "mlp")

        gate_BxLxF = up("gate") if model.activation in GATED else None
        y_BxLxF = activate(model.activation, up("up"), gate_BxLxF)
        down = residual_map(model, width, self.dtype, "mlp", "down")
        return down(y_BxLxF), {}, cache


def build(model: FrozenConfigDict, dtype: Any) -> MLP:
    """The channel part of one block, named "mlp" there."""
    return MLP(model, dtype, name="mlp")
