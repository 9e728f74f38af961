"""One pre-norm Transformer block for every family, and the scanned stack of it.

Decoders call it causal and unmodulated; diffusion calls it bidirectional with adaLN-zero
modulation (Peebles & Xie 2023). Parameters carry a leading `layers` axis whether the layers
are scanned or, when they are few, unrolled.
"""

import sys
from typing import Any

import flax.linen as nn
import jax
from jax import numpy as jnp
from ml_collections import ConfigDict, FrozenConfigDict
from ml_collections.config_dict import placeholder

from research.errors import UserError
from research.mesh import constrain, size
from research.models import pipeline
from research.models.attention import IN_ORDER, Where
from research.models.common import Dense, Norm, declared, parameter
from research.parts import Machine, check_choice, part

REMAT_POLICIES = {  # what the backward pass finds kept, beside each layer's input
    "none": None,
    "full": jax.checkpoint_policies.nothing_saveable,
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    "attention": jax.checkpoint_policies.save_only_these_names("attention"),
    "offload": jax.checkpoint_policies.offload_dot_with_no_batch_dims("device", "pinned_host"),
}
NORMS = ("rmsnorm", "layernorm")
BESIDE = {"start": 0.0, "bigram": 0.1}  # what a layer may read beside x, and its first share
# A mixer has build(model, causal, kernel, dtype) -> module of (x_BxLxD, where, cache) -> (y_BxLxD,
# cache); with an empty_cache(model, batch, length, dtype) it can be sampled a position at a time.
MIXERS = {"attention": "research.models.attention"}
# A channel part has build(model, dtype) -> module of (x_BxLxD, cache) -> (y_BxLxD, measures,
# cache); where it needs them empty_cache(model, batch, length) and penalty(model, measures).
CHANNELS = {"mlp": "research.models.mlp", "moe": "research.models.moe"}
PARTS = {"mixer": MIXERS, "channel": CHANNELS}
_SELF = sys.modules[__name__]


def default_model() -> dict[str, Any]:
    """Keys of `config.model` that the stack reads; None means "the recipe decides"."""
    return dict(
        depth=placeholder(int),
        width=placeholder(int),
        mixer="attention",
        channel="mlp",
        norm="rmsnorm",
        bias=False,
        zero_outputs=True,  # branches write nothing at first: a block begins as the identity
        residual_scalars=False,  # a layer reads a x + b x_0, of what entered the stack
    )


def check(config: ConfigDict) -> None:
    """Raise UserError, naming the key, for a stack that cannot be built."""
    for key in ("depth", "width"):
        if config.model[key] < 1:
            raise UserError(f"config.model.{key}={config.model[key]} must be at least 1")
    check_choice("model.norm", config.model.norm, NORMS)


def check_hardware(config: ConfigDict, machine: Machine) -> None:
    """Raise UserError for layers that cannot be run as `config.hardware` asks."""
    hardware, stages = config.hardware, machine.sizes["stage"]
    check_choice("hardware.remat", hardware.remat, REMAT_POLICIES)
    if config.model.depth % stages:
        raise UserError(
            f"config.hardware.mesh.stage={stages} does not divide "
            f"config.model.depth={config.model.depth}"
        )


def empty_cache(model: Any, hardware: Any, batch: int, length: int) -> Any:
    """What a stack that has seen nothing yet keeps of `length` positions, [depth, ...] each.

    None where its mixer cannot go on from what it kept.
    """
    mixer, channel = (part(_SELF, key, model) for key in ("mixer", "channel"))
    if not hasattr(mixer, "empty_cache"):
        return None
    dtype = jnp.dtype(hardware.compute_dtype)
    kept = [mixer.empty_cache(model, batch, length, dtype)]
    kept.append(
        channel.empty_cache(model, batch, length) if hasattr(channel, "empty_cache") else None
    )
    return jax.tree.map(lambda x: jnp.broadcast_to(x, (model.depth, *jnp.shape(x))), tuple(kept))


class Block(nn.Module):
    """x + mixer(norm(x)), then x + channel(norm(x)); modulated by `condition` when given.

    With a condition [B, D], each branch is shifted, scaled and gated by adaLN-zero: the gates
    start at zero, so the block starts as the identity. With `beside`, arrays like x by name, it
    first adds to x learned multiples of them. Also returns what the channel part measures, and
    the cache that both parts make of the one given.
    """

    model: FrozenConfigDict
    causal: bool
    attention: str
    dtype: Any

    @nn.compact
    def __call__(
        self,
        x_BxLxD: jax.Array,
        condition_BxD: jax.Array | None,
        where: Where = IN_ORDER,
        beside: dict[str, jax.Array] | None = None,
        cache: Any = (None, None),
    ) -> tuple[jax.Array, dict[str, jax.Array], Any]:
        model = self.model
        if beside:
            names = sorted(beside)  # the order that a tree's transformations give a dict
            first = jnp.array([1.0, *(BESIDE[name] for name in names)])
            shares = parameter(self, "residual", lambda *_: first, (None,), first.shape)
            shares = shares.astype(self.dtype)
            x_BxLxD *= shares[0]
            for share, name in zip(shares[1:], names, strict=True):
                x_BxLxD += share * beside[name]
        mixer, channel = (part(_SELF, key, model) for key in ("mixer", "channel"))
        mixer = mixer.build(model, self.causal, self.attention, self.dtype)
        channel = channel.build(model, self.dtype)
        affine = condition_BxD is None
        if condition_BxD is not None:
            axes = ("embed", None, "modulation")
            modulation = Dense(
                (6, x_BxLxD.shape[-1]), axes, True, 0.0, self.dtype, name="modulation"
            )
            modulation = modulation(jax.nn.silu(condition_BxD))[:, None]

        def branch(index, name, x_BxLxD, function):
            y_BxLxD = Norm(model.norm, affine, model.bias, name=f"{name}_norm")(x_BxLxD)
            if condition_BxD is not None:
                shift, scale, gate = (modulation[:, :, 3 * index + i] for i in range(3))
                y_BxLxD = y_BxLxD * (1 + scale) + shift
            y_BxLxD, *rest = function(constrain(y_BxLxD, "batch", "length", None))
            y_BxLxD = constrain(y_BxLxD, "batch", "residual", None)
            return x_BxLxD + (y_BxLxD if condition_BxD is None else gate * y_BxLxD), rest

        x_BxLxD, (mixed,) = branch(0, "attention", x_BxLxD, lambda y: mixer(y, where, cache[0]))
        x_BxLxD, rest = branch(1, "mlp", x_BxLxD, lambda y: channel(y, cache[1]))
        measures, passed = rest
        return x_BxLxD, measures, (mixed, passed)


class Stack(nn.Module):
    """`model.depth` blocks over x [B, L, D]; parameters carry a leading layer axis.

    Stacks deeper than `hardware.unroll` are one scan, so that compile time does not grow with
    depth. Others are a straight line, which a CPU runs a quarter faster: a scan copies what the
    backward pass keeps into stacked arrays.

    Also returns the mean over layers of what they measure, with "penalty", what is added to a
    training loss, where a part asks for one; and, given a cache (`empty_cache`), the next one.
    """

    model: Any
    hardware: Any
    causal: bool

    @nn.compact
    def __call__(
        self,
        x_BxLxD: jax.Array,
        condition_BxD: jax.Array | None = None,
        where: Where = IN_ORDER,
        beside: dict[str, jax.Array] | None = None,
        cache: Any = None,
    ) -> tuple[jax.Array, dict[str, jax.Array], Any]:
        hardware, depth = self.hardware, self.model.depth
        dtype = jnp.dtype(hardware.compute_dtype)
        x = constrain(x_BxLxD.astype(dtype), "batch", "residual", None)
        condition = None if condition_BxD is None else condition_BxD.astype(dtype)
        if self.model.residual_scalars:
            beside = {"start": x, **(beside or {})}
        block = Block(self.model, self.causal, hardware.attention, dtype, parent=None)

        def init(key):
            keys = jax.random.split(key, depth)
            layers = jax.vmap(lambda key: block.init(key, x, *given)["params"])(keys)
            return nn.meta.add_axis(layers, 0, {nn.PARTITION_NAME: "layers"})

        def body(layer, x, given, cache=(None, None)):
            y: Any = block.apply({"params": layer}, x, *given, cache)
            return y

        stages, straight = size("stage"), hardware.unroll >= depth
        if hardware.remat != "none":
            policy = REMAT_POLICIES[hardware.remat]
            body = jax.checkpoint(body, policy=policy, prevent_cse=straight and stages == 1)
        given = (condition, where, beside)
        layers = declared(self, "blocks", init)
        if self.is_initializing():  # nobody reads what new layers make of an example
            return x, {}, cache
        if stages > 1:
            parts = hardware.microbatches or stages
            x, measures = pipeline.run(lambda *a: body(*a)[:2], layers, x, given, stages, parts)
            measures = jax.tree.map(lambda m: m / depth, measures)
        elif straight:
            rows, caches = [], []
            for index in range(depth):
                here = jax.tree.map(lambda leaf, index=index: leaf[index], (layers, cache))
                x, row, kept = body(here[0], x, given, here[1] or (None, None))
                rows.append(row)
                caches.append(kept)
            measures = jax.tree.map(lambda *m: sum(m) / depth, *rows)
            cache = None if cache is None else jax.tree.map(lambda *c: jnp.stack(c), *caches)
        else:

            def scanned(x, here):
                x, row, kept = body(here[0], x, given, here[1] or (None, None))
                return x, (row, kept)

            x, (measures, kept) = jax.lax.scan(scanned, x, (layers, cache))
            measures = jax.tree.map(lambda m: m.mean(0), measures)
            cache = None if cache is None else kept
        channel = part(_SELF, "channel", self.model)
        if measures and hasattr(channel, "penalty"):
            measures = {**measures, "penalty": channel.penalty(self.model, measures)}
        return x, measures, cache
