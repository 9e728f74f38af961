"""Where arrays live: one table from logical axis names to mesh axes.

Networks name the axes of their parameters (`embed`, `heads`, `mlp`, ...) and of the activations
they pin down (`batch`, `length`); the table says which mesh axes shard each name. A mesh has
seven axes, the slowest network first:

    slice     replicas on other slices: only gradients cross the slow network
    data      replicas
    fsdp      replicas whose parameters and optimizer state are split (Rajbhandari et al. 2020)
    stage     layers, in a circular pipeline (Narayanan et al. 2021)
    sequence  positions; attention gathers keys and values (context parallelism)
    expert    experts of a mixture, and replicas for everything else (Lepikhin et al. 2020)
    tensor    heads and hidden units (Shoeybi et al. 2019); between blocks, positions
              (Korthikanti et al. 2022)
"""

import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from research.errors import UserError, nearest

AXES = ("slice", "data", "fsdp", "stage", "sequence", "expert", "tensor")
RULES: dict[str, tuple[str, ...]] = {
    # activations
    "batch": ("slice", "data", "fsdp", "expert"),
    "replica": ("slice", "data"),  # of the batch, where fsdp splits the width instead
    "expert_batch": ("slice", "data", "fsdp"),  # of the slots of an expert
    "length": ("sequence",),
    "residual": ("sequence", "tensor"),  # positions between blocks
    # parameters, and what they make of activations
    "layers": ("stage",),
    "embed": ("fsdp", "sequence", "expert"),
    "vocab": ("tensor",),
    "logits": ("tensor",),  # of the head: as many as the vocabulary
    "heads": ("tensor",),
    "mlp": ("tensor",),
    "experts": ("expert",),
    "expert_embed": ("fsdp", "sequence"),
    "modulation": ("tensor",),
    # what an optimizer makes of a whole matrix, each on one device
    "matrices": ("stage", "fsdp", "sequence", "expert", "tensor", "data"),
    # never split
    "head_dim": (),
    "norm": (),
    "position": (),  # of a table of them
    "class": (),
    "lookup": (),  # rows of tables beside the embedding
    "latent": (),  # a narrow waist between two products
    "input": (),  # what the network is given at a position
    "output": (),  # what the network predicts of a position
}
GATHERED = ("embed", "expert_embed", "modulation")  # split at rest, whole in a product


def default_mesh() -> ConfigDict:
    """Sizes of the mesh axes; -1 takes the devices that are left."""
    return ConfigDict({axis: -1 if axis == "data" else 1 for axis in AXES})


def sizes(wanted: ConfigDict, num_devices: int) -> dict[str, int]:
    """Return the size of every mesh axis, the one that is -1 filled in.

    Raises:
        UserError: when they do not multiply to the number of devices.
    """
    shape = [wanted[axis] for axis in AXES]
    if shape.count(-1) > 1 or any(size < 1 and size != -1 for size in shape):
        raise UserError(f"config.hardware.mesh: sizes must be positive, at most one -1: {shape}")
    known = math.prod(size for size in shape if size != -1)
    filled = [num_devices // known if size == -1 else size for size in shape]
    if math.prod(filled) != num_devices:
        named = {axis: size for axis, size in zip(AXES, filled, strict=True) if size != 1}
        raise UserError(
            f"config.hardware.mesh: {named} needs devices in multiples of {known}, "
            f"there are {num_devices}"
        )
    return dict(zip(AXES, filled, strict=True))


def split_cores() -> None:
    """Make each core a device of its own, so that rows are drawn side by side on a CPU.

    It has to come before JAX counts its devices; a number that somebody gave already stays.
    """
    given = "host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    config: Any = jax.config
    if config.jax_num_cpu_devices < 0 and not given:
        config.update("jax_num_cpu_devices", os.cpu_count() or 1)


def for_rows(wanted: ConfigDict, rows: int) -> Sequence[Any]:
    """This machine's devices, or where all are replicas, as many as share `rows` evenly."""
    devices = jax.devices()
    replicas = wanted.data == -1 and all(wanted[axis] == 1 for axis in AXES if axis != "data")
    if not replicas or jax.process_count() > 1:
        return devices
    return devices[: max(n for n in range(1, len(devices) + 1) if rows % n == 0)]


def make(wanted: ConfigDict, devices: Any = None) -> Mesh:
    """Return a mesh with the axes `AXES`.

    Args:
        wanted: sizes of the axes; one may be -1.
        devices: all of this machine by default; an array that has the mesh's shape already is
            taken as it is.

    Raises:
        UserError: when the sizes do not multiply to the number of devices.
    """
    devices = np.asarray(jax.devices() if devices is None else devices)
    shape = tuple(sizes(wanted, devices.size).values())
    return Mesh(devices.reshape(shape), AXES, axis_types=(AxisType.Auto,) * len(AXES))


def size(*axes: str) -> int:
    """Devices along `axes` of the mesh that is in force where a program is traced; 1 elsewhere."""
    shape = jax.sharding.get_abstract_mesh().shape
    return math.prod(shape.get(axis, 1) for axis in axes)


def on_tpu() -> bool:
    """Whether the mesh in force is made of TPUs, which may not be this machine's."""
    kind = jax.sharding.get_abstract_mesh().abstract_device
    return kind is not None and kind.platform == "tpu"


def on_cpu() -> bool:
    """Whether the mesh in force is made of CPUs; where there is none, whether this machine is."""
    kind = jax.sharding.get_abstract_mesh().abstract_device
    return (jax.default_backend() if kind is None else kind.platform) == "cpu"


def spec(names: Sequence[str | None], shape: Sequence[int]) -> PartitionSpec:
    """The mesh axes that split an activation [shape] of these logical names, if they divide it."""

    def axes(name: str | None, length: int) -> tuple[str, ...] | None:
        split = tuple(axis for axis in RULES[name] if size(axis) > 1) if name else ()
        while length % size(*split):
            split = split[:-1]
        return split or None

    return PartitionSpec(*map(axes, names, shape))


def constrain(x: jax.Array, *names: str | None) -> jax.Array:
    """Lay `x` out by the logical names of its axes; where no mesh is in force, return it as it is.

    XLA works out the layout of most arrays from the parameters'; these are the places where its
    guess would gather a batch or repeat a product.
    """
    if size(*AXES) == 1:
        return x
    return jax.lax.with_sharding_constraint(x, spec(names, x.shape))


def gathered(kernel: jax.Array, names: tuple[str | None, ...]) -> jax.Array:
    """A parameter as a product reads it: what fsdp splits is whole, tensor and expert stay split.

    Called on the parameter in its compute type, so that the narrow type crosses the network. The
    gradient is laid out as the parameter rests: its sum over devices is scattered, never whole.
    """

    @jax.custom_vjp
    def gather(kernel):
        return constrain(kernel, *(None if name in GATHERED else name for name in names))

    gather.defvjp(lambda kernel: (gather(kernel), None), lambda _, g: (constrain(g, *names),))
    whole: Any = gather(kernel)
    return whole


def each_whole(function: Callable, x: jax.Array, names: Sequence[str | None]) -> jax.Array:
    """`function` of a stack of matrices `x`, laid out by `names`, with each whole on one device.

    They are dealt out and come back, one side of them after the other, as XLA would gather what
    moves along both at once. Zeros fill the last round, for an array is split evenly.
    """
    if size(*AXES) == 1:
        return function(x)
    padding = -len(x) % size(*RULES["matrices"])
    padded = jnp.pad(x, ((0, padding), (0, 0), (0, 0)))
    stack, inputs, outputs = map(_axes_of, spec(names, padded.shape))
    held = (*stack, *inputs, *outputs)
    free = tuple(axis for axis in RULES["matrices"] if size(axis) > 1 and axis not in held)
    layouts = [
        (stack, inputs, outputs),
        ((*stack, *inputs), None, outputs),
        (held, None, None),
        ((*held, *free), None, None),
    ]
    for layout in layouts:
        padded = jax.lax.with_sharding_constraint(padded, PartitionSpec(*layout))
    padded = function(padded)
    for layout in reversed(layouts):
        padded = jax.lax.with_sharding_constraint(padded, PartitionSpec(*layout))
    return padded[: len(x)]


def strided(x: jax.Array, parts: int, axis: int = 0) -> jax.Array:
    """Cut `axis` into [parts, ...], part i holding i, i + parts, ...: so devices keep their own."""
    shape = (*x.shape[:axis], x.shape[axis] // parts, parts, *x.shape[axis + 1 :])
    return jnp.moveaxis(x.reshape(shape), axis + 1, 0)


def joined(x: jax.Array, axis: int = 0) -> jax.Array:
    """Inverse of `strided`."""
    x = jnp.moveaxis(x, 0, axis + 1)
    return x.reshape(*x.shape[:axis], -1, *x.shape[axis + 2 :])


def is_axes(node: Any) -> bool:
    """Whether a node of a family's `axes` is the names of one parameter's axes, a leaf."""
    return isinstance(node, tuple) and all(name is None or isinstance(name, str) for name in node)


def replicated(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Leading axis split over every data-parallel device."""
    return NamedSharding(mesh, PartitionSpec(RULES["batch"]))


def replicas(sizes: Mapping[str, int]) -> int:
    """Devices over which a batch is split, for a mesh of these sizes."""
    return math.prod(sizes[axis] for axis in RULES["batch"])


def check_batch(sizes: Mapping[str, int], key: str, batch_size: int, parts: int, what: str) -> None:
    """Raise UserError, naming `key`, unless each of `parts` splits evenly over the replicas."""
    multiple = replicas(sizes) * parts
    if batch_size % multiple:
        of_parts = f" x {parts} {what}" if parts > 1 else ""
        raise UserError(
            f"{key}={batch_size} is not divisible by {replicas(sizes)} data-parallel devices"
            f"{of_parts}; nearest valid: {max(1, round(batch_size / multiple)) * multiple}"
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
        spec = [_known(name) if name else () for name in names]
        for length, split in zip(shape.shape, spec, strict=True):
            for end in range(len(split)):
                count = math.prod(mesh.shape[axis] for axis in split[: end + 1])
                if length % count:
                    axis = split[end]
                    raise UserError(
                        f"config.hardware.mesh.{axis}={mesh.shape[axis]} does not divide an axis "
                        f"of {jax.tree_util.keystr(path)} of size {length}"
                    )
        return NamedSharding(mesh, PartitionSpec(*spec))

    return jax.tree_util.tree_map_with_path(leaf, shapes, axes)


def split_further(sharding: NamedSharding, shape: Any, axes: Sequence[str]) -> NamedSharding:
    """Also split an array over the mesh `axes`, on the first dimension that they divide.

    What is whole on every replica needs to be on one of them only (Rajbhandari et al. 2020, P_os).
    """
    free = tuple(axis for axis in axes if sharding.mesh.shape[axis] > 1)
    count = math.prod(sharding.mesh.shape[axis] for axis in free)
    for index, length in enumerate(shape.shape if free else ()):
        spec = [*sharding.spec, *[()] * len(shape.shape)][: len(shape.shape)]
        there = _axes_of(spec[index])
        if length % (count * math.prod(sharding.mesh.shape[axis] for axis in there)) == 0:
            spec[index] = (*there, *free)
            return NamedSharding(sharding.mesh, PartitionSpec(*spec))
    return sharding


def _axes_of(split: Any) -> tuple[str, ...]:
    """The mesh axes of one entry of a PartitionSpec."""
    return (split,) if isinstance(split, str) else tuple(split or ())


def _known(name: str) -> tuple[str, ...]:
    if name not in RULES:
        raise UserError(
            f"axes: {name!r} is not a logical axis of research/mesh.py{nearest(name, RULES)}"
        )
    return RULES[name]
