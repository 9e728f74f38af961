"""What the tests of reliability share: the tiny study and run, left undisturbed."""

import logging
import os
import sys

import filelock
import pytest

from research import runtime, study
from research.train import train
from tests import tiny


@pytest.fixture(autouse=True)
def as_at_the_front_door(monkeypatch):
    """Runs inside this process log as `main` does, and keep the tests' compilation cache."""
    monkeypatch.setattr(runtime, "prepare", lambda folder: None)
    loggers = [logging.getLogger(name) for name in ("absl", "asyncio")]
    levels, hook = [logger.level for logger in loggers], sys.unraisablehook
    runtime.set_up_logging()
    yield
    sys.unraisablehook = hook
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


@pytest.fixture(scope="session")
def base(tmp_path_factory):
    """A folder for all tests of this folder, whichever pytest worker runs them."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    folder /= "reliability"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def undisturbed(base):
    """What the tiny study leaves when nobody disturbs it."""
    with filelock.FileLock(base / ".lock"):
        code, out, err = tiny.research(
            "sweep", "--config", tiny.write(base, tiny.TWO_SIZES), "--workdir", str(base)
        )
    assert (code, err) == (0, []), err
    return tiny.left(base / "tiny")


@pytest.fixture
def workdir(base, tmp_path):
    """A folder for studies that shares the compiled programs of the others."""
    (tmp_path / ".cache").symlink_to(base / ".cache")
    return tmp_path


@pytest.fixture
def config(tmp_path):
    """The config of one run of 25 steps."""
    return study.load_config(tiny.write(tmp_path))


@pytest.fixture(scope="session")
def whole(tmp_path_factory):
    """What that run leaves when nobody disturbs it."""
    folder = tmp_path_factory.mktemp("whole")
    train(study.load_config(tiny.write(folder)), folder / "run")
    return tiny.left(folder)["run"]
