"""How fast a step can be: compute, HBM and network each at their peak, all of it overlapped.

The floor is the slowest of the three (Williams 2009); no run on these chips is faster.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from ml_collections import ConfigDict

from research import cost
from research.dryrun import program
from research.dryrun.hlo import Traffic
from research.dryrun.share import Share, head_flops, repeated_flops, step_flops
from research.hardware import Slice


@dataclass(frozen=True)
class Roofline:
    """A step's work and the least seconds each part of the machine needs for it.

    Attributes:
        flops: useful FLOPs, by the ledger.
        repeated: FLOPs remat spends again.
        network: seconds of the collectives, by the mesh axes they run along.
    """

    flops: int
    repeated: int
    seconds_compute: float
    seconds_memory: float
    network: Mapping[tuple[str, ...], float]
    peak: float

    @property
    def seconds_network(self) -> float:
        """Collectives one after another: along different axes they may overlap, seldom do."""
        return sum(self.network.values())

    @property
    def seconds_floor(self) -> float:
        """The slowest of the three."""
        return max(self.seconds_compute, self.seconds_memory, self.seconds_network)

    @property
    def seconds_serial(self) -> float:
        """All three one after another: what a step without any overlap would take."""
        return self.seconds_compute + self.seconds_memory + self.seconds_network

    @property
    def mfu_bound(self) -> float:
        """The best model FLOPs utilisation: useful FLOPs over what the chips could do meanwhile."""
        return self.flops / (self.peak * self.seconds_floor)


def roofline(
    config: ConfigDict,
    share: Share | None,
    sizes: dict[str, int],
    wanted: Slice,
    moved: Traffic,
    links: Mapping[str, float],
    state_bytes: float,
) -> Roofline:
    """Return the roofline of a step.

    Args:
        share: of one device; None of a network whose parts are not known. Of its HBM traffic only
            the state and what products read and write are counted, of a pipeline no idle time.
        sizes: the mesh.
        moved: bytes one device sends (`traffic.ledger`, or as read in the compiled program).
        links: a chip's links along each mesh axis (`topology.spans`).
        state_bytes: of the state on one device, read and written once a step.
    """
    kind = wanted.kind
    peak = kind.flops * wanted.num_chips
    flops, repeated = step_flops(config), repeated_flops(config)
    # A pipeline fills and drains (Huang 2019).
    idle = share.ticks / (share.depth * share.parts) if share else 1.0
    head = head_flops(config)  # which every stage makes for itself
    spent = (flops + repeated - head) * idle + head * sizes["stage"]
    if share:
        traffic = memory_traffic(share, state_bytes)
    else:
        traffic = 2 * state_bytes + program.product_bytes(cost.step(config)) / wanted.num_devices
    return Roofline(
        flops=flops,
        repeated=repeated,
        seconds_compute=spent / peak,
        seconds_memory=traffic * kind.devices_per_chip / kind.memory_bandwidth,
        network={
            axes: sum(
                sent * _hops(name, axes, sizes, wanted)
                for (along, name), sent in moved.items()
                if along == axes
            )
            / _bandwidth(axes, wanted, links)
            for axes in dict.fromkeys(along for along, _ in moved)
        },
        peak=peak,
    )


def memory_traffic(share: Share, state_bytes: float) -> float:
    """Bytes one device reads and writes in HBM, at least.

    The state once each way, gradients once each way; for every product of every pass (forward,
    what remat repeats, two in the backward pass) its weights and its inputs and outputs; what
    lies between products is taken to be fused away.
    """
    passes = 3 + (share.remat == "full")
    weights = share.parameter_bytes(whole=True) * passes
    residual, attended = share.width, share.width / share.sizes["tensor"]
    features = (
        (residual + share.qkv)  # x -> queries, keys, values
        + (share.qkv + attended)  # -> attended
        + (attended + residual)  # -> residual
        + (residual + share.up)  # -> gate and hidden
        + (share.hidden + residual)  # -> residual
    )
    if share.attention == "dense":
        features += 2 * share.heads * share.length
    layers = share.positions * features * share.depth
    head = share.positions * (share.width + share.logits) if share.logits else 0
    products = share.itemsize * (layers * passes + head * 3)
    gradients = 2 * share.parameter_bytes()
    return 2 * state_bytes + gradients + share.micro_batches * (weights + products)


def _bandwidth(axes: tuple[str, ...], wanted: Slice, links: Mapping[str, float]) -> float:
    """Bytes/s one device sends along `axes`."""
    kind = wanted.kind
    along = [links.get(axis, 1.0) for axis in axes]
    if not all(along):  # some of it is between slices or hosts
        return kind.network_bandwidth / kind.devices_per_chip
    ways = sum(along) if kind.dimensions else 1
    return ways * kind.link_bandwidth / kind.devices_per_chip


def _hops(name: str, axes: tuple[str, ...], sizes: dict[str, int], wanted: Slice) -> float:
    """Links a byte of an all-to-all passes on a torus: a quarter of the ring, on average."""
    if name != "all-to-all" or wanted.kind.dimensions == 0:
        return 1.0
    return max(1.0, math.prod(sizes[axis] for axis in axes) / 4)
