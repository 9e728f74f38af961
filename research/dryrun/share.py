"""One device's share of a training step: its parameters, its positions, its part of each product.

Everything the ledgers of memory, traffic and time rest on, counted from the config and the table
of `research.mesh` alone: no device, no compiler. What lies between the products of a network is
known of the transformers of research/models only; this is the one file here that reads their keys.
Of other networks there is no share, and what rests on it is unknown.
"""

import math
from dataclasses import dataclass

import jax
from jax import numpy as jnp
from ml_collections import ConfigDict

from research import cost, families, mesh, programs
from research.models.moe import capacity

KEYS = ("depth", "width", "num_heads", "mlp_ratio", "activation")  # of config.model
NAMES = {"layers", "heads", "mlp"}  # logical axes that some parameters have
MASTER = 4  # bytes of a parameter, a gradient, a moment: float32


@dataclass(frozen=True)
class Leaf:
    """One parameter array: its name, its shape, the logical name of each dimension (or None)."""

    name: str
    shape: tuple[int, ...]
    names: tuple[str | None, ...]

    @property
    def layered(self) -> bool:
        """Whether it holds one slice a layer of the stack."""
        return "layers" in self.names

    def axes(self, sizes: dict[str, int], gathered: bool | None = None) -> tuple[str, ...]:
        """Mesh axes that split it, in the mesh's order.

        Args:
            gathered: only those that a product needs whole (True), or keeps split (False).
        """
        found = {
            axis
            for name in self.names
            if name and gathered in (None, name in mesh.GATHERED)
            for axis in mesh.RULES[name]
            if sizes[axis] > 1
        }
        return tuple(axis for axis in sizes if axis in found)

    def divides(self, sizes: dict[str, int], parts: int) -> bool:
        """Whether one of its dimensions, as it lies on a device, divides by `parts`."""
        return any(
            length % (parts * math.prod(sizes[axis] for axis in mesh.RULES[name or "norm"])) == 0
            for length, name in zip(self.shape, self.names, strict=True)
        )

    def elements(self, sizes: dict[str, int], whole: bool = False) -> float:
        """Elements on one device: as they lie, or (`whole`) as a product reads them."""
        split = self.axes(sizes, gathered=False if whole else None)
        return math.prod(self.shape) / math.prod(sizes[axis] for axis in split)


@dataclass(frozen=True)
class State:
    """Every array of the state: parameters, what the optimizer keeps, the average, a reference."""

    params: tuple[Leaf, ...]
    moments: tuple[Leaf, ...]
    average: tuple[Leaf, ...]
    reference: tuple[Leaf, ...]

    def names(self) -> set[str | None]:
        """Logical axes that some parameter has."""
        return {name for leaf in self.params for name in leaf.names}


def read_state(config: ConfigDict) -> State:
    """The state of `config`, from its shapes alone.

    What the optimizer keeps lies as the parameter whose path it ends in, if it has its shape.
    """
    family = families.load(config.family)
    state = programs.fresh_shapes(config, family)
    found = jax.tree_util.tree_leaves_with_path(state["params"])
    axes = families.axes(config, state["params"])
    ours = {
        path: (leaf.shape, tuple(names)) for (path, leaf), names in zip(found, axes, strict=True)
    }

    def leaf(path: tuple, shape: tuple[int, ...]) -> Leaf:
        ends = (ours[path[start:]] for start in range(len(path)) if path[start:] in ours)
        names = next((names for known, names in ends if known == shape), (None,) * len(shape))
        last = path[-1] if path else ""
        return Leaf(str(getattr(last, "key", last)), shape, names)

    def part(name: str) -> tuple[Leaf, ...]:
        kept = jax.tree_util.tree_leaves_with_path(state.get(name, ()))
        return tuple(leaf(path, each.shape) for path, each in kept)

    return State(part("params"), part("opt_state"), part("ema"), part("reference"))


@dataclass(frozen=True)
class Share:
    """What one device has of one micro-batch; elements, unless bytes are said.

    Attributes:
        state: every parameter, and what the optimizer keeps.
        sizes: the mesh.
        depth: layers of the stack on this device.
        micro_batches: gradients a step adds up, one after another.
        parts: of a micro-batch, which go round the pipeline one after another; 1 without stages.
        examples: of a micro-batch, on this device.
        positions: of those examples on this device, as products see them (tensor keeps them whole).
        itemsize: bytes of the compute type.
        width, qkv, up, hidden: features of one position on this device: of the residual (whole),
            of queries, keys and values, of the perceptron's first product and of its second's
            input. An expert's are counted as often as a position reaches one.
        keys: of these the keys and values.
        routed: what one position sends to experts, and gets back.
        heads, kv_heads, head_dim, length: attention heads on this device, features of each; keys
            each query sees.
        logits: outputs of the head a position, on this device; 0 without a vocabulary.
        tied: whether the head is the embedding.
        shard_optimizer: whether the optimizer's state is split over replicas.
    """

    state: State
    sizes: dict[str, int]
    remat: str
    attention: str
    loss_chunks: int
    depth: int
    micro_batches: int
    parts: int
    examples: int
    positions: float
    itemsize: int
    width: int
    qkv: float
    keys: float
    up: float
    hidden: float
    routed: float
    heads: float
    kv_heads: float
    head_dim: int
    length: int
    logits: float
    tied: bool
    shard_optimizer: bool

    @property
    def leaves(self) -> tuple[Leaf, ...]:
        """The parameters."""
        return self.state.params

    @property
    def ticks(self) -> int:
        """Times a stage runs a layer on a part, or waits for one (`models.pipeline`)."""
        return self.depth * self.parts + self.sizes["stage"] - 1

    def parameter_bytes(self, whole: bool = False, layered: bool | None = None) -> float:
        """Bytes of the parameters: float32 as they lie, or whole in the compute type."""
        chosen = [leaf for leaf in self.leaves if layered in (None, leaf.layered)]
        each = self.itemsize if whole else MASTER
        return each * sum(leaf.elements(self.sizes, whole) for leaf in chosen)


def share(config: ConfigDict, sizes: dict[str, int], state: State) -> Share | None:
    """Return one device's share of a step of `config` on a mesh of `sizes`.

    It is None of a network that is no transformer of research/models: its parts are not known.
    """
    model, hardware = config.model, config.hardware
    if not (set(KEYS) <= set(model) and NAMES <= state.names()):
        return None
    ledger = cost.ledger(config)
    replicas = mesh.replicas(sizes)
    micro_batches, stages = hardware.accumulation, sizes["stage"]
    examples = config.train.batch_size // replicas // micro_batches
    tensor = sizes["tensor"]
    heads = model.num_heads
    head_dim = model.width // heads
    hidden = round(model.width * model.mlp_ratio)
    experts = model.get("num_experts", 0)
    visits = experts * capacity(model, ledger.tokens) / ledger.tokens if experts else 1
    kv_heads = model.get("num_kv_heads") or heads
    return Share(
        state=state,
        sizes=sizes,
        remat=hardware.remat,
        attention=hardware.attention,
        loss_chunks=hardware.loss_chunks,
        depth=model.depth // stages,
        micro_batches=micro_batches,
        parts=(hardware.microbatches or stages) if stages > 1 else 1,
        examples=examples,
        positions=examples * ledger.tokens / sizes["sequence"],
        itemsize=jnp.dtype(hardware.compute_dtype).itemsize,
        width=model.width,
        qkv=(heads + 2 * kv_heads) * head_dim / tensor,
        keys=2 * kv_heads * head_dim / tensor,
        up=visits * hidden * (2 if model.activation == "swiglu" else 1) / tensor,
        hidden=visits * hidden / tensor,
        routed=visits * model.width if experts else 0.0,
        heads=heads / tensor,
        kv_heads=kv_heads / tensor,
        head_dim=head_dim,
        length=ledger.tokens,
        logits=model.get("vocab_size", 0) / tensor,
        tied=model.get("tie_embeddings", False),
        shard_optimizer=hardware.shard_optimizer,
    )


def state_bytes(config: ConfigDict, state: State, sizes: dict[str, int]) -> float:
    """Bytes of the state on one device: all of `State`."""
    parameters = MASTER * sum(leaf.elements(sizes) for leaf in (*state.params, *state.reference))
    average = _split_bytes(config, state.average, sizes)
    rests = 0.0 if config.hardware.offload_optimizer else moment_bytes(config, state, sizes)
    return parameters + average + rests


def moment_bytes(config: ConfigDict, state: State, sizes: dict[str, int]) -> float:
    """Bytes of what the optimizer keeps, wherever it rests between steps."""
    return _split_bytes(config, state.moments, sizes)


def _split_bytes(config: ConfigDict, leaves: tuple[Leaf, ...], sizes: dict[str, int]) -> float:
    """Bytes of arrays that replicas may share out too (`mesh.split_further`)."""
    replicas = sizes["slice"] * sizes["data"] if config.hardware.shard_optimizer else 1
    return MASTER * sum(
        leaf.elements(sizes) / (replicas if leaf.divides(sizes, replicas) else 1) for leaf in leaves
    )


def step_flops(config: ConfigDict) -> int:
    """Useful FLOPs of a step: forward and backward over the whole batch, by the ledger."""
    return cost.ledger(config).step_flops


def head_flops(config: ConfigDict) -> int:
    """FLOPs of a step in the head, its logits made again in the backward pass included."""
    return cost.groups(cost.executed(config)).get("head", 0)


def repeated_flops(config: ConfigDict) -> int:
    """FLOPs of a step that are spent again in its backward pass: work, but not useful work."""
    return sum(cost.executed(config).values()) - step_flops(config)
