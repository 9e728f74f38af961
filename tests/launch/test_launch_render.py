"""What each backend would submit, to the letter. UPDATE_GOLDEN=1 writes the files anew."""

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from launch.gke import Gke
from launch.job import JobSpec
from launch.slurm import Slurm
from launch.tpu_vm import TpuVm

GOLDEN = Path(__file__).parent / "golden"
RUN = ("-m", "launch.run", "--config", "experiments/lm.py", "--workdir", "gs://bucket/runs")
ONE = JobSpec("lm-0a1b", (*RUN, "--processes", "1", "--group"), array=("text-size64",))
TPUS = JobSpec(
    "lm-0a1b",
    (*RUN, "--processes", "32", "--config.model.depth=6", "--group"),
    env=("LIBTPU_INIT_ARGS",),
    accelerator="v5e",
    topology="8x8",
    slices=2,
    hosts=16,
    timeout=720,
    restarts=5,
    array=("text-size64-trunk", "text-size96-trunk"),
)
POD = {**TPUS.__dict__, "image": "lab/isoflop:0a1b"}
GPUS = {**TPUS.__dict__, "accelerator": "h100", "topology": "16", "slices": 1, "hosts": 2}
CLOUD: dict[str, Any] = {"project": "lab", "zone": "us-west4-a", "revision": "0" * 40}
ACCOUNT = "runner@lab.iam.gserviceaccount.com"
CASES = {
    "slurm_one.sh": (Slurm(), ONE),
    "slurm_gpus.sh": (
        Slurm("gpu", "lab", "long", 16, 200, parallel=8, warning=300),
        JobSpec(**GPUS),
    ),
    "tpu_vm_one.sh": (
        TpuVm(**CLOUD, spot=True),
        JobSpec("lm-0a1b", RUN, accelerator="v5e", topology="2x4", array=("text-size64",)),
    ),
    "tpu_vm_slices.sh": (TpuVm(**CLOUD, reserved=True, service_account=ACCOUNT), TPUS),
    "gke_slices.yaml": (Gke(queue="tpus", service_account="runner"), JobSpec(**POD)),
    "gke_spot.yaml": (
        Gke(spot=True),
        JobSpec(**{**POD, "topology": "4x4", "slices": 1, "hosts": 4, "timeout": 0, "env": ()}),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_render(name, monkeypatch):
    monkeypatch.chdir("/")
    monkeypatch.setattr(sys, "executable", "/usr/bin/python3")
    backend, spec = CASES[name]
    text = backend.render(spec)
    assert text == backend.render(spec) and text.endswith("\n") and not text.endswith("\n\n")
    path = GOLDEN / name
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(text)
    assert text == path.read_text()


def test_no_golden_file_is_left_over():
    assert sorted(path.name for path in GOLDEN.iterdir()) == sorted(CASES)
