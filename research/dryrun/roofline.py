"""How fast a step can be: compute, HBM and network each at their peak, all of it overlapped.

The floor is the slowest of the three (Williams 2009); no run on these chips is faster.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

from ml_collections import ConfigDict

from research import cost
from research.dryrun import program, traffic
from research.dryrun.hlo import Traffic
from research.dryrun.share import Share
from research.hardware import Slice


class Roofline(NamedTuple):
    """A step's work and the least seconds each part of the machine needs for it.

    Attributes:
        flops: useful FLOPs, by the ledger.
        repeated: FLOPs remat spends again in the backward pass: work, but not useful work.
        seconds_network: of the collectives one after another: along different axes they may
            overlap, seldom do.
        peak: FLOP/s of all chips.
    """

    flops: int
    repeated: int
    seconds_compute: float
    seconds_memory: float
    seconds_network: float
    peak: float

    @property
    def seconds_floor(self) -> float:
        """The slowest of the three."""
        return max(self.seconds_compute, self.seconds_memory, self.seconds_network)

    @property
    def rank(self) -> tuple[float, float]:
        """The floor first; among equals, what a step without any overlap would take."""
        serial = self.seconds_compute + self.seconds_memory + self.seconds_network
        return self.seconds_floor, serial

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
    kind, peak = wanted.kind, wanted.kind.flops * wanted.num_chips
    flops, executed = cost.ledger(config).step_flops, cost.executed(config)
    total, head = sum(executed.values()), cost.groups(executed).get("head", 0)
    if share:
        hbm = traffic.memory_traffic(share, state_bytes)
        idle = share.ticks / (share.depth * share.parts)  # a pipeline fills, drains (Huang 2019)
    else:
        hbm = 2 * state_bytes + program.product_bytes(cost.step(config)) / wanted.num_devices
        idle = 1.0
    spent = (total - head) * idle + head * sizes["stage"]  # every stage makes the head for itself
    network = sum(
        sent * _hops(name, axes, sizes, wanted) / _bandwidth(axes, wanted, links)
        for (axes, name), sent in moved.items()
    )
    seconds_memory = hbm * kind.devices_per_chip / kind.memory_bandwidth
    return Roofline(flops, total - flops, spent / peak, seconds_memory, network, peak)


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
