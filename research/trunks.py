"""Trials that differ only in their horizon share a trunk, which grows as their study does."""

import collections
import copy
import dataclasses
import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from ml_collections import ConfigDict

from research import config as configs

HORIZON = ("budget", "train.steps", "train.decay_steps")  # the axes of which a trunk has none


@dataclass(frozen=True)
class Trial:
    """One run: a stable id, its complete config, and where on a trunk it starts.

    Attributes:
        trunk: id of the run whose state it continues, or None when it starts from step 0.
        branch_step: the step at which it leaves the trunk (0 without one).
        branches: steps at which others leave this run, when it is a trunk itself.
        stem: the id without its horizon: the same for every trial of a group.
    """

    id: str
    config: ConfigDict
    trunk: str | None = None
    branch_step: int = 0
    branches: tuple[int, ...] = ()
    stem: str = ""

    @property
    def steps_to_run(self) -> int:
        return self.config.train.steps - self.branch_step


Group = tuple[Trial, ...]


def share_trunks(trials: Sequence[Trial]) -> list[Group]:
    """Group trials that differ only in horizon behind one trunk of constant learning rate.

    A "wsd" run is the same as every longer one until its cooldown begins, so one trunk serves all
    horizons of a size (Haegele et al. 2024) and each trial trains its cooldown only, bit for bit
    the run it would have been from step 0.
    """
    groups: dict[str, list[Trial]] = {}
    for trial in trials:
        groups.setdefault(_trunk_key(trial), []).append(trial)
    shared = {key: group for key, group in groups.items() if len(group) > 1}
    stems = collections.Counter(group[0].stem for group in shared.values())
    names = {}
    for key, group in shared.items():
        stem = group[0].stem or group[0].id
        digest = hashlib.sha256(key.encode()).hexdigest()[:8]  # where a recipe reads the horizon
        names[key] = f"{stem}-{digest}-trunk" if stems[group[0].stem] > 1 else f"{stem}-trunk"
    return [
        _with_trunk(group, names[key]) if key in shared else tuple(group)
        for key, group in groups.items()
    ]


def _trunk_key(trial: Trial) -> str:
    config = copy.deepcopy(trial.config)
    if config.train.schedule != "wsd" or config.train.decay_steps == 0:
        return trial.id
    config.budget = None
    config.train.steps = config.train.decay_steps = None
    return str(configs.to_plain(config))


def _with_trunk(group: Sequence[Trial], name: str) -> Group:
    starts = {
        trial.id: trial.config.train.steps - trial.config.train.decay_steps for trial in group
    }
    longest = max(group, key=lambda trial: trial.config.train.steps)
    config = copy.deepcopy(longest.config)
    config.budget = None
    config.train.steps, config.train.decay_steps = max(starts.values()), 0
    trunk = Trial(name, config, branches=tuple(sorted(set(starts.values()))))
    branches = [dataclasses.replace(t, trunk=name, branch_step=starts[t.id]) for t in group]
    return (trunk, *sorted(branches, key=lambda trial: trial.config.train.steps))


def finished(folder: Path, trial: Trial) -> bool:
    """Whether a run of the study in `folder` has its result."""
    return (folder / trial.id / "result.json").exists()


def left(group: Group, over: Collection[str]) -> Group:
    """What is to run of `group` when the runs `over` have ended: no needless trunk among it.

    The trunk ends where the last of the trials that are left leaves it.
    """
    trials = [trial for trial in group if not trial.branches and trial.id not in over]
    if not (group[0].branches and trials):
        return tuple(trials)
    config = copy.deepcopy(group[0].config)
    config.train.steps = max(trial.branch_step for trial in trials)
    return (dataclasses.replace(group[0], config=config), *trials)
