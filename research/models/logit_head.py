"""The head of networks that are no transformers: a table of a row a token, on what they return."""

from typing import Any

import flax.linen as nn
import jax
import optax
from jax import numpy as jnp
from ml_collections import ConfigDict

from research.errors import UserError
from research.mesh import constrain, gathered
from research.models.attention import Where
from research.models.common import Params, parameter
from research.models.numerics import project
from research.parts import Machine


class Stream(nn.Module):
    """Nothing but a name: what it is given is what `common.stream` finds, as of a "stack"."""

    def __call__(self, x: jax.Array) -> tuple[jax.Array]:
        return (x,)


def from_last_layer(x: jax.Array) -> jax.Array:
    """x, which activations are measured at; called in a network after its last layer."""
    return Stream(name="stack")(x)[0]


def declare(module: nn.Module, vocab_size: int, width: int) -> None:
    """Let `module` have the head [V, D]; it starts at zero, so that a network starts uniform."""
    parameter(module, "head", nn.initializers.zeros, ("logits", "embed"), (vocab_size, width))


@jax.named_scope("head")
def logits(config: ConfigDict, params: Params, x_BxLxD: jax.Array) -> jax.Array:
    """Next-token logits [B, L, V], float32, from what the network returns."""
    del config
    head_VxD = gathered(params["head"].astype(x_BxLxD.dtype), ("vocab", "embed"))
    y_BxLxV = constrain(project(x_BxLxD, head_VxD), "batch", "length", "vocab")
    return y_BxLxV.astype(jnp.float32)


def nats(
    config: ConfigDict, params: Params, x_BxLxD: jax.Array, targets_BxL: jax.Array
) -> jax.Array:
    """Nats of each target, [B, L]."""
    y_BxLxV = logits(config, params, x_BxLxD)
    return optax.softmax_cross_entropy_with_integer_labels(y_BxLxV, targets_BxL)


def check_hardware(config: ConfigDict, machine: Machine, remat: bool = False) -> None:
    """Raise UserError for what decoders do alone: chunks of the loss, stages, and often `remat`."""
    hardware = config.hardware
    for key, value, least in (
        ("remat", "none" if remat else hardware.remat, "none"),
        ("loss_chunks", hardware.loss_chunks, 1),
        ("mesh.stage", machine.sizes["stage"], 1),
    ):
        if value != least:
            raise UserError(
                f"config.hardware.{key}={value}: network {config.model.network!r} has {least} only"
            )


def refuse_segments(model: Any, where: Where) -> None:
    """Raise UserError for texts that lie side by side, of which one would see the other."""
    if where.segments is not None:
        raise UserError(
            f"config.model.network={model.network!r} would see from one text into the next; data "
            "with segments need 'decoder'"
        )
