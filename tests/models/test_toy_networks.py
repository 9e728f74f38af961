"""Somebody's own attention and somebody's own network: one file each, counted by the ledger."""

import pytest

from research import cost
from tests import shapes


@pytest.mark.parametrize(
    "config",
    [
        shapes.autoregressive(attention="tests.toys.strided_attention", stride=3),
        shapes.diffusion(network="tests.toys.conv_net"),
    ],
    ids=["attention", "network"],
)
def test_a_toy_is_counted(config):
    """And trained, swept, sampled and reported in test_toys."""
    ledger = cost.ledger(config)
    assert ledger.tokens in (8, 64) and ledger.total_params == sum(ledger.params.values())
    # Nobody asks for the gradient of the image, which only a convolution can leave out.
    idle = ledger.forward_flops.get("in", 0)
    assert ledger.step_flops == (3 * ledger.flops - idle) * config.train.batch_size
