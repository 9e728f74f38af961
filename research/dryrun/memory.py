"""The peak of a step's memory, counted term by term: what prunes a search before any compile.

What the backward pass keeps is asked of JAX itself: the residuals of `jax.vjp` of the family's
loss, traced without arrays at two depths and two batch sizes, whose differences are what one layer
keeps of one example under the remat policy. The rest follows from how parameters lie.
"""

import copy
import functools
import math
from collections import Counter
from typing import Any, NamedTuple

import jax
from jax import numpy as jnp
from ml_collections import ConfigDict

from research import cost, data, families
from research.dryrun.share import MASTER, Share
from research.models.kernels import ROWS
from research.programs import Carried, parameter_shapes

LANES = 128  # the last dimension of an array in a TPU's memory is a multiple of it


class Kept(NamedTuple):
    """Bytes that the forward pass leaves for the backward pass, on one device that has all.

    Attributes:
        layer: of one example, in each layer.
        outside: of one example, around the stack: embeddings, final norm, logits.
        layer_weights: in each layer whatever the batch: weights in the compute type.
    """

    layer: int
    outside: int
    layer_weights: int


def terms(config: ConfigDict, share: Share, arguments: float, fetched: float) -> dict[str, float]:
    """Return the bytes of one device at the peak of a step of `config`, by what they are for.

        arguments       state and batch, as they lie
        cast            this device's parameters in the compute type, made once a step
        kept            what the forward pass of the stack leaves for the backward pass
        gradients       of this device's parameters, float32; with micro-batches, their sum too
        weights         one layer's, gathered; all layers' where remat keeps them
        layer_gradient  of one branch of a layer, of whole weights, before it is scattered
        working         what one layer's backward pass computes again, and its gradients
        head            around the stack: final norm, head, logits, and their gradients
        moments         the optimizer's, brought from the host where they rest there

    Args:
        arguments: bytes of state and batch on it.
        fetched: bytes of what rests with the host.
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
    return {
        "arguments": arguments,
        "cast": master * share.itemsize / MASTER if share.itemsize < MASTER else 0.0,
        "kept": share.depth * (found.layer * each + (inputs if keeps_weights else 0.0)),
        "gradients": master * (2 if share.hardware.accumulation > 1 else 1),
        "weights": layers if keeps_weights else layers / share.depth,
        "layer_gradient": share.itemsize * branch / share.depth,
        "working": _working(share, again=not keeps_weights),
        "head": found.outside * each + _head(share),
        "moments": fetched,
    }


def peak(terms: dict[str, float]) -> float:
    """Bytes at the larger of two moments: behind the head, or inside the last layers' gradient.

    The new state replaces the arguments in place.
    """
    inside = sum(terms[name] for name in ("gradients", "weights", "layer_gradient", "working"))
    always = sum(terms[name] for name in ("arguments", "cast", "kept", "moments"))
    return always + max(inside, terms["head"])


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
    if share.hardware.attention in ("splash", "cudnn"):
        return 0.0
    rows = share.positions * share.heads
    if share.hardware.attention == "chunked":
        rows = min(rows, share.examples * share.keys / (2 * share.head_dim) * ROWS)
    return rows * share.length * (2 * MASTER + 2 * share.itemsize)


def _head(share: Share) -> float:
    """Bytes of the head whole and its gradient, and of the gradient of all logits.

    In chunks the logits of one are made anew beside it; in one piece they are kept.
    """
    if not share.logits:
        return 2 * share.parameter_bytes(whole=True, layered=False)
    chunks = share.hardware.loss_chunks
    anew = MASTER * share.positions / chunks if chunks > 1 else 0.0
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
    return Kept(layer, wide - shallow - 2 * layer, deep - shallow - layer)


def _residual_bytes(config: ConfigDict, depth: int, examples: int) -> int:
    """Bytes of the residuals of the loss at another depth and batch, parameters left out."""
    config = copy.deepcopy(config)
    config.model.depth, config.train.batch_size = depth, examples
    family, params = families.load(config.family), parameter_shapes(config)
    inputs = cost.inputs(data.outline(config.data), examples)

    def residuals(params: Any, *rest: Any) -> Any:
        return jax.vjp(lambda params: family.loss(config, params, *rest)[0], params)[1]

    arguments = (inputs[name] for name in ("batch", "key", "step"))
    found = jax.tree.leaves(jax.eval_shape(residuals, params, *arguments))
    counted = Counter((leaf.shape, leaf.dtype) for leaf in found)
    counted -= Counter((leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(params))
    return sum(
        times * math.prod(shape) * jnp.dtype(dtype).itemsize
        for (shape, dtype), times in counted.items()
        if not jnp.issubdtype(dtype, jax.dtypes.extended)
    )
