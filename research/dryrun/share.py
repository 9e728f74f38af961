"""One device's share of a training step: its parameters, its positions, its part of each product.

Everything the ledgers of memory, traffic and time rest on, counted from the config and the table
of `research.mesh` alone: no device, no compiler. What lies between the products of a network is
known of the transformers of research/models only; this is the one file here that reads their keys.
Of other networks there is no share, and what rests on it is unknown.
"""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
from jax import numpy as jnp
from jax.sharding import AbstractMesh
from ml_collections import ConfigDict

from research import cost, mesh, programs
from research.models import moe
from research.models.common import GATED

KEYS = ("depth", "width", "num_heads", "mlp_ratio", "activation")  # of config.model
NAMES = {"layers", "heads", "mlp"}  # logical axes that some parameters have
MASTER = 4  # bytes of a parameter, a gradient, a moment: float32


class Leaf(NamedTuple):
    """One parameter array: its shape, and the logical name of each dimension (or None)."""

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
        names = [name for name in self.names if name and gathered in (None, name in mesh.GATHERED)]
        found = {axis for name in names for axis in mesh.RULES[name]}
        return tuple(axis for axis in sizes if axis in found and sizes[axis] > 1)

    def elements(self, sizes: dict[str, int], whole: bool = False) -> float:
        """Elements on one device: as they lie, or (`whole`) as a product reads them."""
        split = self.axes(sizes, gathered=False if whole else None)
        return math.prod(self.shape) / math.prod(sizes[axis] for axis in split)


class State(NamedTuple):
    """Every array of the state: its shape, its logical axes (`programs.state_axes`)."""

    shapes: dict[str, Any]
    axes: dict[str, Any]

    def leaves(self) -> list[Leaf]:
        """The parameters."""
        names = jax.tree.leaves(self.axes["params"], is_leaf=mesh.is_axes)
        shapes = jax.tree.leaves(self.shapes["params"])
        return [Leaf(leaf.shape, each) for leaf, each in zip(shapes, names, strict=True)]

    def split(self, config: ConfigDict, sizes: dict[str, int]) -> tuple[int, int]:
        """Bytes on one device between steps, and of what a step fetches from the host beside them.

        Raises:
            UserError: when an axis does not divide by the devices it is split over.
        """
        grid = AbstractMesh(tuple(sizes.values()), tuple(sizes))
        working, resting = (
            programs.laid_out(self.shapes, each)
            for each in programs.layout(config, grid, self.shapes, self.axes)
        )
        rests = local_bytes(resting)
        return rests, local_bytes(working) - rests


def read_state(config: ConfigDict) -> State:
    """The state of `config`, from its shapes alone."""
    shapes = programs.fresh_shapes(config)
    return State(shapes, programs.state_axes(config, shapes)[0])


def local_bytes(tree: Any) -> int:
    """Bytes of arrays on one device, by their shardings; what rests with the host has none there.

    Args:
        tree: of ShapeDtypeStructs; those without a sharding are whole on every device.
    """

    def one(leaf: Any) -> int:
        sharding = leaf.sharding
        if sharding is not None and sharding.memory_kind == "pinned_host":
            return 0
        shape = leaf.shape if sharding is None else sharding.shard_shape(leaf.shape)
        return math.prod(shape) * leaf.dtype.itemsize

    return sum(map(one, jax.tree.leaves(tree)))


@dataclass(frozen=True)
class Share:
    """What one device has of one micro-batch; elements, unless bytes are said.

    Attributes:
        hardware: the section of the config.
        sizes: the mesh.
        leaves: every parameter.
        depth: layers of the stack on this device.
        parts: of a micro-batch, which go round the pipeline one after another; 1 without stages.
        examples: of a micro-batch, on this device.
        positions: of those examples on this device, as products see them (tensor keeps them whole).
        itemsize: bytes of the compute type.
        width, qkv, up, hidden: features of one position on this device: of the residual (whole),
            of queries, keys and values, of the perceptron's first product and of its second's
            input. An expert's are counted as often as a position reaches one, shared ones too.
        keys: of these the keys and values.
        routed: what one position sends to experts, and gets back.
        exchanged: whether only that is sent; else every device with experts gets every position.
        heads, head_dim, length: attention heads on this device, features of each; keys each query
            sees.
        logits: outputs of the head a position, on this device; 0 without a vocabulary.
        tied: whether the head is the embedding.
    """

    hardware: ConfigDict
    sizes: dict[str, int]
    leaves: list[Leaf]
    depth: int
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
    exchanged: bool
    heads: float
    head_dim: int
    length: int
    logits: float
    tied: bool

    @property
    def ticks(self) -> int:
        """Times a stage runs a layer on a part, or waits for one (`models.pipeline`)."""
        return self.depth * self.parts + self.sizes["stage"] - 1

    def parameter_bytes(self, whole: bool = False, layered: bool | None = None) -> float:
        """Bytes of the parameters: float32 as they lie, or whole in the compute type."""
        chosen = [leaf for leaf in self.leaves if layered in (None, leaf.layered)]
        each = self.itemsize if whole else MASTER
        return each * sum(leaf.elements(self.sizes, whole) for leaf in chosen)


def _plain(model: ConfigDict) -> bool:
    """Whether all layers are alike, of attention, and nothing stands beside their stack."""
    others = ("encoder_decoder", "patches", "uvit", "mmdit")
    if model.network in others or model.get("mixer") != "attention":
        return False
    if model.get("text_vocab") or model.get("image_input") == "control":
        return False
    if model.get("condition", "adaln") != "adaln":
        return False
    return not (model.get("ahead") or model.get("pattern") or model.get("attention_gate"))


def share(config: ConfigDict, sizes: dict[str, int], leaves: list[Leaf]) -> Share | None:
    """Return one device's share of a step of `config` on a mesh of `sizes`.

    It is None of a network that is no transformer of research/models, or one with more in it than
    equal layers of attention and a perceptron: its parts are not known.
    """
    model, hardware = config.model, config.hardware
    named = {name for leaf in leaves for name in leaf.names}
    if not (set(KEYS) <= set(model) and NAMES <= named and _plain(model)):
        return None
    length, stages, tensor = cost.ledger(config).tokens, sizes["stage"], sizes["tensor"]
    examples = config.train.batch_size // mesh.replicas(sizes) // hardware.accumulation
    head_dim = model.width // model.num_heads
    kv_heads = model.get("num_kv_heads") or model.num_heads
    hidden = round(model.width * model.mlp_ratio)
    experts = model.get("num_experts", 0)
    routed = moe.visits(model, length) if experts else 0.0
    visits = routed + (model.get("shared_experts", 0) if experts else 1)
    return Share(
        hardware=hardware,
        sizes=sizes,
        leaves=leaves,
        depth=model.depth // stages,
        parts=(hardware.microbatches or stages) if stages > 1 else 1,
        examples=examples,
        positions=examples * length / sizes["sequence"],
        itemsize=jnp.dtype(hardware.compute_dtype).itemsize,
        width=model.width,
        qkv=(model.num_heads + 2 * kv_heads) * head_dim / tensor,
        keys=2 * kv_heads * head_dim / tensor,
        up=visits * hidden * (2 if model.activation in GATED else 1) / tensor,
        hidden=visits * hidden / tensor,
        routed=routed * model.width,
        exchanged=not moe.is_dropless(model),
        heads=model.num_heads / tensor,
        head_dim=head_dim,
        length=length,
        logits=model.get("vocab_size", 0) / tensor,
        tied=model.get("tie_embeddings", False),
    )
