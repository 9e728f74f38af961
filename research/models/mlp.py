"""The channel part "mlp": a two-layer perceptron, or a mixture of them where there are experts."""

from typing import Any

import flax.linen as nn
import jax
from ml_collections import ConfigDict, FrozenConfigDict

from research.errors import UserError
from research.mesh import constrain
from research.models import moe
from research.models.common import ACTIVATIONS, Dense, activate
from research.parts import check_choice


def default_model() -> dict[str, Any]:
    """Its keys of `config.model`."""
    return dict(mlp_ratio=4.0, activation="relu2") | moe.default_model()


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
    moe.check(model)


class MLP(nn.Module):
    """x [..., D] through one hidden layer; `swiglu` gates it. It measures and caches nothing."""

    model: FrozenConfigDict
    dtype: Any

    @nn.compact
    def __call__(
        self, x_BxLxD: jax.Array, cache: Any = None
    ) -> tuple[jax.Array, dict[str, jax.Array], Any]:
        model, width = self.model, x_BxLxD.shape[-1]
        hidden = (round(width * model.mlp_ratio),)

        def up(name):
            y = Dense(hidden, ("embed", "mlp"), model.bias, dtype=self.dtype, name=name)(x_BxLxD)
            return constrain(y, "batch", "length", "mlp")

        gate_BxLxF = up("gate") if model.activation == "swiglu" else None
        y_BxLxF = activate(model.activation, up("up"), gate_BxLxF)
        scale = (2 * model.depth) ** -0.5
        down = Dense((width,), ("mlp", "embed"), model.bias, scale, self.dtype, name="down")
        return down(y_BxLxF), {}, cache


def build(model: FrozenConfigDict, dtype: Any) -> nn.Module:
    """The channel part of one block, named "mlp" there."""
    return (moe.MoE if model.num_experts else MLP)(model, dtype, name="mlp")


def empty_cache(model: Any, batch: int, length: int) -> Any:
    """What a later position needs of those before it: how full they left the experts."""
    return moe.empty_cache(model, batch, length) if model.num_experts else None


def penalty(model: Any, measures: dict[str, jax.Array]) -> Any:
    """What it adds to a training loss: the price of uneven routing, where there are experts."""
    return moe.penalty(model, measures) if model.num_experts else 0.0
