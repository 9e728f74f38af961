"""A run that was trained, here or elsewhere: its config and its parameters on this machine."""

import contextlib
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from research import config as configs
from research import defaults, optim, processes, programs, study
from research.errors import UserError
from research.optim import power_average
from research.optim.power_average import Profile
from research.run import checkpoint, snapshots, storage


class Trained(NamedTuple):
    """A run as its newest checkpoint has it.

    Attributes:
        folder: of the run.
        config: with hardware for this machine.
        step: steps that the state has behind it.
        state: as `programs` lays it out.
        snapshots: {step: folder} of its averages before.
    """

    folder: Path
    config: ConfigDict
    step: int
    state: dict[str, Any]
    snapshots: dict[int, Path]


def load(folder: str | Path, ema: float | None = None) -> tuple[ConfigDict, dict]:
    """Return a run's config and its newest parameters (their average, when one is kept).

    Args:
        ema: the relative width of another average, made of those of `config.train.ema_widths`.

    Raises:
        UserError: when the folder holds no run, none of its checkpoints can be read, or it keeps
            nothing to make that average of.
    """
    found = newest(folder)
    return found.config, parameters(found) if ema is None else averages(found, [ema])[0]


def newest(folder: str | Path) -> Trained:
    """The run in `folder` as its newest sound checkpoint has it.

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
    kept = snapshots.kept(folder, step, meta.get("branch", ("", 0)))
    return Trained(folder, config, step, state, kept)


def width(asked: str) -> float | None:
    """What `--ema` says: a relative width, or nothing.

    Raises:
        UserError: when it is no number.
    """
    try:
        return float(asked) if asked else None
    except ValueError:
        raise UserError(f"--ema {asked}: give a relative width such as 0.07") from None


def parameters(found: Trained) -> Any:
    """Those with which the run is scored and sampled."""
    return processes.whole(optim.evaluated(found.config, found.state))


def profiles(found: Trained) -> list[Profile]:
    """The averages that a run has stored, the newest ones last.

    Raises:
        UserError: when it keeps none.
    """
    widths = found.config.train.ema_widths
    if not widths:
        raise UserError(
            f"--ema: {found.folder} keeps no averages of which others are made; train it with "
            f"--config.train.ema_widths={','.join(map(str, power_average.USUAL))}"
        )
    steps = [*sorted({*found.snapshots} - {found.step}), found.step]
    return [Profile(step, width) for step in steps for width in widths]


def averages(found: Trained, widths: Sequence[float]) -> list[Any]:
    """The parameters averaged over each of the relative `widths` of the run to its checkpoint.

    Each snapshot is read once; as many copies of the parameters are held as there are widths.

    Raises:
        UserError: when what the run has stored does not give a width.
    """
    stored = profiles(found)
    names = [str(each) for each in found.config.train.ema_widths]
    factors = np.array([_factors(found, stored, width) for width in widths], np.float32)
    factors_SxNxW = factors.T.reshape(-1, len(names), len(widths))
    steps = sorted({each.step for each in stored})
    shapes = programs.build(found.config).state["averages"]
    readers = {home: checkpoint.reader(home) for home in {*found.snapshots.values()}}
    totals = [None] * len(widths)
    for step, factors_NxW in zip(steps, factors_SxNxW, strict=True):
        kept = found.state["averages"]
        if step != found.step:
            kept = snapshots.read(readers[found.snapshots[step]], step, shapes)
        for name, each in zip(names, factors_NxW, strict=True):
            totals = [_added(total, kept[name], x) for total, x in zip(totals, each, strict=True)]
    return [processes.whole(optim.merged(total, found.state["params"])) for total in totals]


def _factors(found: Trained, stored: list[Profile], width: float) -> np.ndarray:
    """What the `stored` averages are multiplied by for a width, [S]."""
    factors, error = np.zeros(len(stored)), math.inf
    if power_average.NARROWEST <= width <= power_average.WIDEST:
        factors, error = power_average.coefficients(stored, Profile(found.step, width))
    if error > power_average.LIMIT:
        low, high = power_average.reach(stored, found.step)
        raise UserError(
            f"--ema {width}: the averages that {found.folder} has stored give widths from "
            f"{low:.3g} to {high:.3g}; another needs another of config.train.ema_widths"
        )
    return factors


@jax.jit
def _added(total: Any, average: Any, factor: Any) -> Any:
    if total is None:
        return jax.tree.map(lambda x: factor * x, average)
    return jax.tree.map(lambda so_far, x: so_far + factor * x, total, average)


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
