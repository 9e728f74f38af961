"""Accelerators: peak speed of a chip, and what a slice of them costs in hours.

Peak dense bfloat16 FLOP/s of one chip, as their makers publish them. TPU v4: Jouppi 2023 (arXiv
2304.01433), table 4; v5e, v5p, v6e (Trillium) and tpu7x (Ironwood): "System architecture" in
docs.cloud.google.com/tpu/docs/{v5e,v5p,v6e,tpu7x}; A100 and H100 (SXM, without sparsity): NVIDIA's
data sheets.
"""

import math
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
