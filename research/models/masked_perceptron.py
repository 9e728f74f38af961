"""A perceptron whose output about a number depends only on numbers before (MADE: Germain 2015)."""

from typing import Any

import flax.linen as nn
import jax
import numpy as np
from ml_collections import ConfigDict, FrozenConfigDict

from research.mesh import constrain, gathered
from research.models import mlp_coder
from research.models.common import ACTIVATIONS, class_vector, parameter
from research.models.conditioners import precise
from research.models.numerics import dot


def default_model() -> dict[str, Any]:
    """Its keys of `config.model`: those of any perceptron."""
    return mlp_coder.default_model()


def check(config: ConfigDict) -> None:
    """Raise UserError for layers that cannot be."""
    mlp_coder.check(config)


class MaskedDense(nn.Module):
    """y [B, O] of x [B, I] by the kernel times a mask [I, O], drawn as if it were whole."""

    mask: Any  # tuples, so that modules can be compared
    axes: tuple[str, str]
    scale: float
    dtype: Any

    @nn.compact
    def __call__(self, x_BxI: jax.Array) -> jax.Array:
        mask = np.array(self.mask, np.float32)
        std = self.scale * mask.shape[0] ** -0.5
        initializer = nn.initializers.normal(std) if std else nn.initializers.zeros
        kernel = parameter(self, "kernel", initializer, self.axes, mask.shape)
        bias = parameter(self, "bias", nn.initializers.zeros, self.axes[1:], mask.shape[1:])
        kernel = gathered((kernel * mask).astype(self.dtype), self.axes)
        return dot(x_BxI.astype(self.dtype), kernel) + bias.astype(self.dtype)


class MaskedPerceptron(nn.Module):
    """[B, D, numbers] of x [B, D], zero at the start; a hidden unit knows the first few numbers.

    Inputs reach the outputs directly, too, so that a linear map needs no hidden unit.
    """

    model: FrozenConfigDict
    dtype: Any
    numbers: int

    @nn.compact
    def __call__(self, x_BxD: jax.Array, label_B: jax.Array | None = None) -> jax.Array:
        model, dims = self.model, x_BxD.shape[-1]
        inputs = np.arange(1, dims + 1)  # the number of an input; a unit knows up to its own
        units = 1 + np.arange(model.width) % max(1, dims - 1)
        outputs = np.repeat(inputs - 1, self.numbers)  # what an output may know

        def dense(name, x, reads, writes, axes, scale):
            mask = tuple(map(tuple, (reads[:, None] <= writes).tolist()))
            return MaskedDense(mask, axes, scale, self.dtype, name=name)(x)

        x, reads = x_BxD, inputs
        for layer in range(model.depth):
            axes = ("input", "embed") if layer == 0 else ("embed", "mlp")
            x = dense(f"hidden_{layer}", x, reads, units, axes, 2**0.5)
            if layer == 0 and label_B is not None:
                x += class_vector(self, label_B, model.num_classes, model.width, self.dtype)
            x, reads = constrain(ACTIVATIONS[model.activation](x), "batch", None), units
        y = dense("last", x, reads, outputs, ("embed", "output"), 0.0)
        y += dense("direct", x_BxD, inputs, outputs, ("input", "output"), 0.0)
        return precise(y).reshape(len(y), dims, self.numbers)
