"""Jobs and options are checked before anything is sent, in one line that names the culprit."""

import dataclasses
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launch import backends, job, tpu
from launch.job import JobSpec
from launch.tpu_vm import TpuVm
from research import hardware
from research.errors import UserError

SPEC = JobSpec("lm-0a1b", ("-m", "launch.run", "--group"), array=("a", "b"))
words = st.text(st.characters(codec="utf-8"), max_size=60)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "Lm"}, "job name 'Lm': expected at most 40 lower-case letters"),
        ({"name": "a" * 41}, "expected at most 40"),
        ({"name": "lm-"}, "no hyphen last"),
        ({"argv": ()}, "job lm-0a1b: argv is empty"),
        ({"array": ()}, "job lm-0a1b: array is empty"),
        ({"array": ("a", "b", "a")}, "array holds 'a' twice"),
        ({"array": ("a\nb",)}, "a word of its command holds a line break"),
        ({"env": ("A-B",)}, "--env A-B: not the name of an environment variable"),
        ({"array": ("--config=x.py",)}, "'--config=x.py' cannot be the id of a run"),
        ({"array": ("..",)}, "'..' cannot be the id of a run"),
        ({"hosts": True}, "--hosts True: expected a whole number"),
        ({"restarts": "3; exit"}, "--restarts '3; exit': expected a whole number"),
        ({"restarts": 10**9}, "--restarts 1000000000 must be at most"),
        ({"image": "--privileged"}, "--image '--privileged': expected letters"),
        ({"slices": 0}, "--slices 0 must be at least 1"),
        ({"hosts": 0}, "--hosts 0 must be at least 1"),
        ({"timeout": -1}, "--timeout -1 must be at least 0"),
        ({"restarts": -1}, "--restarts -1 must be at least 0"),
        ({"topology": "4x4"}, "--topology: 'cpu' with '4x4'"),
        ({"accelerator": "v5e"}, "--topology: 'v5e' with ''"),
    ],
)
def test_bad_jobs(changes, message):
    with pytest.raises(UserError, match=message):
        dataclasses.replace(SPEC, **changes)


def test_a_job_is_frozen_and_says_what_each_element_runs():
    with pytest.raises(dataclasses.FrozenInstanceError):
        SPEC.slices = 2  # type: ignore[misc]
    assert SPEC.command(1) == ("-m", "launch.run", "--group", "b")
    assert SPEC.element(1) == "lm-0a1b-1"
    pod = dataclasses.replace(SPEC, accelerator="v5e", topology="4x4", slices=3, hosts=4)
    assert pod.processes == 12


@given(st.integers(0, 999_999), st.sampled_from(["", *job.UNITS]))
def test_minutes(number, unit):
    assert job.minutes(f"{number}{unit}") == number * job.UNITS.get(unit, 1)


@given(words)
def test_minutes_of_anything_else(text):
    if not re.fullmatch(r"\d{1,6}[mhd]?", text.strip()):
        with pytest.raises(UserError, match="--timeout"):
            job.minutes(text)


@given(words)
def test_labels_are_valid_names(text):
    """Whatever a study is called, its jobs get a name that every queue takes."""
    name = job.label(text, "0a1b")
    assert dataclasses.replace(SPEC, name=name).name.endswith("-0a1b")


def test_a_label_is_readable():
    assert job.label("quickstart_lr", "0a1b") == "quickstart-lr-0a1b"


# Backends and their options.


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "slrum",
            {},
            "--backend 'slrum' .did you mean 'slurm'..; one of local, slurm, tpu-vm, gke",
        ),
        ("tpu_vm", {}, "did you mean 'tpu-vm'"),
        ("slurm", {"partion": "gpu"}, "--backend slurm has no option 'partion'.*'partition'"),
        ("tpu-vm", {"project": "lab"}, "--zone is missing: zone that has the chips"),
    ],
)
def test_bad_backends(name, options, message):
    with pytest.raises(UserError, match=message):
        backends.make(name, options)


names = st.from_regex(r"[a-z0-9]{1,9}", fullmatch=True)


@given(st.builds(TpuVm, names, names, st.booleans(), poll=st.integers(0, job.LARGEST)))
def test_a_backend_is_made_again_from_its_options(backend):
    """As `sweep status` does, from jobs.json."""
    assert backends.make(backends.name_of(backend), vars(backend)) == backend


# TPU slices: machines and names, as Google's documentation has them.


@pytest.mark.parametrize(
    ("chips", "hosts", "kind", "label"),
    [
        ("v4:2x2x1", 1, "v4-8", "tpu-v4-podslice"),
        ("v4:4x4x8", 32, "v4-256", "tpu-v4-podslice"),
        ("v5e:1x1", 1, "v5litepod-1", "tpu-v5-lite-podslice"),
        ("v5e:2x4", 1, "v5litepod-8", "tpu-v5-lite-podslice"),
        ("v5e:4x4", 4, "v5litepod-16", "tpu-v5-lite-podslice"),
        ("v5e:16x16", 64, "v5litepod-256", "tpu-v5-lite-podslice"),
        ("v5p:2x2x1", 1, "v5p-8", "tpu-v5p-slice"),
        ("v5p:8x8x8", 128, "v5p-1024", "tpu-v5p-slice"),
        ("v6e:2x4", 1, "v6e-8", "tpu-v6e-slice"),
        ("v6e:8x8", 16, "v6e-64", "tpu-v6e-slice"),
        ("tpu7x:4x4x4", 16, None, "tpu7x"),
    ],
)
def test_slices(chips, hosts, kind, label):
    chip, _, topology = chips.partition(":")
    assert tpu.hosts(chip, topology) == hosts
    assert tpu.kind(chip).label == label
    assert kind is None or tpu.accelerator_type(chip, topology) == kind


def test_every_tpu_of_the_project_has_its_names():
    others = {"a100", "h100", "cpu"}
    assert set(tpu.KINDS) == set(hardware.PEAK_FLOPS) - others
