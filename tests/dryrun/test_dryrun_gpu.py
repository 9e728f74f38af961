"""GPUs that are not here, compiled for; needs an extra (requirements-gpus.txt) and says so."""

import json
import subprocess
import sys

import pytest

from research.dryrun import gpu
from tests.tiny import ROOT

BIG = ["dryrun", "--config", "experiments/lm_1b.py", "--config.hardware.attention=chunked"]
SMALL = ["--config.model.depth=2", "--config.model.width=256", "--config.model.num_heads=8"]
SMALL += ["--config.train.batch_size=16", "--config.evaluation.batch_size=16"]


@pytest.mark.skipif(not gpu.compiles(), reason="no XLA for NVIDIA here (requirements-gpus.txt)")
@pytest.mark.parametrize(
    "slice_, sizes", [("h100:8", "fsdp=8"), ("h100:16", "data=2,fsdp=8"), ("a100:8", "fsdp=8")]
)
def test_a_gpu_is_compiled_for(slice_, sizes):
    """Nothing is unknown, parameters cross the network as counted, and stderr stays quiet."""
    command = [sys.executable, "-m", "research", *BIG, *SMALL, "--topology", slice_]
    done = subprocess.run(
        [*command, "--mesh", sizes, "--json"], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert done.stderr == ""
    found = json.loads(done.stdout)
    assert found["unknown"] == [] and found["per_chip"]["fits"]
    sent = {(*each["axes"], each["kind"]): each for each in found["collectives"]}
    scattered = sent["fsdp", "reduce-scatter"]
    assert scattered["compiled_bytes"] == pytest.approx(scattered["ledger_bytes"], rel=0.01)


def test_a_target_names_its_gpu():
    for name, seen in gpu.SEEN.items():
        text = gpu.TARGET.format(bandwidth=1, **seen)
        assert name.upper() in text and text.count("{") == text.count("}") == 3
