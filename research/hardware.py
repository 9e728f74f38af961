"""Accelerators: what a chip computes, holds and moves, and how chips are wired into slices.

Numbers are those their makers publish, per chip: dense bfloat16 FLOP/s, HBM, and bandwidths in
bytes/s one way (half of what is sold as "bidirectional").
TPU v4: Jouppi 2023 (arXiv 2304.01433, table 4: six links of 50 GB/s); v5e, v5p, v6e (Trillium)
and tpu7x (Ironwood): "System architecture" in docs.cloud.google.com/tpu/docs/{v5e,v5p,v6e,tpu7x},
whose data-centre network is given a chip (v5e: 6.4 Tb/s a pod of 256; v4: Austin 2025, "How to
scale your model", chapter 2). A100 80 GB and H100 (SXM, without sparsity): NVIDIA's data sheets
and those of DGX (a 200 or 400 Gb/s adapter a GPU). `usable_bytes` is the HBM that is left to a
program: on TPUs what the compiler of libtpu 0.0.52 says when it refuses one, on GPUs the share that
XLA's allocator takes (0.75 of it unless told otherwise). "cpu" is one core of a current server,
roughly: for trying a dry run out, not for believing its seconds.
"""

import functools
import itertools
import math
import time
from dataclasses import dataclass

from research.errors import UserError, nearest

GIB = 2**30


@dataclass(frozen=True)
class Chip:
    """One accelerator chip; see the module for sources.

    Attributes:
        flops: peak dense bfloat16 FLOP/s.
        usable_bytes: HBM a program may use.
        memory_bandwidth: bytes/s of the HBM.
        dimensions: of the torus its links make; 0 is a switch that joins the chips of one host.
        link_bandwidth: bytes/s one way of one link (of which a torus has two a dimension), or of
            a chip's whole port into the switch.
        network_bandwidth: bytes/s one way of a chip's share of the network between slices.
        chips_per_host: chips one process drives.
        devices_per_chip: devices JAX sees in one chip.
        pod: most chips of one slice.
        ring: chips a torus dimension needs to close into a ring.
    """

    flops: float
    usable_bytes: float
    memory_bandwidth: float
    dimensions: int
    link_bandwidth: float
    network_bandwidth: float
    chips_per_host: int
    devices_per_chip: int = 1
    pod: int = 2**31
    ring: int = 0


CHIPS = {
    "v4": Chip(275e12, 30.75 * GIB, 1228e9, 3, 50e9, 6.25e9, 4, pod=4096, ring=4),
    "v5e": Chip(197e12, 15.75 * GIB, 819e9, 2, 50e9, 3.125e9, 4, pod=256, ring=16),
    "v5p": Chip(459e12, 95.73 * GIB, 2765e9, 3, 100e9, 6.25e9, 4, pod=6144, ring=4),
    "v6e": Chip(918e12, 31.24 * GIB, 1638e9, 2, 100e9, 12.5e9, 4, pod=256, ring=16),
    "tpu7x": Chip(2307e12, 189.48 * GIB, 7380e9, 3, 100e9, 12.5e9, 4, 2, pod=9216, ring=4),
    "a100": Chip(312e12, 0.75 * 80e9, 2039e9, 0, 300e9, 25e9, 8),
    "h100": Chip(989e12, 0.75 * 80e9, 3350e9, 0, 450e9, 50e9, 8),
    "cpu": Chip(1e11, 4 * GIB, 1e10, 0, 1e10, 1e9, 8),
}
PEAK_FLOPS = {name: chip.flops for name, chip in CHIPS.items()}
PLANES = ((1, 1), (2, 2), (2, 4), (4, 4), (4, 8), (8, 8), (8, 16), (16, 16))
CUBES = ((2, 2, 1), (2, 2, 2), (2, 2, 4), (2, 4, 4))  # and all whose sides are multiples of 4


# How JAX names these chips (jax/_src/pallas/mosaic/tpu_info.py) or how the names begin (NVIDIA).
KINDS = {
    "TPU v4": "v4",
    "TPU v5 lite": "v5e",
    "TPU v5e": "v5e",
    "TPU v5": "v5p",
    "TPU v5p": "v5p",
    "TPU v6 lite": "v6e",
    "TPU v6e": "v6e",
    "TPU7x": "tpu7x",
    "NVIDIA A100": "a100",
    "NVIDIA H100 80GB HBM3": "h100",
}


def peak_of(kind: str) -> float | None:
    """Peak bfloat16 FLOP/s of one device of a `kind` as JAX names it; None for one unknown."""
    for name, chip in KINDS.items():
        if kind == name or (name.startswith("NVIDIA") and kind.startswith(name)):
            return CHIPS[chip].flops / CHIPS[chip].devices_per_chip
    return None


@functools.lru_cache
def peak_flops() -> float | None:
    """Peak FLOP/s of all devices together, of all processes; None where it is not known.

    CPUs have no published one: theirs is the best rate of a float32 product of 512 by 512
    matrices, measured for about 50 ms when first asked; virtual devices share it.
    """
    import jax

    device = jax.devices()[0]
    if device.platform == "cpu":
        return product_rate() * jax.process_count()
    peak = peak_of(device.device_kind)
    return peak and peak * jax.device_count()


def product_rate(size: int = 512, repeats: int = 12) -> float:
    """FLOP/s of this machine's best float32 product of two square matrices."""
    import jax

    a = jax.random.normal(jax.random.key(0), (size, size))
    product = jax.jit(jax.numpy.matmul)
    product(a, a).block_until_ready()
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        product(a, a).block_until_ready()
        times.append(time.perf_counter() - began)
    return 2 * size**3 / min(times)


@dataclass(frozen=True)
class Slice:
    """Chips of one kind: `chip` is a key of CHIPS, `topology` their number along each axis.

    `slices` such tori work together over the data-centre network.
    """

    chip: str
    topology: tuple[int, ...]
    slices: int = 1

    def __str__(self) -> str:
        times = f"{self.slices} x " if self.slices > 1 else ""
        return f"{times}{self.chip}:{'x'.join(map(str, self.topology))}"

    @property
    def kind(self) -> Chip:
        """The chip's numbers."""
        return CHIPS[self.chip]

    @property
    def num_chips(self) -> int:
        """Chips in all slices."""
        return math.prod(self.topology) * self.slices

    @property
    def num_devices(self) -> int:
        """Devices JAX sees in all slices."""
        return self.num_chips * self.kind.devices_per_chip

    @property
    def rings(self) -> tuple[bool, ...]:
        """Whether each dimension of the torus closes into a ring.

        v5e and v6e close a side of 16; v4, v5p and tpu7x are made of cubes of 4 x 4 x 4, which
        optical switches join into rings, when the slice has only whole ones.
        """
        ring = self.kind.ring
        if len(self.topology) == 2:
            return tuple(side == ring for side in self.topology)
        return (all(side % ring == 0 for side in self.topology),) * len(self.topology)

    def chip_hours(self, flops: float, mfu: float) -> float:
        """Hours of one chip that `flops` take at `mfu`, the share of its peak that is reached."""
        return flops / (PEAK_FLOPS[self.chip] * mfu * 3600)


def parse_slice(text: str, option: str = "--chips") -> Slice:
    """Read `v5e:16x16`, `v5p:4x4x8` or `h100:64`, given as `option`.

    Raises:
        UserError: an unknown chip (the nearest is named) or a topology that is not numbers.
    """
    name, _, shape = text.partition(":")
    chip = name.strip().lower()
    if chip not in CHIPS:
        raise UserError(
            f"{option} {text!r}: no chip {name!r}{nearest(chip, CHIPS)}; one of {', '.join(CHIPS)}"
        )
    sides = shape.lower().split("x")
    if not all(side.isdecimal() and int(side) > 0 for side in sides):
        raise UserError(f"{option} {text!r}: expected CHIP:TOPOLOGY, such as v5e:16x16 or h100:64")
    return Slice(chip, tuple(int(side) for side in sides))


@functools.cache
def shapes(chip: str) -> tuple[tuple[int, ...], ...]:
    """The topologies in which slices of a TPU `chip` are sold, small to large; none means any."""
    kind = CHIPS[chip]
    if kind.dimensions == 0:
        return ()
    if kind.dimensions == 2:
        return PLANES
    sides = range(4, kind.pod // 16 + 1, 4)
    cubes = [
        (a, b, c)
        for a in sides
        for b in sides
        if a <= b and a * b * b <= kind.pod
        for c in sides
        if b <= c and a * b * c <= kind.pod
    ]
    return tuple(sorted([*CUBES, *cubes], key=lambda shape: (math.prod(shape), shape)))


def check_slice(wanted: Slice, option: str = "--topology") -> Slice:
    """Return `wanted` if such slices are sold.

    Raises:
        UserError: naming the nearest topology that is.
    """
    valid = shapes(wanted.chip)
    if not valid and len(wanted.topology) > 1:
        raise UserError(f"{option} {wanted}: give the number of {wanted.chip}s, {wanted.chip}:8")
    if valid and wanted.topology not in valid:
        close = min(valid, key=lambda each: _distance(each, wanted.topology))
        raise UserError(
            f"{option} {wanted}: no {wanted.chip} slice has this shape"
            f" (nearest: {wanted.chip}:{'x'.join(map(str, close))})"
        )
    return wanted


def _distance(first: tuple[int, ...], second: tuple[int, ...]) -> float:
    """How many times larger or smaller the sides are, in logarithms."""
    pairs = itertools.zip_longest(sorted(first), sorted(second), fillvalue=1)
    return sum(abs(math.log(a / b)) for a, b in pairs)
