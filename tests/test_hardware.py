"""Chips and slices: what is sold, what closes into rings, and what a mistake is told."""

import math

import pytest

from research.errors import UserError
from research.hardware import CHIPS, PEAK_FLOPS, Slice, check_slice, parse_slice, shapes

TPUS = [name for name, chip in CHIPS.items() if chip.dimensions]


def test_every_chip_has_its_numbers():
    assert {*CHIPS} == {"v4", "v5e", "v5p", "v6e", "tpu7x", "h100", "a100", "cpu"}
    for name, chip in CHIPS.items():
        assert chip.flops == PEAK_FLOPS[name]
        # HBM is faster than the links, the links than the network between slices.
        ports = chip.link_bandwidth * max(1, 2 * chip.dimensions)
        assert chip.memory_bandwidth >= ports > chip.network_bandwidth > 0


@pytest.mark.parametrize(
    "chip, bidirectional", [("v5e", 400e9), ("v5p", 1200e9), ("v6e", 800e9), ("tpu7x", 1200e9)]
)
def test_links_add_up_to_what_is_published_both_ways(chip, bidirectional):
    kind = CHIPS[chip]
    assert 2 * (2 * kind.dimensions) * kind.link_bandwidth == bidirectional


@pytest.mark.parametrize("chip", TPUS)
def test_what_is_sold_passes_and_fits_a_pod(chip):
    sold = shapes(chip)
    assert len(set(sold)) == len(sold)
    for shape in sold:
        assert check_slice(Slice(chip, shape)).num_chips <= CHIPS[chip].pod
    assert max(math.prod(shape) for shape in sold) == CHIPS[chip].pod


@pytest.mark.parametrize(
    "text, rings",
    [
        ("v5e:16x16", (True, True)),
        ("v5e:8x16", (False, True)),
        ("v5e:4x4", (False, False)),
        ("v4:4x4x8", (True, True, True)),
        ("v4:2x4x4", (False, False, False)),
    ],
)
def test_rings(text, rings):
    assert parse_slice(text).rings == rings


def test_devices_and_slices_are_counted():
    two = Slice("tpu7x", (2, 2, 1), slices=2)
    assert (two.num_chips, two.num_devices, str(two)) == (8, 16, "2 x tpu7x:2x2x1")


@pytest.mark.parametrize(
    "text, said",
    [
        ("v5e:16x15", "nearest: v5e:16x16"),
        ("v5e:3x3", "nearest: v5e:4x4"),
        ("v5e:32x16", "nearest: v5e:16x16"),
        ("v5p:8x8x6", "nearest: v5p:8x8x8"),
        ("v5p:8x8", "no v5p slice has this shape"),
        ("v4:16x16x24", "nearest: v4:16x16x16"),
        ("h100:8x8", "h100:8"),
        ("v5:4x4", "no chip 'v5' (did you mean 'v5"),
        ("v5e:four", "expected CHIP:TOPOLOGY"),
    ],
)
def test_a_slice_that_is_not_sold(text, said):
    with pytest.raises(UserError) as caught:
        check_slice(parse_slice(text, "--topology"))
    assert said in str(caught.value) and str(caught.value).startswith("--topology")
