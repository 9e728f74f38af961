"""What a bottleneck makes of what an encoder says of a batch."""

from typing import Any, NamedTuple

from jax import Array
from jax import numpy as jnp


class Coded(NamedTuple):
    """A batch behind the bottleneck.

    Attributes:
        read_BxHxWxC: what the decoder reads; gradients pass to the encoder.
        latent_BxHxWxC: what it is made of, which a model of latents learns.
        nats_B: what the latent of an image costs in the bound.
        cost_B: what it costs in training, in nats.
        density_B: E log q(latent | image), nats; 0 where an image has one latent.
        code_BxHxW: numbers of the codes; None where there are none.
        found: statistics of the batch, which add up over examples, for parameters that no gradient
            moves.
    """

    read_BxHxWxC: Array
    latent_BxHxWxC: Array
    nats_B: Array
    cost_B: Array
    density_B: Array
    code_BxHxW: Array | None = None
    found: dict[str, Any] = {}


def usage(code_BxHxW: Array, symbols: int) -> Array:
    """The share of the batch's places that has each code, [V]."""
    return jnp.zeros(symbols).at[code_BxHxW.reshape(-1)].add(1 / code_BxHxW.size)


def perplexity(share_V: Array) -> Array:
    """exp of the entropy of a distribution: as many codes, used evenly, would have it."""
    return jnp.exp(-jnp.sum(share_V * jnp.log(jnp.maximum(share_V, 1e-30))))
