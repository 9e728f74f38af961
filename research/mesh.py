"""Where arrays live: one table from logical axis names to mesh axes.

Networks name the axes of their parameters (`embed`, `heads`, `mlp`, ...); the table below says
which mesh axis shards each name. Meshes have three axes: `data` (replicas), `fsdp` (replicas
whose parameters and optimizer state are split) and `tensor` (each product is split).
"""

import math
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from research.errors import UserError

AXES = ("data", "fsdp", "tensor")
RULES = {
    "batch": ("data", "fsdp"),
    "embed": "fsdp",
    "vocab": "tensor",
    "heads": "tensor",
    "mlp": "tensor",
    "layers": None,
    "head_dim": None,
    "norm": None,
}


def default_mesh() -> ConfigDict:
    """Sizes of the mesh axes; -1 takes the devices that are left."""
    return ConfigDict(dict(data=-1, fsdp=1, tensor=1))


def make(sizes: ConfigDict, devices: list | None = None) -> Mesh:
    """Return a mesh over `devices` (all of them by default) with the axes `AXES`.

    Raises:
        UserError: when the sizes do not multiply to the number of devices.
    """
    devices = jax.devices() if devices is None else devices
    shape = [sizes[axis] for axis in AXES]
    if shape.count(-1) > 1 or any(size < 1 and size != -1 for size in shape):
        raise UserError(f"config.hardware.mesh: sizes must be positive, at most one -1: {shape}")
    known = math.prod(size for size in shape if size != -1)
    shape = [len(devices) // known if size == -1 else size for size in shape]
    if math.prod(shape) != len(devices):
        raise UserError(
            f"config.hardware.mesh: {dict(zip(AXES, shape, strict=True))} needs {math.prod(shape)} "
            f"devices in multiples, this machine has {len(devices)}"
        )
    axis_types = (AxisType.Auto,) * len(AXES)
    return Mesh(np.asarray(devices).reshape(shape), AXES, axis_types=axis_types)


def replicated(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Leading axis split over every data-parallel device."""
    return NamedSharding(mesh, PartitionSpec(RULES["batch"]))


def check_batch(mesh: Mesh, key: str, batch_size: int, accumulation: int = 1) -> None:
    """Raise UserError, naming `key`, unless each micro-batch splits evenly over the replicas."""
    replicas = mesh.shape["data"] * mesh.shape["fsdp"]
    if batch_size % (replicas * accumulation):
        parts = f" x {accumulation} accumulation steps" if accumulation > 1 else ""
        raise UserError(
            f"{key}={batch_size} is not divisible by {replicas} data-parallel devices{parts}; "
            "nearest valid: "
            f"{max(1, round(batch_size / (replicas * accumulation))) * replicas * accumulation}"
        )


def shardings(mesh: Mesh, axes: Any, shapes: Any) -> Any:
    """Return a NamedSharding for every leaf of `shapes`.

    Args:
        axes: tree like `shapes` whose leaves are tuples of logical names (or None per dimension).
        shapes: tree of arrays or ShapeDtypeStructs.

    Raises:
        UserError: when an axis does not divide by the devices it is split over.
    """

    def leaf(path, shape, names):
        spec = [RULES.get(name) if name else None for name in names]
        for size, axis in zip(shape.shape, spec, strict=True):
            if axis and size % mesh.shape[axis]:
                raise UserError(
                    f"config.hardware.mesh.{axis}={mesh.shape[axis]} does not divide an axis of "
                    f"{jax.tree_util.keystr(path)} of size {size}"
                )
        return NamedSharding(mesh, PartitionSpec(*spec))

    return jax.tree_util.tree_map_with_path(leaf, shapes, axes)
