"""The bytes a step moves along each mesh axis, counted from the parallel scheme.

With n devices along an axis, of an array of B bytes (gathered, or not yet reduced) a device sends
B (n - 1) / n to gather or to scatter it and twice that to reduce it everywhere (Thakur 2005).
"""

import math
from collections import Counter, defaultdict

from research.dryrun.hlo import Traffic
from research.dryrun.share import MASTER, Share

Sent = dict[tuple[tuple[str, ...], str], float]  # as Traffic, not yet whole bytes
REPLICAS = ("slice", "data", "fsdp", "sequence", "expert")  # they see other data, so sum gradients


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
    expert: positions go to their experts and back, and their gradients too.
    stage: what a stage has made goes to the next at every tick, its gradient to the one before; a
    stage gathers its layer's weights at every tick. What enters and leaves the pipeline is summed
    over the stages; the layers of one, which lie side by side at rest, are dealt out once a step.
    Embeddings are looked up where they lie, in parts of the width, which then go to the positions.
    A compiler may do otherwise: libtpu often reduces everywhere and cuts where it could scatter.
    """
    moved: Sent = defaultdict(float)
    _weights(share, moved)
    _activations(share, moved)
    return Counter({key: round(sent) for key, sent in moved.items() if sent >= 1})


def _weights(share: Share, moved: Sent) -> None:
    sizes = share.sizes
    for leaf in share.leaves:
        gathered = leaf.axes(sizes, gathered=True)
        whole = share.itemsize * leaf.elements(sizes, whole=True) * share.micro_batches
        parts, turns = (share.parts, share.ticks / share.depth) if leaf.layered else (1, 1)
        if leaf.name == "embedding":
            part = share.itemsize * share.positions * share.width * share.micro_batches
            _add(moved, share, gathered, "all-to-all", 2 * part)
        if leaf.name != "embedding" or share.tied:
            _add(moved, share, gathered, "all-gather", whole * turns * (2 if leaf.layered else 1))
            _add(moved, share, gathered, "reduce-scatter", whole * parts)
        kept = set(leaf.axes(sizes))
        summed = tuple(a for a in sizes if a in REPLICAS and a not in kept and sizes[a] > 1)
        itemsize = MASTER if "norm" in leaf.names else share.itemsize
        local = itemsize * leaf.elements(sizes) * share.micro_batches
        if share.shard_optimizer and {"slice", "data"} & set(summed):
            _add(moved, share, summed, "reduce-scatter", local)
            _add(moved, share, summed, "all-gather", MASTER * leaf.elements(sizes))
        else:
            _add(moved, share, summed, "all-reduce", local)
        if leaf.layered and share.depth > 1:  # there in the compute type, back in float32
            dealt = (share.itemsize + MASTER) * leaf.elements(sizes) * share.micro_batches
            _add(moved, share, ("stage",), "all-to-all", dealt)


def _activations(share: Share, moved: Sent) -> None:
    layers = share.depth * share.micro_batches
    residual = share.itemsize * share.positions * share.width
    again = share.remat in ("full", "attention")
    _add(moved, share, ("tensor",), "all-gather", layers * residual * (4 + 2))
    _add(moved, share, ("tensor",), "reduce-scatter", layers * residual * (4 + again))
    if share.logits:
        around = residual * share.micro_batches
        _add(moved, share, ("tensor",), "all-gather", 2 * around)
        _add(moved, share, ("tensor",), "reduce-scatter", around)
        _add(moved, share, ("tensor",), "all-reduce", around)
    keys = share.itemsize * share.examples * share.length * share.keys
    _add(moved, share, ("sequence",), "all-gather", layers * keys * (2 if again else 1))
    _add(moved, share, ("sequence",), "reduce-scatter", layers * keys)
    routed = share.itemsize * share.positions * share.routed
    _add(moved, share, ("expert",), "all-to-all", layers * routed * (4 + 2 * again))
    if share.sizes["stage"] > 1:
        made = residual * share.micro_batches / share.sizes["tensor"]
        moved[("stage",), "collective-permute"] += 2 * (share.ticks + 1) * made / share.parts
        _add(moved, share, ("stage",), "all-reduce", 2 * made)


def _add(moved: Sent, share: Share, axes: tuple[str, ...], kind: str, size: float) -> None:
    count = math.prod(share.sizes[axis] for axis in axes)
    if count > 1:
        moved[axes, kind] += size * (count - 1) / count * (2 if kind == "all-reduce" else 1)
