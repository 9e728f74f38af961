"""The devices of a slice that is not here: described by its compiler, laid out as a mesh."""

import importlib.util
import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import mesh_utils, topologies

from research.dryrun import gpu
from research.errors import UserError
from research.hardware import Slice

# What only some compilers need to be told: v4's two cores are one device, as v5p's are anyway.
OPTIONS = {"v4": {"chip_config_name": "megacore"}}


def devices(wanted: Slice) -> Sequence[Any]:
    """Return the devices of `wanted` for the compiler; none of them can run anything.

    GPUs are numbers where their compiler, an optional extra, is not installed: their steps are then
    only counted.

    Raises:
        UserError: when the compiler for such chips is not installed here.
    """
    if wanted.chip == "cpu":
        return _cpus(wanted)
    if wanted.chip in gpu.SEEN:
        return gpu.devices(wanted)
    if importlib.util.find_spec("libtpu") is None:
        raise UserError(
            "--topology: compiling for TPUs needs libtpu (Linux on x86-64):"
            " pip install -r requirements-pods.txt"
        )
    options: dict[str, Any] = dict(OPTIONS.get(wanted.chip, {}))
    if wanted.slices > 1:
        options["num_slices"] = wanted.slices
    name = f"{wanted.chip}:{'x'.join(map(str, wanted.topology))}"
    try:
        return topologies.get_topology_desc(platform="tpu", topology_name=name, **options).devices
    except (jax.errors.JaxRuntimeError, IndexError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"--topology {wanted}: libtpu does not know it ({reason})") from error


def _cpus(wanted: Slice) -> Sequence[Any]:
    """Cores as devices: as many as asked for, while JAX has not counted them yet."""
    count = wanted.num_devices
    try:
        jax.config.update("jax_num_cpu_devices", count)
    except RuntimeError:  # it has: then some of them, when they are enough
        pass
    found = jax.devices("cpu")
    if len(found) < count:
        raise UserError(f"--topology {wanted}: this process has {len(found)} CPU devices")
    return found[:count]


def arrange(
    wanted: Slice, found: Sequence[Any], sizes: dict[str, int], slow: str = "slice"
) -> list[Any]:
    """Return the devices in the order of a mesh of `sizes`, so that near ones are neighbours.

    The last axes get the closest devices; axis `slow` runs over the network between slices.

    Raises:
        UserError: when `slow` is no multiple of the number of slices.
    """
    shape = list(sizes.values())
    if wanted.kind.dimensions == 0:
        return list(found)  # a switch: every order is as good
    if wanted.slices == 1:
        laid = mesh_utils.create_device_mesh(shape, list(found), allow_split_physical_axes=True)
        return list(np.asarray(laid).ravel())
    if sizes.get(slow) != wanted.slices:
        raise UserError(
            f"config.hardware.mesh.{slow}={sizes.get(slow)}: --slices {wanted.slices} needs as many"
        )
    inside = [1 if axis == slow else size for axis, size in sizes.items()]
    between = [size if axis == slow else 1 for axis, size in sizes.items()]
    laid = mesh_utils.create_hybrid_device_mesh(
        inside, between, list(found), allow_split_physical_axes=True
    )
    return list(np.asarray(laid).ravel())


def spans(wanted: Slice, laid: Sequence[Any], sizes: dict[str, int]) -> dict[str, float]:
    """Return the links a chip has along each mesh axis, each one way, as they are laid out.

    An axis that closes into a ring along a torus dimension has two links there, one that is a
    line has one at its ends; an axis over several dimensions adds them up. The axis between
    slices, and one wider than the switch of a host, has 0: it uses the network.
    """
    count = math.prod(sizes.values())
    places = np.arange(count).reshape(list(sizes.values()))
    links = {}
    for index, (axis, size) in enumerate(sizes.items()):
        if size == 1:
            continue
        line = np.moveaxis(places, index, -1).reshape(-1, size)[0]
        links[axis] = _links(wanted, [laid[place] for place in line], line)
    return links


def _links(wanted: Slice, line: list[Any], places: np.ndarray) -> float:
    kind = wanted.kind
    if kind.dimensions == 0:
        hosts = {place // kind.chips_per_host for place in places}
        return 1.0 if len(hosts) == 1 else 0.0
    if len({getattr(device, "slice_index", None) for device in line}) > 1:
        return 0.0
    coordinates = np.array([device.coords[: len(wanted.topology)] for device in line])
    links = 0.0
    for side, closes, column in zip(wanted.topology, wanted.rings, coordinates.T, strict=True):
        width = len(set(column.tolist()))
        if width > 1:
            links += 2.0 if closes and width == side else 1.0
    return max(links, 1.0)  # two cores of one chip are closer than any link
