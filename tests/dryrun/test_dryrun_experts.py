"""A device's share of a mixture: rows of each position, and what goes to other experts' devices."""

import pytest

from research import mesh
from research.dryrun import share, traffic
from tests import shapes

WIDTH, HIDDEN, LENGTH = 16, 64, 8


def of(**model):
    """The share of a device of two that have half of four experts each, and what it sends."""
    config = shapes.autoregressive(channel="moe", num_experts=4, length=LENGTH, **model)
    sizes = dict.fromkeys(mesh.AXES, 1) | {"expert": 2}
    found = share.share(config, sizes, share.read_state(config).leaves())
    assert found
    sent = traffic.ledger(found)
    return found, {kind: size for (axes, kind), size in sent.items() if axes == ("expert",)}


@pytest.mark.parametrize(
    "model, routed",
    [
        (dict(capacity_factor=1.0), 2),
        (dict(capacity_factor=1.0, shared_experts=3), 2),
        (dict(capacity_factor=0.0, experts_per_token=3, shared_experts=1), 3),
    ],
)
def test_a_position_reaches_its_experts_and_the_shared_ones(model, routed):
    found, _ = of(**model)
    assert found.routed == routed * WIDTH
    assert found.hidden == found.up == (routed + model.get("shared_experts", 0)) * HIDDEN


def test_where_nobody_is_dropped_all_positions_are_gathered():
    """Half of the batch's positions from the other device, there and back, and the gradients."""
    _, exchanged = of(capacity_factor=1.0)
    _, gathered = of(capacity_factor=0.0)
    half = 4 * 4 * LENGTH * WIDTH  # bytes of the positions of four examples
    layers = 2
    assert exchanged["all-to-all"] - gathered["all-to-all"] == layers * 4 * 2 * half / 2
    for kind in ("all-gather", "reduce-scatter"):
        assert gathered[kind] - exchanged[kind] == layers * 2 * half
