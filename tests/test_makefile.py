"""`make` installs once, again when a requirements file changes, and says what it needs."""

import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
VERSION = sysconfig.get_python_version()


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run make in the repository, without the options of a make that runs the tests."""
    inherited = ("MAKEFLAGS", "MAKELEVEL", "MFLAGS", "MAKEOVERRIDES", "PYTHON", "VENV", "WORKERS")
    environment = {k: v for k, v in os.environ.items() if k not in inherited}
    return subprocess.run(
        ["make", "--no-print-directory", *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.fixture
def installed(tmp_path: Path) -> list[str]:
    """Options of a make whose environment is complete."""
    for stamp in (f".made-{VERSION}", ".installed", ".installed-dev"):
        (tmp_path / stamp).touch()
        os.utime(tmp_path / stamp, (4e9, 4e9))  # newer than any requirements file
    return [f"PYTHON={sys.executable}", f"VENV={tmp_path}"]


def test_help_lists_every_target():
    described = re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.M)
    listed = re.findall(r"^  make ([a-z-]+) ", make().stdout, re.M)
    assert listed == described
    assert {"help", "demo", "test", "bench", "lint", "notebooks"} <= set(listed)


def test_a_complete_environment_is_left_alone(installed):
    for target in ("demo", "test", "bench", "lint", "notebooks"):
        commands = make("-n", target, *installed).stdout
        assert "pip" not in commands and "venv --clear" not in commands, commands


def test_every_study_of_autoregressive_models_is_swept_once(installed):
    commands = make("-n", "studies-ar", "WORKERS=3", *installed).stdout
    names = re.search(r"for study in ([\w ]+); do", commands)
    assert names and len(set(names[1].split())) == len(names[1].split()) == 11
    assert "sweep --config experiments/$study.py --workdir runs --workers 3; done" in commands
    assert "set -e;" in commands  # a study that fails is not passed over


def test_changed_requirements_are_installed_again(installed):
    user = make("-n", "-W", "requirements.txt", "demo", *installed).stdout
    assert user.count("-r requirements.txt") == 1 and "-r requirements-dev.txt" not in user
    both = make("-n", "-W", "requirements.txt", "test", *installed).stdout
    assert both.count("-r requirements.txt") == 1 and both.count("-r requirements-dev.txt") == 1
    dev = make("-n", "-W", "requirements-dev.txt", "test", *installed).stdout
    assert "-r requirements.txt" not in dev and dev.count("-r requirements-dev.txt") == 1
    assert "pip" not in make("-n", "-W", "requirements-dev.txt", "demo", *installed).stdout


def test_another_python_makes_the_environment_afresh(installed, tmp_path):
    (tmp_path / f".made-{VERSION}").rename(tmp_path / ".made-3.9")
    commands = make("-n", "demo", *installed).stdout
    assert f"-m venv --clear {tmp_path}" in commands and "-r requirements.txt" in commands


def test_each_python_has_its_environment():
    assert (
        f".venv-{VERSION}/bin/python -m pytest"
        in make("-n", "test", f"PYTHON={sys.executable}").stdout
    )
    assert "\n.venv/bin/python -m pytest" in make("-n", "test").stdout


@pytest.mark.parametrize("found", [(3, 10), (2, 7), None])
def test_an_old_or_absent_python_is_one_clear_line(tmp_path, found):
    python = tmp_path / "oldpython"
    if found:
        # This Python, taken for an old one; it would make a folder when asked for an environment.
        answer = 'exec(sys.argv[2]) if sys.argv[1] == "-c" else os.mkdir(sys.argv[-1])'
        python.write_text(
            f"#!{sys.executable}\nimport os, sys\nsys.version_info = {(*found, 0)}\n{answer}\n"
        )
        python.chmod(0o755)
    result = make("demo", f"PYTHON={python}", f"VENV={tmp_path}/venv")
    named = "{}.{}".format(*found) if found else "not there"
    assert result.returncode == 2
    assert f"{python} is {named}; Python 3.11 or newer is needed" in result.stderr
    assert result.stderr.count("error:") == 1
    assert not (tmp_path / "venv").exists()
