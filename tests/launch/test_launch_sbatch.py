"""What sbatch is given, by a stand-in that notes it: values of variables are in no script."""

import json
import os
import sys

import pytest

from launch.job import JobSpec
from launch.run import Element, argv
from launch.slurm import Slurm

STAND_IN = """\
import json, os, sys
from pathlib import Path

given = {"argv": sys.argv[1:], "script": Path(sys.argv[-1]).read_text()}
given["env"] = {name: os.environ.get(name) for name in ("TOKEN", "SBATCH_EXPORT")}
Path(__file__).with_name("given").write_text(json.dumps(given))
print("Submitted batch job 12")
"""
ENV = {"TOKEN": "hunter2 $(x)"}
WORDS = argv(Element("experiments/quickstart.py", "runs", 1))
SPEC = JobSpec("quickstart-0a1b", WORDS, env=("TOKEN",), array=("text-size16", "text-size24"))


@pytest.fixture
def sbatch(tmp_path, monkeypatch):
    (tmp_path / "sbatch.py").write_text(STAND_IN)
    for name in ("sbatch", "srun"):
        script = tmp_path / name
        script.write_text(f'#!/bin/sh\nexec {sys.executable} {tmp_path}/sbatch.py "$@"\n')
        script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.delenv("TOKEN", raising=False)
    return tmp_path


@pytest.mark.parametrize(
    ("site", "export"),
    [(None, "ALL,TOKEN"), ("NONE", "TOKEN"), ("PATH,HOME", "PATH,HOME,TOKEN")],
)
def test_values_go_by_the_environment(sbatch, monkeypatch, site, export):
    """A site's SBATCH_EXPORT would override what the script says, so it is said there."""
    if site:
        monkeypatch.setenv("SBATCH_EXPORT", site)
    else:
        monkeypatch.delenv("SBATCH_EXPORT", raising=False)
    backend = Slurm(logs_folder=str(sbatch / "logs"))
    assert backend.submit(SPEC, ENV) == ["12_0", "12_1"]
    given = json.loads((sbatch / "given").read_text())
    assert given["env"] == {"TOKEN": ENV["TOKEN"], "SBATCH_EXPORT": None}
    assert f"#SBATCH --export={export}\n" in given["script"] + backend.render(SPEC)
    holders = [path for path in sbatch.rglob("*") if path.is_file() and path.name != "given"]
    assert not [path for path in holders if b"hunter2" in path.read_bytes()]
    assert "hunter2" not in given["script"] + backend.render(SPEC) + " ".join(given["argv"])
    assert "TOKEN" not in os.environ and os.environ.get("SBATCH_EXPORT") == site
