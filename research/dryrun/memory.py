"""The peak of a step's memory, counted term by term: what prunes a search before any compile.

What the backward pass keeps is asked of JAX itself: the residuals of `jax.vjp` of the family's
loss, traced without arrays at two depths and two batch sizes, whose differences are what one layer
keeps of one example under the remat policy. The rest follows from how parameters lie.
"""

import copy
import functools
import math
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

import jax
from jax import numpy as jnp
from ml_collections import ConfigDict

from research import data, families
from research.dryrun.share import MASTER, Share, moment_bytes
from research.models.kernels import ROWS
from research.programs import Carried

LANES = 128  # the last dimension of an array in a TPU's memory is a multiple of it


@dataclass(frozen=True)
class Kept:
    """Bytes that the forward pass leaves for the backward pass, on one device that has all.

    Attributes:
        layer: of one example, in each layer.
        outside: of one example, around the stack: embeddings, final norm, logits.
        layer_weights: in each layer whatever the batch: weights in the compute type.
        outside_weights: the same around the stack.
    """

    layer: int
    outside: int
    layer_weights: int
    outside_weights: int


@dataclass(frozen=True)
class Memory:
    """Bytes of one device at the peak, by what they are for.

    Attributes:
        arguments: state and batch, as they lie.
        cast: this device's parameters in the compute type, made once a step.
        kept: what the forward pass of the stack leaves for the backward pass.
        gradients: of this device's parameters, float32; with micro-batches, their sum too.
        weights: one layer's, gathered; all layers' where remat keeps them.
        layer_gradient: of one branch of a layer, of whole weights, before it is scattered.
        working: what one layer's backward pass computes again, and the gradients it goes through.
        head: around the stack: final norm, head, logits, and their gradients.
        moments: the optimizer's, brought from the host where they rest there.
    """

    arguments: float
    cast: float
    kept: float
    gradients: float
    weights: float
    layer_gradient: float
    working: float
    head: float
    moments: float

    @property
    def temporaries(self) -> float:
        """The larger of the two moments: behind the head, or inside the last layers' gradient."""
        inside = self.gradients + self.weights + self.layer_gradient + self.working
        return self.cast + self.kept + max(inside, self.head) + self.moments

    @property
    def peak(self) -> float:
        """Arguments, which the new state replaces in place, and temporaries."""
        return self.arguments + self.temporaries

    def terms(self) -> dict[str, float]:
        """Bytes by name."""
        return asdict(self)


def peak(config: ConfigDict, share: Share, arguments: float) -> Memory:
    """Return the memory of a step of `config` on one device.

    Args:
        arguments: bytes of state and batch on it (`compile.argument_bytes`).
    """
    found = kept(config)
    each = share.examples / (share.sizes["sequence"] * share.sizes["tensor"])
    # Inputs of products are whole along tensor, which splits positions only between blocks.
    inputs = share.itemsize * share.positions * share.width * 2 * (1 - 1 / share.sizes["tensor"])
    layers = share.parameter_bytes(whole=True, layered=True)
    branch = max(
        sum(leaf.elements(share.sizes, whole=True) for leaf in share.leaves if name in leaf.names)
        for name in ("heads", "mlp")
    )
    keeps_weights = found.layer_weights > 0
    master = share.parameter_bytes()
    return Memory(
        arguments=arguments,
        cast=master * share.itemsize / MASTER if share.itemsize < MASTER else 0.0,
        kept=share.depth * (found.layer * each + (inputs if keeps_weights else 0.0)),
        gradients=master * (2 if share.micro_batches > 1 else 1),
        weights=layers if keeps_weights else layers / share.depth,
        layer_gradient=share.itemsize * branch / share.depth,
        working=_working(share, again=not keeps_weights),
        head=found.outside * each + _head(share),
        moments=moment_bytes(config, share.state, share.sizes)
        if config.hardware.offload_optimizer
        else 0.0,
    )


def _working(share: Share, again: bool) -> float:
    """Bytes inside the backward pass of one layer, at the larger of its two moments.

    What products read and write stays until both their gradients are made; the rest is fused. The
    perceptron's backward pass comes first, then attention's, which makes scores of ROWS queries at
    a time (of all of them, when dense) and sums the gradients of keys and values in float32.

    Args:
        again: whether the layer's forward pass is run again; else it is among what is kept.
    """
    a_feature = share.itemsize * share.positions
    lanes = max(1, LANES / share.head_dim)  # short heads are padded
    width, attended = share.width, share.width / share.sizes["tensor"] * lanes
    qkv = share.qkv * lanes
    hidden = width + share.up + share.hidden  # the second norm, gate and up, their product
    before = 3 * width + 2 * qkv + attended  # x, its norm, q k v and rotated, x in the middle
    kept = before + 2 * share.routed if again else 0.0
    perceptron = a_feature * (hidden * (2 if again else 1) + 2 * share.routed)
    sums = 2 * share.keys * lanes * MASTER / share.itemsize
    attention = a_feature * (attended + qkv + sums) + _scores(share)
    return a_feature * kept + max(perceptron, attention)


def _scores(share: Share) -> float:
    """Bytes of attention's scores and their gradients, float32, and weights in both types."""
    if share.attention in ("splash", "cudnn"):
        return 0.0
    rows = share.positions * share.heads
    if share.attention == "chunked":
        rows = min(rows, share.examples * share.kv_heads * ROWS)
    return rows * share.length * (2 * MASTER + 2 * share.itemsize)


def _head(share: Share) -> float:
    """Bytes of the head whole and its gradient, and of the gradient of all logits.

    In chunks the logits of one are made anew beside it; in one piece they are kept.
    """
    if not share.logits:
        return 2 * share.parameter_bytes(whole=True, layered=False)
    anew = MASTER * share.positions / share.loss_chunks if share.loss_chunks > 1 else 0.0
    return share.logits * (share.itemsize * (2 * share.width + share.positions) + anew)


def kept(config: ConfigDict) -> Kept:
    """Trace what the loss of `config` keeps for its gradient under its remat policy."""
    shape = copy.deepcopy(config)
    shape.hardware.unroll = 1
    for key in ("mesh", "accumulation", "microbatches"):
        del shape.hardware[key]
    return _kept(shape.to_json(sort_keys=True), Carried(shape))


@functools.lru_cache(maxsize=64)
def _kept(shape: str, carried: Carried) -> Kept:
    del shape
    bytes_of = functools.partial(_residual_bytes, carried.held)
    shallow, wide, deep, both = bytes_of(2, 1), bytes_of(2, 2), bytes_of(3, 1), bytes_of(3, 2)
    layer = both - deep - wide + shallow
    outside = wide - shallow - 2 * layer
    layer_weights = deep - shallow - layer
    return Kept(layer, outside, layer_weights, shallow - 2 * layer_weights - outside - 2 * layer)


def _residual_bytes(config: ConfigDict, depth: int, examples: int) -> int:
    """Bytes of the residuals of the loss at another depth and batch, parameters left out."""
    config = copy.deepcopy(config)
    config.model.depth, config.train.batch_size = depth, examples
    family = families.load(config.family)
    params = jax.eval_shape(lambda: family.init(config, jax.random.key(0)))
    shapes = data.batch_shapes(data.outline(config.data), examples)
    batch = {name: jax.ShapeDtypeStruct(*each) for name, each in shapes.items()}

    def residuals(params: Any, batch: Any, key: Any) -> Any:
        return jax.vjp(lambda params: family.loss(config, params, batch, key, 0)[0], params)[1]

    key = jax.eval_shape(lambda: jax.random.key(0))
    found = jax.tree.leaves(jax.eval_shape(residuals, params, batch, key))
    counted = Counter((leaf.shape, leaf.dtype) for leaf in found)
    counted -= Counter((leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(params))
    return sum(
        times * math.prod(shape) * jnp.dtype(dtype).itemsize
        for (shape, dtype), times in counted.items()
        if not jnp.issubdtype(dtype, jax.dtypes.extended)
    )
