"""Accelerators: peak speed of a chip, and what a slice of them costs in hours.

Peak dense bfloat16 FLOP/s of one chip, as their makers publish them. TPU v4: Jouppi 2023 (arXiv
2304.01433), table 4; v5e, v5p, v6e (Trillium) and tpu7x (Ironwood): "System architecture" in
docs.cloud.google.com/tpu/docs/{v5e,v5p,v6e,tpu7x}; A100 and H100 (SXM, without sparsity): NVIDIA's
data sheets.
"""

import functools
import math
import time
from dataclasses import dataclass

from research.errors import UserError, nearest

PEAK_FLOPS = {
    "v4": 275e12,
    "v5e": 197e12,
    "v5p": 459e12,
    "v6e": 918e12,
    "tpu7x": 2307e12,
    "a100": 312e12,
    "h100": 989e12,
}


# How JAX names these chips (jax/_src/pallas/mosaic/tpu_info.py) or how the names begin (NVIDIA),
# and how many devices it makes of one.
KINDS = {
    "TPU v4": ("v4", 1),
    "TPU v5 lite": ("v5e", 1),
    "TPU v5e": ("v5e", 1),
    "TPU v5": ("v5p", 1),
    "TPU v5p": ("v5p", 1),
    "TPU v6 lite": ("v6e", 1),
    "TPU v6e": ("v6e", 1),
    "TPU7x": ("tpu7x", 2),
    "NVIDIA A100": ("a100", 1),
    "NVIDIA H100 80GB HBM3": ("h100", 1),
}


def peak_of(kind: str) -> float | None:
    """Peak bfloat16 FLOP/s of one device of a `kind` as JAX names it; None for one unknown."""
    names = [name for name in KINDS if kind == name or (name in kind and name.startswith("NVIDIA"))]
    return PEAK_FLOPS[KINDS[names[0]][0]] / KINDS[names[0]][1] if names else None


@functools.lru_cache
def peak_flops() -> float | None:
    """Peak FLOP/s of all devices together, of all processes; None where it is not known.

    CPUs have no published one: theirs is the best rate of a float32 product of 512 by 512
    matrices, measured for about 50 ms when first asked; virtual devices share it.
    """
    import jax

    device = jax.devices()[0]
    if device.platform == "cpu":
        return _product_rate() * jax.process_count()
    peak = peak_of(device.device_kind)
    return peak and peak * jax.device_count()


def _product_rate(size: int = 512, repeats: int = 12) -> float:
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
    """Chips of one kind: `chip` is a key of PEAK_FLOPS, `topology` their number along each axis."""

    chip: str
    topology: tuple[int, ...]

    @property
    def num_chips(self) -> int:
        """Chips in the slice."""
        return math.prod(self.topology)

    def chip_hours(self, flops: float, mfu: float) -> float:
        """Hours of one chip that `flops` take at `mfu`, the share of its peak that is reached."""
        return flops / (PEAK_FLOPS[self.chip] * mfu * 3600)


def parse_slice(text: str) -> Slice:
    """Read `v5e:16x16`, `v5p:4x4x8` or `h100:64`.

    Raises:
        UserError: an unknown chip (the nearest is named) or a topology that is not numbers.
    """
    name, _, shape = text.partition(":")
    chip = name.strip().lower()
    if chip not in PEAK_FLOPS:
        raise UserError(
            f"--chips {text!r}: no chip {name!r}{nearest(chip, PEAK_FLOPS)};"
            f" one of {', '.join(PEAK_FLOPS)}"
        )
    sides = shape.lower().split("x")
    if not all(side.isdecimal() and int(side) > 0 for side in sides):
        raise UserError(f"--chips {text!r}: expected CHIP:TOPOLOGY, such as v5e:16x16 or h100:64")
    return Slice(chip, tuple(int(side) for side in sides))
