"""A run that was trained, here or elsewhere: its config and its parameters on this machine."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from ml_collections import ConfigDict

from research import config as configs
from research import defaults, optim, processes, programs, study
from research.errors import UserError
from research.run import checkpoint, storage


def load(folder: str | Path) -> tuple[ConfigDict, dict]:
    """Return a run's config and its newest parameters (their average, when one is kept).

    Raises:
        UserError: when the folder holds no run, or none of its checkpoints can be read.
    """
    folder, config = storage.path(folder), settings(folder)
    with _reading(folder / "config.json"):
        shapes = programs.saved(programs.build(config).state)
    found = checkpoint.restore_newest(checkpoint.reader(folder / "checkpoints"), shapes)
    if found is None:
        raise UserError(f"{folder} has no checkpoint that can be read; train it first")
    step, state, meta = found
    if meta.get("status") == "diverged":
        raise UserError(f"{folder} diverged at step {step}; there is nothing to sample")
    return config, processes.whole(optim.evaluated(config, state))


def settings(folder: str | Path) -> ConfigDict:
    """The config of a run, wherever it was trained, with hardware for this machine."""
    path = storage.path(folder) / "config.json"
    if not path.exists():
        raise UserError(f"{folder} is not a run folder: it has no config.json")
    content = configs.read(storage.path(folder))
    with _reading(path):
        return study.here(configs.from_plain(defaults.complete(content)))


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # whatever a family makes of a config that is none
        raise UserError(f"{path} is not the config of a run: {error}") from error
