"""One Transformer block for every family, and the scanned stack of it.

Decoders call it causal and unmodulated; diffusion calls it bidirectional with adaLN-zero
modulation (Peebles & Xie 2023). Parameters carry a leading `layers` axis whether the layers
are scanned or, when they are few, unrolled. Where layers differ, by `config.model.pattern`, those
of each entry of the pattern lie together, under its number.
"""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
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
from research.models.cross_attention import CrossAttention
from research.parts import Machine, check_choice, keys, layers, part

REMAT_POLICIES = {  # what the backward pass finds kept, beside each layer's input
    "none": None,
    "full": jax.checkpoint_policies.nothing_saveable,
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    "attention": jax.checkpoint_policies.save_only_these_names("attention"),
    "offload": jax.checkpoint_policies.offload_dot_with_no_batch_dims("device", "pinned_host"),
}
NORMS = ("rmsnorm", "layernorm")
NORM_PLACES = {  # where a branch f of the stream x is normalised
    "pre": "x + f(norm(x))",  # Xiong et al. 2020; GPT-2
    "post": "norm(x + f(x))",  # Vaswani et al. 2017
    "output": "x + norm(f(x))",  # OLMo 2
    "sandwich": "x + norm(f(norm(x)))",  # Ding et al. 2021; Gemma 2
}
BESIDE = {"start": 0.0, "bigram": 0.1}  # what a layer may read beside x, and its first share
# A mixer has build(model, causal, kernel, dtype) -> module of (x_BxLxD, where, cache) -> (y_BxLxD,
# cache); with an empty_cache(model, batch, length, dtype) it can be sampled a position at a time,
# and that may be of int8 where it says NARROW = True.
MIXERS = {
    "attention": "research.models.attention",
    "latent": "research.models.latent_attention",
    "differential": "research.models.differential_attention",
    "lstm": "research.models.lstm",
    "gated_delta": "research.models.gated_delta",
    "mamba2": "research.models.mamba2",
    "convolution": "research.models.convolution",
}
# A channel part has build(model, dtype) -> module of (x_BxLxD, cache, positions) -> (y_BxLxD,
# measures, cache); where it needs them empty_cache(model, batch, length) and
# penalty(model, measures).
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
        pattern=(),  # of layers that differ, such as ("attention=window", "attention=full")
        norm="rmsnorm",
        norm_place="pre",
        norm_scale=True,  # whether norms have learned scales, and biases where there are any
        norm_epsilon=1e-6,
        parallel=False,  # both branches read the same x (Wang & Komatsuzaki 2021, GPT-J)
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
    check_choice("model.norm_place", config.model.norm_place, NORM_PLACES)
    if config.model.parallel and config.model.norm_place == "post":
        raise UserError(
            "config.model.parallel=True has two branches of one x, so config.model.norm_place="
            "'post' has no place after the first"
        )
    if config.model.norm_epsilon <= 0:
        raise UserError(f"config.model.norm_epsilon={config.model.norm_epsilon} must be positive")
    _check_pattern(config.model)


def _check_pattern(model: ConfigDict) -> None:
    """Raise UserError for a pattern whose layers differ in what all of a stack share."""
    allowed = sorted({*keys(_SELF, model)} - {"depth", "width", "pattern", "residual_scalars"})
    for layer in layers(model) if model.pattern else ():
        for key in model:
            if key != "pattern" and key not in allowed and layer[key] != model[key]:
                raise UserError(
                    f"config.model.pattern sets {key!r}, in which layers of one stack cannot "
                    f"differ; they can in {', '.join(allowed)}"
                )


def check_hardware(config: ConfigDict, machine: Machine) -> None:
    """Raise UserError for layers that cannot be run as `config.hardware` asks."""
    hardware, stages = config.hardware, machine.sizes["stage"]
    check_choice("hardware.remat", hardware.remat, REMAT_POLICIES)
    if config.model.depth % stages:
        raise UserError(
            f"config.hardware.mesh.stage={stages} does not divide "
            f"config.model.depth={config.model.depth}"
        )
    if stages > 1 and config.model.pattern:
        raise UserError(
            f"config.hardware.mesh.stage={stages} goes round equal layers, which those of "
            f"config.model.pattern={config.model.pattern} are not; use mesh.fsdp or mesh.tensor"
        )


def by_layer(model: Any) -> list[tuple[int, int, FrozenConfigDict]]:
    """(entry of the pattern, which of its layers, the model as it has it), layer after layer."""
    entries = layers(model)
    return [
        (i % len(entries), i // len(entries), entries[i % len(entries)]) for i in range(model.depth)
    ]


def empty_cache(
    model: Any, hardware: Any, batch: int, length: int, dtype: Any = None, padding: int = 0
) -> Any:
    """What a stack that has seen nothing yet keeps of `length` positions, a layer an entry.

    None where a mixer cannot go on from what it kept.

    Args:
        padding: positions before a text for which there must be room, too.
        dtype: of keys and values, such as int8; by default, and for all else, that of products.
    """
    wide, found = jnp.dtype(hardware.compute_dtype), []
    for *_, layer in by_layer(model):
        mixer, channel = (part(_SELF, key, layer) for key in ("mixer", "channel"))
        if not hasattr(mixer, "empty_cache"):
            return None
        passed = getattr(channel, "empty_cache", lambda *_: None)(layer, batch, length)
        own = dtype or wide if getattr(mixer, "NARROW", False) else wide
        found.append((mixer.empty_cache(layer, batch, length + padding, own), passed))
    return found


def apart(blocks: Any, model: Any, first: int = 0) -> Iterator[Any]:
    """The parameters of each layer from the `first` on, cut out of the stacks that they lie in."""
    stacks = _stacks(blocks, model)
    for entry, row, _ in by_layer(model)[first:]:
        yield jax.tree.map(lambda leaf, row=row: leaf[row], stacks[entry])


def _stacks(blocks: Any, model: Any) -> list[Any]:
    """The stacked parameters of each entry of the pattern, in its order: "10" comes after "9"."""
    return [blocks[str(e)] for e in range(len(layers(model)))] if model.pattern else [blocks]


class Block(nn.Module):
    """A layer: x [B, L, D] + mixer(norm(x)), then x + channel(norm(x)).

    Norms stand where `model.norm_place` says; with `model.parallel` both branches read the same x.

    A condition [B, D] shifts, scales and gates each branch by adaLN-zero; its gates start at zero,
    so that the block starts as the identity. One of [B, 6, D] is what all layers share of that
    already, to which each adds its own (Chen et al. 2024, PixArt-alpha, section 2.3). Of `beside`,
    arrays like x by name, learned multiples are added to x first. A memory [B, S, D] is looked into
    between the branches. None does nothing.

    Returns x, what the channel part measures, by name, and the pair of caches, of the mixer and of
    the channel part, that follows the one given.
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
        memory_BxSxD: jax.Array | None = None,
        cache: Any = (None, None),
    ) -> tuple[jax.Array, dict[str, jax.Array], Any]:
        model = self.model
        if beside:
            x_BxLxD = self._with_beside(x_BxLxD, beside)
        mixer_part, channel_part = (part(_SELF, key, model) for key in ("mixer", "channel"))
        mixer = mixer_part.build(model, self.causal, self.attention, self.dtype)
        channel = channel_part.build(model, self.dtype)
        affine = condition_BxD is None
        if condition_BxD is not None:
            modulation = self._modulation(condition_BxD)[:, None]

        place = model.norm_place

        def norm(name, x_BxLxD, scaled=model.norm_scale):
            return Norm(model.norm, scaled, model.bias, model.norm_epsilon, name=name)(x_BxLxD)

        def branch(index, name, x_BxLxD, function):
            """What a branch adds to x, and what else it returns."""
            y_BxLxD, gate = x_BxLxD, None
            if place in ("pre", "sandwich"):
                y_BxLxD = norm(f"{name}_norm", y_BxLxD, affine and model.norm_scale)
            if condition_BxD is not None:
                shift, scale, gate = (modulation[:, :, 3 * index + i] for i in range(3))
                y_BxLxD = y_BxLxD * (1 + scale) + shift
            y_BxLxD, *rest = function(constrain(y_BxLxD, "batch", "length", None))
            y_BxLxD = constrain(y_BxLxD, "batch", "residual", None)
            if place in ("output", "sandwich"):
                y_BxLxD = norm(f"{name}_out_norm", y_BxLxD)
            return (y_BxLxD if gate is None else gate * y_BxLxD), rest

        read_BxLxD = x_BxLxD
        y_BxLxD, (mixed,) = branch(0, "attention", read_BxLxD, lambda y: mixer(y, where, cache[0]))
        x_BxLxD = x_BxLxD + y_BxLxD
        if place == "post":
            x_BxLxD = norm("attention_norm", x_BxLxD)
        if memory_BxSxD is not None:
            cross = CrossAttention(model, self.dtype, name="cross")
            x_BxLxD = x_BxLxD + cross(norm("cross_norm", x_BxLxD), memory_BxSxD, where.there)
        read_BxLxD = read_BxLxD if model.parallel else x_BxLxD
        y_BxLxD, (measures, passed) = branch(
            1, "mlp", read_BxLxD, lambda y: channel(y, cache[1], where.positions)
        )
        x_BxLxD = x_BxLxD + y_BxLxD
        if place == "post":
            x_BxLxD = norm("mlp_norm", x_BxLxD)
        if measures and hasattr(channel_part, "penalty"):
            measures = {**measures, "penalty": channel_part.penalty(model, measures)}
        return x_BxLxD, measures, (mixed, passed)

    @nn.nowrap
    def _modulation(self, condition: jax.Array) -> jax.Array:
        """Shift, scale and gate of both branches, [B, 6, D]."""
        shape = (6, condition.shape[-1])
        if condition.ndim == 2:
            axes = ("embed", None, "modulation")
            modulation = Dense(shape, axes, True, 0.0, self.dtype, name="modulation")
            return modulation(jax.nn.silu(condition))
        own = parameter(self, "modulation", nn.initializers.zeros, (None, "norm"), shape)
        return condition + own.astype(self.dtype)

    @nn.nowrap
    def _with_beside(self, x_BxLxD: jax.Array, beside: dict[str, jax.Array]) -> jax.Array:
        """A learned multiple of x and of each array `beside` it, summed."""
        names = sorted(beside)  # the order that a tree's transformations give a dict
        first = jnp.array([1.0, *(BESIDE[name] for name in names)])
        shares = parameter(self, "residual", lambda *_: first, (None,), first.shape)
        shares = shares.astype(self.dtype)
        x_BxLxD *= shares[0]
        for share, name in zip(shares[1:], names, strict=True):
            x_BxLxD += share * beside[name]
        return x_BxLxD


class Stack(nn.Module):
    """`model.depth` blocks over x [B, L, D]; parameters carry a leading layer axis.

    Stacks deeper than `hardware.unroll` are one scan, so that compile time does not grow with
    depth. Others are a straight line, which a CPU runs a quarter faster: a scan copies what the
    backward pass keeps into stacked arrays. So is one with a cache, whose layers keep what they
    keep apart; it may have its parameters so, too (`apart`).

    Also returns the mean of what layers measure over those that measure it, with "penalty", what is
    added to a training loss, where a part asks for one; and, given a cache (`empty_cache`), the
    next one.
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
        memory_BxSxD: jax.Array | None = None,
    ) -> tuple[jax.Array, dict[str, jax.Array], Any]:
        model, hardware = self.model, self.hardware
        dtype = jnp.dtype(hardware.compute_dtype)
        x = constrain(x_BxLxD.astype(dtype), "batch", "residual", None)
        condition = None if condition_BxD is None else condition_BxD.astype(dtype)
        if model.residual_scalars:
            beside = {"start": x, **(beside or {})}
        given = (condition, where, beside, memory_BxSxD)
        blocks = [
            Block(each, self.causal, hardware.attention, dtype, parent=None)
            for each in layers(model)
        ]
        found: Any = declared(self, "blocks", drawn_layers, model, blocks, x, given)
        if self.is_initializing():  # nobody reads what new layers make of an example
            return x, {}, cache
        stages, straight = size("stage"), hardware.unroll >= model.depth or cache is not None
        barrier = straight and stages == 1
        runs = [runner(block, hardware.remat, barrier) for block in blocks]
        if stages > 1 and cache is None:
            turns = hardware.microbatches or stages
            x, measures = pipeline.run(
                lambda *each: runs[0](*each)[:2], found, x, given, stages, turns
            )
            return x, jax.tree.map(lambda m: m / model.depth, measures), None
        rounds, measured = 0 if straight else model.depth // len(blocks), []
        if rounds:
            stacks = jax.tree.map(lambda leaf: leaf[:rounds], _stacks(found, model))
            x, measured = jax.lax.scan(lambda x, e: _in_line(runs, e, x, given)[:2], x, stacks)
        rest = found if isinstance(found, list) else apart(found, model, rounds * len(blocks))
        x, others, kept = _in_line(runs, rest, x, given, cache)
        return x, means(measured + others), None if cache is None else kept


def drawn_layers(
    key: jax.Array, model: Any, blocks: Sequence[nn.Module], x: Any, given: tuple
) -> Any:
    """New parameters of all layers, a block an entry of the pattern; stacked, entry by entry."""
    drawn = {}
    for entry, block in enumerate(blocks):
        entry_key = jax.random.fold_in(key, entry) if model.pattern else key
        keys = jax.random.split(entry_key, -(-(model.depth - entry) // len(blocks)))
        stacked = jax.vmap(lambda key, b=block: b.init(key, x, *given)["params"])(keys)
        drawn[str(entry)] = nn.meta.add_axis(stacked, 0, {nn.PARTITION_NAME: "layers"})
    return drawn if model.pattern else drawn["0"]


def runner(block: nn.Module, remat: str, barrier: bool) -> Callable:
    """`block` as a function of its parameters, x, what is `given` beside x, and its cache.

    The backward pass computes again what `remat` does not keep; outside of a scan only a `barrier`
    stops XLA from merging the two computations into one.
    """

    def run(layer, x, given, cache=(None, None)):
        y: Any = block.apply({"params": layer}, x, *given, cache)
        return y

    if remat == "none":
        return run
    return jax.checkpoint(run, policy=REMAT_POLICIES[remat], prevent_cse=barrier)


def _in_line(
    runs: list[Callable], layers: Iterable[Any], x: jax.Array, given: tuple, caches: Any = None
) -> tuple[jax.Array, list[dict[str, jax.Array]], list[Any]]:
    """x after `layers` from the pattern's first entry on; what each measures, and what it keeps.

    `runs` has a `runner` an entry.
    """
    measured, kept = [], []
    for index, layer in enumerate(layers):
        cache = caches[index] if caches else (None, None)
        x, measures, after = runs[index % len(runs)](layer, x, given, cache)
        measured.append(measures)
        kept.append(after)
    return x, measured, kept


def means(rows: list[dict[str, jax.Array]]) -> dict[str, jax.Array]:
    """The mean of each measure over the layers that have it, a scalar or [layers] an entry."""
    found: dict[str, list[jax.Array]] = {}
    for row in rows:
        for name, value in row.items():
            found.setdefault(name, []).append(value)
    counts = {name: sum(value.size for value in values) for name, values in found.items()}
    return {
        name: jnp.asarray(sum(value.sum() for value in values)) / counts[name]
        for name, values in found.items()
    }
