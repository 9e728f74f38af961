"""Slices that are not here: their devices, how a mesh lies on them, what an axis can send."""

import importlib.util

import numpy as np
import pytest

from research import mesh
from research.dryrun import topology
from research.errors import UserError
from research.hardware import Slice, parse_slice

pytestmark = pytest.mark.usefixtures("libtpu")


def sizes(**wanted):
    return dict.fromkeys(mesh.AXES, 1) | wanted


@pytest.mark.parametrize("name", ["v4:2x2x2", "v5e:4x4", "v5p:2x2x2", "v6e:4x4", "tpu7x:2x2x1"])
def test_every_tpu_has_the_devices_it_says(name):
    wanted = parse_slice(name)
    found = topology.devices(wanted)
    assert len(found) == wanted.num_devices
    assert {tuple(device.coords)[: len(wanted.topology)] for device in found} == set(
        np.ndindex(*wanted.topology)
    )


def test_a_mesh_has_every_device_once_and_neighbours_on_its_last_axis():
    wanted = parse_slice("v5e:16x16")
    found = topology.devices(wanted)
    laid = topology.arrange(wanted, found, sizes(fsdp=64, tensor=4))
    assert {d.id for d in laid} == {d.id for d in found} and len(laid) == 256
    for group in np.array(laid).reshape(64, 4):
        places = np.array([device.coords for device in group])
        assert np.abs(np.diff(places, axis=0)).sum(1).tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    "name, wanted, links",
    [
        ("v5e:16x16", dict(fsdp=256), {"fsdp": 4}),  # both rings, both ways
        ("v5e:16x16", dict(data=16, fsdp=16), {"data": 2, "fsdp": 2}),
        ("v5e:16x16", dict(fsdp=64, tensor=4), {"fsdp": 3, "tensor": 1}),  # four of sixteen: a line
        ("v5e:4x4", dict(fsdp=16), {"fsdp": 2}),  # no side closes
        ("v5p:4x4x4", dict(fsdp=64), {"fsdp": 6}),
        ("h100:8", dict(fsdp=8), {"fsdp": 1}),
        ("h100:16", dict(fsdp=16), {"fsdp": 0}),  # two hosts
        ("h100:16", dict(data=2, fsdp=8), {"data": 0, "fsdp": 1}),
    ],
)
def test_links_along_an_axis(name, wanted, links):
    chosen = parse_slice(name)
    if chosen.kind.dimensions:
        found = topology.devices(chosen)
    else:
        found = list(range(chosen.num_devices))
    laid = topology.arrange(chosen, found, sizes(**wanted))
    assert topology.spans(chosen, laid, sizes(**wanted)) == links


def test_slices_meet_only_along_their_axis():
    wanted = Slice("v5e", (4, 4), slices=2)
    found = topology.devices(wanted)
    shape = sizes(slice=2, fsdp=16)
    laid = topology.arrange(wanted, found, shape)
    assert [{d.slice_index for d in half} for half in (laid[:16], laid[16:])] == [{0}, {1}]
    assert topology.spans(wanted, laid, shape) == {"slice": 0, "fsdp": 2}


@pytest.mark.parametrize("shape", [dict(slice=1, fsdp=32), dict(slice=4, fsdp=8)])
def test_the_slice_axis_has_a_place_for_each_slice(shape):
    wanted = Slice("v5e", (4, 4), slices=2)
    with pytest.raises(UserError, match="--slices 2 needs as many"):
        topology.arrange(wanted, topology.devices(wanted), sizes(**shape))


def test_a_missing_compiler_names_its_requirements_file(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install -r requirements-pods.txt"):
        topology.devices(parse_slice("v5e:4x4"))
