"""TPU slices as Google's two services name them: machines, accelerator types, node labels.

Sources: "TPU configurations" in docs.cloud.google.com/tpu/docs/{v4,v5e,v5p,v6e,tpu7x} and "Plan
TPUs in GKE" in docs.cloud.google.com/kubernetes-engine/docs/concepts/plan-tpus.
"""

import math
from dataclasses import dataclass

from research.errors import UserError, nearest

ONE_MACHINE = 8  # chips of the largest slice of a flat generation (v5e, v6e) that is one machine


@dataclass(frozen=True)
class Kind:
    """One generation.

    Attributes:
        type: prefix of gcloud's --accelerator-type; "" when only GKE offers it.
        counts: what the number in that type counts a chip: v4 and v5p count cores.
        runtime: gcloud's --runtime-version.
        label: value of the node label cloud.google.com/gke-tpu-accelerator.
        flat: a torus of two dimensions, whose smallest slices are one machine.
    """

    type: str
    counts: int
    runtime: str
    label: str
    flat: bool = False


KINDS = {
    "v4": Kind("v4", 2, "tpu-ubuntu2204-base", "tpu-v4-podslice"),
    "v5e": Kind("v5litepod", 1, "v2-alpha-tpuv5-lite", "tpu-v5-lite-podslice", flat=True),
    "v5p": Kind("v5p", 2, "v2-alpha-tpuv5", "tpu-v5p-slice"),
    "v6e": Kind("v6e", 1, "v2-alpha-tpuv6e", "tpu-v6e-slice", flat=True),
    "tpu7x": Kind("", 1, "", "tpu7x"),
}


def kind(chip: str) -> Kind:
    """Return the generation `chip`.

    Raises:
        UserError: when it is no TPU.
    """
    if chip not in KINDS:
        raise UserError(
            f"--topology {chip}: not a TPU{nearest(chip, KINDS)}; one of {', '.join(KINDS)}"
        )
    return KINDS[chip]


def chips(topology: str) -> int:
    """Chips of a slice of `topology`, such as 4x8."""
    return math.prod(int(side) for side in topology.split("x"))


def chips_a_host(chip: str, topology: str) -> int:
    """Four, but for the smallest flat slices, which are one machine of one, four or eight chips."""
    whole = kind(chip).flat and chips(topology) <= ONE_MACHINE
    return chips(topology) if whole else 4


def hosts(chip: str, topology: str) -> int:
    """Machines of one slice."""
    return chips(topology) // chips_a_host(chip, topology)


def accelerator_type(chip: str, topology: str) -> str:
    """gcloud's name of a slice, such as v5litepod-256, or v5p-1024 of 512 chips."""
    return f"{kind(chip).type}-{chips(topology) * kind(chip).counts}"
