"""The bytes a step moves along each mesh axis and in HBM, counted from the parallel scheme.

With n devices along an axis, of an array of B bytes (gathered, or not yet reduced) a device sends
B (n - 1) / n to gather or to scatter it and twice that to reduce it everywhere (Thakur 2005).
"""

import math
from collections import Counter, defaultdict
from collections.abc import Callable

from research.dryrun.hlo import Traffic
from research.dryrun.share import MASTER, Leaf, Share

REPLICAS = ("slice", "data", "fsdp", "sequence", "expert")  # they see other data, so sum gradients
Add = Callable[[tuple[str, ...], str, float], None]  # (mesh axes, kind, bytes of the whole array)


def ledger(share: Share) -> Traffic:
    """Return the bytes one device sends in a step, by mesh axes and kind of collective.

    fsdp (and the axes that split parameters with it): a layer's weights are gathered in the
    compute type for the forward pass and again for the backward pass, its gradient is scattered.
    slice, data: what is left of the gradient is summed everywhere, or scattered to where its part
    of the optimizer's state rests, and the new parameters gathered from there.
    tensor: between blocks each device has its part of the positions (Korthikanti 2022, section
    4.2), gathered before a branch and scattered behind it; the backward pass does the reverse and
    gathers the branch's input again for the weights' gradient. The head, whose vocabulary is split,
    gathers its input twice too; the gradient of that is a sum over devices.
    sequence: keys and values of all positions are gathered, their gradients scattered.
    expert: positions go to their experts and back, and their gradients too. Where none is dropped
    all positions are gathered by the devices that have experts, and what these made is scattered.
    stage: what a stage has made goes to the next at every tick, its gradient to the one before; a
    stage gathers its layer's weights at every tick. What enters and leaves the pipeline is summed
    over the stages; the layers of one, which lie side by side at rest, are dealt out once a step.
    Embeddings are looked up where they lie, in parts of the width, which then go to the positions.
    A compiler may do otherwise: libtpu often reduces everywhere and cuts where it could scatter.
    """
    moved: dict[tuple[tuple[str, ...], str], float] = defaultdict(float)

    def add(axes: tuple[str, ...], kind: str, size: float) -> None:
        count = math.prod(share.sizes[axis] for axis in axes)
        if kind == "collective-permute":
            moved[axes, kind] += size
        elif count > 1:
            moved[axes, kind] += size * (count - 1) / count * (2 if kind == "all-reduce" else 1)

    for leaf in share.leaves:
        _weights(share, leaf, add)
    _activations(share, add)
    return Counter({key: round(sent) for key, sent in moved.items() if sent >= 1})


def _weights(share: Share, leaf: Leaf, add: Add) -> None:
    sizes, times = share.sizes, share.hardware.accumulation
    gathered = leaf.axes(sizes, gathered=True)
    whole = share.itemsize * leaf.elements(sizes, whole=True) * times
    parts, turns = (share.parts, share.ticks / share.depth) if leaf.layered else (1, 1)
    if "vocab" in leaf.names:
        add(gathered, "all-to-all", 2 * share.itemsize * share.positions * share.width * times)
    if "vocab" not in leaf.names or share.tied:
        add(gathered, "all-gather", whole * turns * (2 if leaf.layered else 1))
        add(gathered, "reduce-scatter", whole * parts)
    kept = leaf.axes(sizes)
    summed = tuple(a for a in sizes if a in REPLICAS and a not in kept and sizes[a] > 1)
    itemsize = MASTER if "norm" in leaf.names else share.itemsize
    if share.hardware.shard_optimizer and {"slice", "data"} & set(summed):
        add(summed, "reduce-scatter", itemsize * leaf.elements(sizes) * times)
        add(summed, "all-gather", MASTER * leaf.elements(sizes))
    else:
        add(summed, "all-reduce", itemsize * leaf.elements(sizes) * times)
    if leaf.layered and share.depth > 1:  # there in the compute type, back in float32
        add(("stage",), "all-to-all", (share.itemsize + MASTER) * leaf.elements(sizes) * times)


def _activations(share: Share, add: Add) -> None:
    times = share.hardware.accumulation
    layers = share.depth * times
    residual = share.itemsize * share.positions * share.width
    again = share.hardware.remat in ("full", "attention")
    add(("tensor",), "all-gather", layers * residual * (4 + 2))
    add(("tensor",), "reduce-scatter", layers * residual * (4 + again))
    if share.logits:
        add(("tensor",), "all-gather", 2 * residual * times)
        add(("tensor",), "reduce-scatter", residual * times)
        add(("tensor",), "all-reduce", residual * times)
    keys = share.itemsize * share.examples * share.length * share.keys
    add(("sequence",), "all-gather", layers * keys * (2 if again else 1))
    add(("sequence",), "reduce-scatter", layers * keys)
    routed = share.itemsize * share.positions * share.routed
    if share.exchanged:
        add(("expert",), "all-to-all", layers * routed * (4 + 2 * again))
    elif share.routed:
        gathered = residual * share.sizes["expert"]
        add(("expert",), "all-gather", layers * gathered * (2 + again))
        add(("expert",), "reduce-scatter", layers * gathered * (2 + again))
    if share.sizes["stage"] > 1:
        made = residual * times / share.sizes["tensor"]
        add(("stage",), "collective-permute", 2 * (share.ticks + 1) * made / share.parts)
        add(("stage",), "all-reduce", 2 * made)


def memory_traffic(share: Share, state_bytes: float) -> float:
    """Bytes one device reads and writes in HBM, at least.

    The state once each way, gradients once each way; for every product of every pass (forward,
    what remat repeats, two in the backward pass) its weights and its inputs and outputs; what
    lies between products is taken to be fused away.
    """
    passes = 3 + (share.hardware.remat == "full")
    attended = share.width / share.sizes["tensor"]
    # x -> queries, keys, values -> attended -> residual -> gate and hidden -> residual
    features = 4 * share.width + 2 * (share.qkv + attended) + share.up + share.hidden
    if share.hardware.attention == "dense":
        features += 2 * share.heads * share.length
    head = 3 * (share.width + share.logits) if share.logits else 0
    products = share.itemsize * share.positions * (features * share.depth * passes + head)
    weights = share.parameter_bytes(whole=True) * passes
    gradients = 2 * share.parameter_bytes()
    return 2 * state_bytes + gradients + share.hardware.accumulation * (weights + products)
