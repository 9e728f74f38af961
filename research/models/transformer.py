"""One pre-norm Transformer block for every family, and the scanned stack of it.

Decoders call it causal and unmodulated; diffusion calls it bidirectional with adaLN-zero
modulation (Peebles & Xie 2023). Parameters carry a leading `layers` axis whether the layers
are scanned or, when they are few, unrolled.
"""

from typing import Any

import flax.linen as nn
import jax
from jax import numpy as jnp
from ml_collections import ConfigDict, FrozenConfigDict
from ml_collections.config_dict import placeholder

from research.errors import UserError, nearest
from research.mesh import constrain, size
from research.models import pipeline
from research.models.attention import Attention
from research.models.common import Dense, Norm, declared
from research.models.mlp import ACTIVATIONS, MLP
from research.models.moe import MoE

REMAT_POLICIES = {  # what the backward pass finds kept, beside each layer's input
    "none": None,
    "full": jax.checkpoint_policies.nothing_saveable,
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    "attention": jax.checkpoint_policies.save_only_these_names("attention"),
    "offload": jax.checkpoint_policies.offload_dot_with_no_batch_dims("device", "pinned_host"),
}


def default_model() -> ConfigDict:
    """Keys of `config.model` that the stack reads; None means "the recipe decides"."""
    return ConfigDict(
        dict(
            depth=placeholder(int),
            width=placeholder(int),
            num_heads=placeholder(int),
            num_kv_heads=0,  # 0: one key-value head a query head
            mlp_ratio=4.0,
            activation="relu2",
            norm="rmsnorm",
            qk_norm=False,
            rotary=True,
            bias=False,
            num_experts=0,  # 0: one perceptron for every position
            experts_per_token=2,
            capacity_factor=1.25,  # slots of an expert over its even share
            balance_weight=0.01,  # of the load-balancing loss
        )
    )


def check(model: ConfigDict) -> None:
    """Raise UserError, naming the key, for a stack that cannot be built."""
    for key in ("depth", "width", "num_heads"):
        if model[key] < 1:
            raise UserError(f"config.model.{key}={model[key]} must be at least 1")
    if model.num_kv_heads < 0:
        raise UserError(f"config.model.num_kv_heads={model.num_kv_heads} must not be negative")
    if model.mlp_ratio <= 0:
        raise UserError(f"config.model.mlp_ratio={model.mlp_ratio} must be positive")
    if round(model.width * model.mlp_ratio) < 1:
        raise UserError(
            f"config.model.mlp_ratio={model.mlp_ratio} x width={model.width} leaves no hidden unit"
        )
    if model.width % model.num_heads:
        valid = [h for h in range(1, model.width + 1) if model.width % h == 0]
        near = min(valid, key=lambda h: abs(h - model.num_heads))
        raise UserError(
            f"config.model.width={model.width} is not divisible by num_heads={model.num_heads}; "
            f"nearest valid num_heads: {near}"
        )
    if model.num_kv_heads and model.num_heads % model.num_kv_heads:
        raise UserError(
            f"config.model.num_heads={model.num_heads} is not divisible by "
            f"num_kv_heads={model.num_kv_heads}"
        )
    if model.num_experts < 0:
        raise UserError(f"config.model.num_experts={model.num_experts} must not be negative")
    if model.num_experts and not 1 <= model.experts_per_token <= model.num_experts:
        raise UserError(
            f"config.model.experts_per_token={model.experts_per_token} must be from 1 to "
            f"num_experts={model.num_experts}"
        )
    if model.capacity_factor <= 0 or model.balance_weight < 0:
        raise UserError(
            f"config.model.capacity_factor={model.capacity_factor} must be positive and "
            f"balance_weight={model.balance_weight} not negative"
        )
    if model.rotary and (model.width // model.num_heads) % 2:
        raise UserError(
            f"config.model.rotary needs an even head size, got width/num_heads="
            f"{model.width // model.num_heads}"
        )
    for key, choices in (
        ("activation", tuple(ACTIVATIONS)),
        ("norm", ("rmsnorm", "layernorm")),
    ):
        if model[key] not in choices:
            raise UserError(
                f"config.model.{key}={model[key]!r} is not one of {', '.join(choices)}"
                f"{nearest(model[key], choices)}"
            )


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)); modulated by `condition` when given.

    With a condition [batch, width], each branch is shifted, scaled and gated by adaLN-zero:
    the gates start at zero, so the block starts as the identity. Also returns what a mixture of
    experts measures; nothing without one.
    """

    model: FrozenConfigDict
    causal: bool
    attention: str
    dtype: Any

    @nn.compact
    def __call__(
        self, x: jax.Array, condition: jax.Array | None
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        model = self.model
        branches = (
            (
                "attention",
                Attention(model, self.causal, self.attention, self.dtype, name="attention"),
            ),
            ("mlp", (MoE if model.num_experts else MLP)(model, self.dtype, name="mlp")),
        )
        affine, measures = condition is None, {}
        if condition is not None:
            axes = ("embed", None, "modulation")
            modulation = Dense((6, x.shape[-1]), axes, True, 0.0, self.dtype, name="modulation")
            modulation = modulation(jax.nn.silu(condition))[:, None]
        for index, (name, branch) in enumerate(branches):
            y = Norm(model.norm, affine, model.bias, name=f"{name}_norm")(x)
            if condition is not None:
                shift, scale, gate = (modulation[:, :, 3 * index + i] for i in range(3))
                y = y * (1 + scale) + shift
            y = branch(constrain(y, "batch", "length", None))
            if isinstance(y, tuple):
                y, measures = y
            y = constrain(y, "batch", "residual", None)
            x += y if condition is None else gate * y
        return x, measures


class Stack(nn.Module):
    """`model.depth` blocks over x [batch, length, width]; parameters carry a leading layer axis.

    Stacks deeper than `hardware.unroll` are one scan, so that compile time does not grow with
    depth. Others are a straight line, which a CPU runs a quarter faster: a scan copies what the
    backward pass keeps into stacked arrays. Also returns the mean over layers of what they measure.
    """

    model: Any
    hardware: Any
    causal: bool

    @nn.compact
    def __call__(
        self, x: jax.Array, condition: jax.Array | None = None
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        hardware, depth = self.hardware, self.model.depth
        dtype = jnp.dtype(hardware.compute_dtype)
        x = constrain(x.astype(dtype), "batch", "residual", None)
        condition = None if condition is None else condition.astype(dtype)
        block = Block(self.model, self.causal, hardware.attention, dtype, parent=None)

        def init(key):
            keys = jax.random.split(key, depth)
            layers = jax.vmap(lambda key: block.init(key, x, condition)["params"])(keys)
            return nn.meta.add_axis(layers, 0, {nn.PARTITION_NAME: "layers"})

        def body(layer, x, condition):
            y: Any = block.apply({"params": layer}, x, condition)
            return y

        stages, straight = size("stage"), hardware.unroll >= depth
        if hardware.remat != "none":
            policy = REMAT_POLICIES[hardware.remat]
            body = jax.checkpoint(body, policy=policy, prevent_cse=straight and stages == 1)
        layers = declared(self, "blocks", init)
        if stages > 1:
            parts = hardware.microbatches or stages
            x, measures = pipeline.run(body, layers, x, condition, stages, parts)
            return x, jax.tree.map(lambda m: m / depth, measures)
        if straight:
            rows = []
            for index in range(depth):
                layer = jax.tree.map(lambda leaf, index=index: leaf[index], layers)
                x, measures = body(layer, x, condition)
                rows.append(measures)
            return x, jax.tree.map(lambda *m: sum(m) / depth, *rows)
        x, measures = jax.lax.scan(lambda x, layer: body(layer, x, condition), x, layers)
        return x, jax.tree.map(lambda m: m.mean(0), measures)
