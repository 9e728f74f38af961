"""The shapes that ship: their published sizes, a dry run each, ledgers against a compiler."""

import json
import math

import pytest

from research import cost, study
from research.__main__ import main
from research.dryrun import command, price
from research.dryrun.estimate import estimate

PUBLISHED = {
    "lm_1b": 1_100_048_384,  # TinyLlama
    "lm_7b": 6_738_415_616,  # Llama-2 7B
    "lm_70b": 68_976_648_192,  # Llama-2 70B
    "moe_8x7b": 46_702_792_704,  # Mixtral 8x7B
    # DiT-XL/2 of the paper has fixed positions among its parameters, a fourth channel going in,
    # and coming out one more channel and a variance for each.
    "dit_xl": 675_129_632 - 256 * 1152 - 4 * 1152 - 20 * 1153,
}
NARROW = ["--config.model.depth=2", "--config.model.width=64"]
TEXT = ["--config.model.num_heads=8", "--config.model.vocab_size=256", "--config.data.length=32"]
TEXT += ["--config.hardware.attention=chunked"]  # so short a text has no tiles
SMALL = ["--config.model.depth=4", "--config.model.width=1024", "--config.model.num_heads=16"]
SMALL += ["--config.data.length=1024", "--config.hardware.attention=chunked"]
SMALL += ["--config.train.batch_size=16", "--config.evaluation.batch_size=16"]
EVERY = ["--config.train.batch_size=16", "--config.evaluation.batch_size=16"]


def load(name, *flags, chips=8):
    spec = f"experiments/{name}.py"
    return study.load_config(spec, flags, num_devices=chips, prepared=False)


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_are_those_published(name):
    config = load(name)
    assert cost.ledger(config).total_params == PUBLISHED[name]


def test_a_position_meets_two_of_eight_experts():
    assert cost.ledger(load("moe_8x7b")).active_params == 12_879_925_248  # Mixtral's


def test_seven_billion_of_diffusion():
    config = load("dit_7b")
    assert 6.9e9 < cost.ledger(config).total_params < 7.1e9


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lm_7b", "lm_70b", "moe_8x7b", "dit_7b"])  # others: below
def test_every_shape_dry_runs_on_a_small_slice(name, capsys):
    """Two layers, narrow, on eight cores: the whole answer, with nothing unknown."""
    narrow = [*NARROW, *EVERY, *([] if name.startswith("dit") else TEXT)]
    words = ["--topology", "cpu:8", *narrow]
    assert main(["dryrun", "--config", f"experiments/{name}.py", *words, "--json", "--fast"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["per_chip"]["fits"] and found["unknown"] == []
    assert 0 < found["step"]["mfu_bound"] <= 1 and found["run"]["chip_hours"] > 0


@pytest.mark.slow
@pytest.mark.usefixtures("libtpu")
@pytest.mark.parametrize(
    "name, slice_, batch", [("lm_1b", "v5e:2x4", 16), ("dit_xl", "v5e:2x2", 32)]
)
def test_ledgers_agree_with_the_tpu_compiler(name, slice_, batch):
    """At full size: the peak within 15%, parameters gathered to within 20% of what is read."""
    wanted = command.parse(slice_, 1)
    flags = [f"--config.{part}.batch_size={batch}" for part in ("train", "evaluation")]
    found = estimate(load(name, *flags, chips=wanted.num_chips), wanted, price.load(), fast=True)
    assert found.fits and found.peak is not None and found.read is not None
    assert abs(found.counted / found.peak - 1) < 0.15
    gathered = (("fsdp",), "all-gather")
    assert abs(found.ledger[gathered] / found.read[gathered] - 1) < 0.2


@pytest.mark.slow
@pytest.mark.usefixtures("libtpu")
@pytest.mark.parametrize(
    "name, sizes",
    [
        ("lm_1b", "data=2,tensor=4"),
        ("lm_1b", "stage=2,data=4"),
        ("moe_8x7b", "expert=4,fsdp=2"),
    ],
)
def test_every_axis_moves_what_is_counted(name, sizes):
    """Within 1% of what libtpu's program moves; how it sums gradients is its own choice."""
    wanted = command.parse("v5e:2x4", 1)
    found = estimate(load(name, *command.mesh_flags(sizes, wanted), *SMALL), wanted, price.load())
    kinds = ("all-gather", "all-to-all", "collective-permute")
    counted = {key: sent for key, sent in found.ledger.items() if key[1] in kinds}
    assert counted
    for key, sent in counted.items():
        assert math.isclose(sent, found.read[key], rel_tol=0.01), key
