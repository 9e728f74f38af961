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
    ratio_B: Any = None
    groups_BxG: Any = None
    shift_BxHxWxC: Any = None
    posterior: Any = None


def active_units(shift_BxHxWxC: Array) -> Array:
    """How many numbers of the latent the posterior's mean moves (Burda et al. 2016, section 5.2).

    A unit is active where the variance of its mean over the images is above 0.01.
    """
    return jnp.sum(shift_BxHxWxC.var(0) > 0.01).astype(jnp.float32)


def usage(code_BxHxW: Array, symbols: int) -> Array:
    """The share of the batch's places that has each code, [V]."""
    return jnp.zeros(symbols).at[code_BxHxW.reshape(-1)].add(1 / code_BxHxW.size)


def perplexity(share_V: Array) -> Array:
    """exp of the entropy of a distribution: as many codes, used evenly, would have it."""
    return jnp.exp(-jnp.sum(share_V * jnp.log(jnp.maximum(share_V, 1e-30))))
