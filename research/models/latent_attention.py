"""The mixer "latent": keys and values of all heads from one small latent (DeepSeek-AI 2024, MLA).

A position leaves behind a latent c and one key r that carries its place, nothing a head. Trained,
every head has its keys W_k c and its values W_v c (DeepSeek-V2, equations 9 to 19). From a cache it
is one shared key [c, r]: W_k is taken into the queries and W_v into the output ("absorbed"), so no
keys and values of past positions are ever made again.
"""

from typing import Any

import flax.linen as nn
import jax
from jax import numpy as jnp
from ml_collections import ConfigDict, FrozenConfigDict

from research.errors import UserError
from research.mesh import constrain, gathered
from research.models import attention, attention_cache
from research.models.attention import IN_ORDER, Where, attend, attended, turned
from research.models.common import Dense, Norm, parameter, residual_map

PARTS = attention.PARTS
NARROW = True  # its cache may be
check_hardware = attention.check_hardware


def default_model() -> dict[str, Any]:
    """Its keys of `config.model`; 0 stands for DeepSeek-V2's multiple of width / num_heads."""
    return attention.shared_keys() | dict(
        latent_dim=0,  # of keys and values; 4 times
        query_latent_dim=0,  # of queries; 0: they come from the stream itself
        nope_dim=0,  # features of a head's key that do not turn; once
        rotary_dim=0,  # of the key that all heads share and that turns; half
        value_dim=0,  # of a head's value; once
    )


def check(config: ConfigDict) -> None:
    """Raise UserError for heads or latents that cannot be."""
    model = config.model
    attention.check_heads(config)
    for key in ("latent_dim", "query_latent_dim", "nope_dim", "rotary_dim", "value_dim"):
        if model[key] < 0:
            raise UserError(f"config.model.{key}={model[key]} must not be negative")
    if model.positions == "rotary" and sizes(model)[2] % 2:
        raise UserError(
            f"config.model.rotary_dim={sizes(model)[2]} must be even, for pairs that turn"
        )


def sizes(model: Any) -> tuple[int, int, int, int]:
    """Features of the latent, of what of a key does not turn, of what does, and of a value."""
    head = model.width // model.num_heads
    return (
        model.latent_dim or 4 * head,
        model.nope_dim or head,
        model.rotary_dim or max(2, head // 2),
        model.value_dim or head,
    )


def empty_cache(model: Any, batch: int, length: int, dtype: Any) -> attention_cache.Cache:
    """Room for a latent and a turned key a position, for all heads together."""
    latent, _, turning, _ = sizes(model)
    kept = {"latent": (1, latent + turning)}
    return attention_cache.empty(kept, batch, length, attention.back(model), dtype)


class LatentAttention(nn.Module):
    """x [B, L, D] to [B, L, D]; with a cache as `attention.Attention`, the weights absorbed."""

    model: FrozenConfigDict
    causal: bool
    kernel: str
    dtype: Any

    @nn.compact
    def __call__(
        self, x_BxLxD: jax.Array, where: Where = IN_ORDER, cache: Any = None
    ) -> tuple[jax.Array, Any]:
        model, heads = self.model, self.model.num_heads
        batch, length, width = x_BxLxD.shape
        latent, nope, turning, value = sizes(model)
        q_BxLxD = x_BxLxD
        if model.query_latent_dim:
            q_BxLxD = self._dense(model.query_latent_dim, "latent", "query_down")(x_BxLxD)
            q_BxLxD = self._norm("query_latent_norm")(q_BxLxD)
        axes = ("latent" if model.query_latent_dim else "embed", "heads", None)
        up = Dense((heads, nope + turning), axes, dtype=self.dtype, name="query")
        q_BxHxLxK = up(q_BxLxD).swapaxes(1, 2)
        q_BxHxLxK = constrain(q_BxHxLxK, "batch", "heads", "length", None)
        down = self._dense(latent + turning, "latent", "key_value_down")(x_BxLxD)
        c_BxLxC, r_BxLxK = jnp.split(down, [latent], -1)
        c_BxLxC = self._norm("latent_norm")(c_BxLxC)
        if model.qk_norm:
            q_BxHxLxK = self._norm("query_norm")(q_BxHxLxK)
        (r_Bx1xLxK,) = turned(model, where, r_BxLxK[:, None])
        q_nope, q_turning = jnp.split(q_BxHxLxK, [nope], -1)
        (q_turning,) = turned(model, where, q_turning)
        w_k_CxHxK, w_v_CxHxV = self._up("key", nope), self._up("value", value)
        if cache is None:
            k_BxHxLxK = jnp.einsum("blc,chk->bhlk", c_BxLxC, w_k_CxHxK)
            v_BxHxLxV = jnp.einsum("blc,chv->bhlv", c_BxLxC, w_v_CxHxV)
            shared = jnp.broadcast_to(r_Bx1xLxK, (batch, heads, length, turning))
            q = jnp.concatenate([q_nope, q_turning], -1)
            k = jnp.concatenate([k_BxHxLxK, shared], -1)
            y_BxHxLxV, _ = attend(model, self.causal, self.kernel, q, k, v_BxHxLxV, where)
        else:
            new = {"latent": jnp.concatenate([c_BxLxC[:, None], r_Bx1xLxK], -1)}
            q = jnp.einsum("bhlk,chk->blhc", q_nope, w_k_CxHxK)
            q = jnp.concatenate([q, q_turning.swapaxes(1, 2)], -1)
            # Scores are scaled by the root of a key's features, which here are others.
            q *= ((latent + turning) / (nope + turning)) ** 0.5
            q_Bx1xRxC = q.reshape(batch, 1, length * heads, latent + turning)

            def attend_to(seen, at):
                k_Bx1xSxC = seen["latent"]
                given = q_Bx1xRxC, k_Bx1xSxC, k_Bx1xSxC[..., :latent], where, at
                return attend(model, self.causal, self.kernel, *given)[0]

            y, cache = attended(cache, where, new, attend_to)
            y_BxLxHxC = y.reshape(batch, length, heads, latent)
            y_BxHxLxV = jnp.einsum("blhc,chv->bhlv", y_BxLxHxC, w_v_CxHxV)
        y_BxLxO = y_BxHxLxV.swapaxes(1, 2).reshape(batch, length, heads * value)
        return residual_map(model, width, self.dtype)(y_BxLxO), cache

    def _dense(self, features: int, axis: str, name: str) -> Dense:
        return Dense((features,), ("embed", axis), dtype=self.dtype, name=name)

    def _norm(self, name: str) -> Norm:
        return Norm("rmsnorm", epsilon=self.model.norm_epsilon, name=name)

    def _up(self, name: str, features: int) -> jax.Array:
        """A map from the latent to each head, [C, H, features]."""
        latent, axes = sizes(self.model)[0], ("latent", "heads", None)
        normal = nn.initializers.normal(latent**-0.5)
        kernel = parameter(self, name, normal, axes, (latent, self.model.num_heads, features))
        return gathered(kernel.astype(self.dtype), axes)


def build(model: FrozenConfigDict, causal: bool, kernel: str, dtype: Any) -> LatentAttention:
    """The mixer of one block, named "attention" there."""
    return LatentAttention(model, causal, kernel, dtype, name="attention")
