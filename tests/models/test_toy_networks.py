"""Somebody's own attention and somebody's own network: one file each, trained and counted."""

import jax
import pytest

from research import cost, programs
from research.train import train
from tests import shapes


@pytest.mark.parametrize(
    "config",
    [
        shapes.autoregressive(attention="tests.toys.strided_attention", stride=3),
        shapes.diffusion(network="tests.toys.conv_net"),
    ],
    ids=["attention", "network"],
)
def test_a_toy_trains_and_is_counted(config, tmp_path, data_folder):
    config.data.folder = str(data_folder)
    ledger = cost.ledger(config)
    assert ledger.tokens in (8, 64) and ledger.total_params == sum(ledger.params.values())
    # Nobody asks for the gradient of the image, which only a convolution can leave out.
    idle = ledger.forward_flops.get("in", 0)
    assert ledger.step_flops == (3 * ledger.flops - idle) * config.train.batch_size
    result = train(config, tmp_path / "run")
    assert result["status"] == "finished" and result["score"]["value"] > 0
    assert jax.tree.leaves(programs.build(config).state)
