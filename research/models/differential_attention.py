"""The mixer "differential": a difference of two softmaxes, so that noise cancels (Ye et al. 2025).

Two heads make one (arXiv 2410.05258, equations 1 to 3): each has its queries and keys, they share a
value twice as wide, and the second's weights are taken off the first's `lambda` times.
"""

from typing import Any

import flax.linen as nn
import jax
from jax import numpy as jnp
from ml_collections import ConfigDict, FrozenConfigDict

from research.errors import UserError
from research.mesh import constrain
from research.models import attention, attention_cache
from research.models.attention import IN_ORDER, Where, attend, attended, turned
from research.models.common import Dense, Norm, parameter, residual_map

PARTS = attention.PARTS
NARROW = True  # its cache may be
check_hardware = attention.check_hardware
# Where lambda starts. The paper's grows with the layer's number, from .2 to .8; its ablation
# (table 6) finds a constant .8 as good.
START = 0.8


def default_model() -> dict[str, Any]:
    """Its keys of `config.model`."""
    return attention.shared_keys()


def check(config: ConfigDict) -> None:
    """Raise UserError for heads that make no pairs."""
    attention.check_heads(config)
    if config.model.num_heads % 2:
        raise UserError(
            f"config.model.num_heads={config.model.num_heads} must be even: two heads make one of "
            "config.model.mixer='differential'"
        )


def empty_cache(model: Any, batch: int, length: int, dtype: Any) -> attention_cache.Cache:
    """Room for two keys and a wide value of each pair of heads."""
    pairs, head_dim = model.num_heads // 2, model.width // model.num_heads
    kept = dict.fromkeys(("first", "second"), (pairs, head_dim)) | {"value": (pairs, 2 * head_dim)}
    return attention_cache.empty(kept, batch, length, attention.back(model), dtype)


class DifferentialAttention(nn.Module):
    """x [B, L, D] to [B, L, D]; with a cache as `attention.Attention`."""

    model: FrozenConfigDict
    causal: bool
    kernel: str
    dtype: Any

    @nn.compact
    def __call__(
        self, x_BxLxD: jax.Array, where: Where = IN_ORDER, cache: Any = None
    ) -> tuple[jax.Array, Any]:
        model = self.model
        batch, length, width = x_BxLxD.shape
        pairs, head_dim = model.num_heads // 2, width // model.num_heads
        axes = ("embed", "heads", None, "head_dim")
        qkv = Dense((pairs, 6, head_dim), axes, model.bias, dtype=self.dtype, name="qkv")(x_BxLxD)
        qkv = constrain(qkv, "batch", "length", "heads", None, None).swapaxes(1, 2)
        q_BxNxLx2xK, k_BxNxLx2xK, v_BxNxLx2xK = jnp.split(qkv, 3, 3)
        v_BxNxLxV = v_BxNxLx2xK.reshape(batch, pairs, length, 2 * head_dim)
        if model.qk_norm:
            q_BxNxLx2xK = Norm("rmsnorm", name="query_norm")(q_BxNxLx2xK)
            k_BxNxLx2xK = Norm("rmsnorm", name="key_norm")(k_BxNxLx2xK)
        queries = turned(model, where, *(q_BxNxLx2xK[..., i, :] for i in range(2)))
        first, second = turned(model, where, *(k_BxNxLx2xK[..., i, :] for i in range(2)))

        def attend_to(seen, at):
            return [
                attend(model, self.causal, self.kernel, q, seen[name], seen["value"], where, at)[0]
                for q, name in zip(queries, ("first", "second"), strict=True)
            ]

        new = {"first": first, "second": second, "value": v_BxNxLxV}
        (y, taken), cache = attended(cache, where, new, attend_to)
        y_BxNxLxV = y - self._share(head_dim).astype(y.dtype) * taken
        y_BxNxLxV = Norm("rmsnorm", name="head_norm")(y_BxNxLxV) * (1 - START)
        y_BxLxD = y_BxNxLxV.swapaxes(1, 2).reshape(batch, length, width)
        return residual_map(model, width, self.dtype)(y_BxLxD), cache

    def _share(self, head_dim: int) -> jax.Array:
        """lambda (eq. 2), one number a layer."""
        normal = nn.initializers.normal(0.1)
        q_2xK, k_2xK = (
            parameter(self, name, normal, (None, "norm"), (2, head_dim))
            for name in ("lambda_query", "lambda_key")
        )
        first, second = jnp.exp((q_2xK * k_2xK).sum(-1))
        return first - second + START


def build(model: FrozenConfigDict, causal: bool, kernel: str, dtype: Any) -> DifferentialAttention:
    """The mixer of one block, named "attention" there."""
    return DifferentialAttention(model, causal, kernel, dtype, name="attention")
