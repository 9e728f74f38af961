"""A study is a config and some axes: here they become trials, and trials that share a trunk."""

import copy
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import jax
from ml_collections import ConfigDict

from research import config as configs
from research import data, families, mesh, optim, recipes
from research.errors import UserError, nearest
from research.models.attention import KINDS, TILE
from research.models.transformer import REMAT_POLICIES
from research.run import files, record

RANGES = {  # [low, high) of keys outside config.train, by section
    "": {"seed": (0, 2**32), "log_steps": (1, math.inf)},
    "evaluation": {"batch_size": (1, math.inf), "examples": (1, math.inf)},
    "checkpoint": {
        "keep": (1, math.inf),
        "every_steps": (0, math.inf),
        "every_seconds": (0, math.inf),
    },
    "sampling": {"num": (0, math.inf)},
    "hardware": {
        "unroll": (1, math.inf),
        "accumulation": (1, 2**31),
        "microbatches": (0, 2**31),
        "loss_chunks": (1, 2**31),
    },
}
CHOICES = {  # of keys of config.hardware
    "remat": tuple(REMAT_POLICIES),
    "attention": tuple(KINDS),
    "compute_dtype": ("float32", "bfloat16"),
}


@dataclass(frozen=True)
class Trial:
    """One run: a stable id, its complete config, and where on a trunk it starts.

    Attributes:
        trunk: id of the run whose state it continues, or None when it starts from step 0.
        branch_step: the step at which it leaves the trunk (0 without one).
        branches: steps at which others leave this run, when it is a trunk itself.
    """

    id: str
    config: ConfigDict
    trunk: str | None = None
    branch_step: int = 0
    branches: tuple[int, ...] = ()

    @property
    def steps_to_run(self) -> int:
        return self.config.train.steps - self.branch_step


@dataclass(frozen=True)
class Study:
    """The trials of an experiment file, grouped: each group is a trunk first, then its branches."""

    name: str
    docstring: str
    groups: tuple[tuple[Trial, ...], ...]
    parts: dict[str, dict]

    @property
    def trials(self) -> list[Trial]:
        """Every run that gives a result; trunks are left out."""
        return [trial for group in self.groups for trial in group if not trial.branches]


def load(
    spec: str, flags: Sequence[str] = (), *, num_devices: int | None = None, prepared: bool = True
) -> Study:
    """Return the study of an experiment file, every config complete and checked.

    Args:
        spec: `file.py`, or `file.py:part` for one part of it.
        flags: overrides such as `--config.train.clip_norm=0.5`; they win over axes and recipes.
        num_devices: how many the meshes are for; this machine's by default.
        prepared: False takes what the data look like from their settings and prepares nothing.

    Raises:
        UserError: for anything in the file or the flags that could not be run.
    """
    module, part = configs.load_experiment(spec)
    groups: list[tuple[Trial, ...]] = []
    described = {}
    for name in configs.parts(module, part):
        with configs.naming(spec):
            all_axes = [dict(axes) for axes in module.get_trials(name)]
        if not all_axes:
            raise UserError(f"{spec}: get_trials({name!r}) gives no trials")
        trials = [
            _trial(module, spec, name, axes, flags, num_devices, prepared) for axes in all_axes
        ]
        described[name] = {**module.PARTS[name], "trials": len(trials)}
        groups += share_trunks(trials)
    study = Study(Path(spec.partition(":")[0]).stem, module.__doc__ or "", tuple(groups), described)
    ids = [trial.id for trial in study.trials]
    repeated = {name for name in ids if ids.count(name) > 1}
    if repeated:
        raise UserError(f"{spec}: two trials have the id {min(repeated)!r}; the axes must differ")
    return study


def load_config(
    spec: str, flags: Sequence[str] = (), *, num_devices: int | None = None, prepared: bool = True
) -> ConfigDict:
    """Return the config of one run: an experiment's first part, or the named one; see `load`."""
    module, part = configs.load_experiment(spec)
    with configs.naming(spec):
        config = module.get_config(part or next(iter(module.PARTS)))
    configs.override(config, flags)
    return check(recipes.apply(config), num_devices, prepared)


def _trial(
    module: ModuleType,
    spec: str,
    part: str,
    axes: dict,
    flags: Sequence[str],
    num_devices: int | None,
    prepared: bool,
) -> Trial:
    with configs.naming(spec):
        config = module.get_config(part)
    settings = [f"--config.{key}={value!r}" for key, value in axes.items()]
    configs.override(config, [flag.replace("'", "") for flag in settings])
    configs.override(config, flags)
    words = [f"{key.rpartition('.')[2]}{_short(value)}" for key, value in axes.items()]
    name = re.sub(r"[^\w.+-]", "_", "-".join([part, *words]))  # it becomes a folder's name
    return Trial(name, check(recipes.apply(config), num_devices, prepared))


def _short(value) -> str:
    return f"{value:.3g}".replace("e+", "e") if isinstance(value, float) else str(value)


def check(config: ConfigDict, num_devices: int | None = None, prepared: bool = True) -> ConfigDict:
    """Raise UserError for whatever is wrong with a complete config, before any compile."""
    family = families.load(config.family)
    if config.part:
        files.check_name(config.part, "config.part:")
    for section, ranges in RANGES.items():
        tree = config[section] if section else config
        configs.check_ranges(tree, f"config.{section}" if section else "config", ranges)
    if prepared:
        spec = _spec(str(configs.to_plain(config.data)), config.data)
    else:
        spec = data.outline(config.data)
    if hasattr(family, "check"):
        family.check(config, spec)
    examples = spec["unique"] // spec.get("length", 1) if prepared else math.inf
    if config.train.batch_size > examples:
        raise UserError(
            f"config.train.batch_size={config.train.batch_size} is larger than the {examples} "
            f"examples of {config.data.name}"
        )
    optim.check(config.train)
    check_hardware(config, num_devices or len(jax.devices()))
    return config


def check_hardware(config: ConfigDict, num_devices: int) -> None:
    """Raise UserError for a `config.hardware` that `num_devices` or the network do not allow."""
    hardware, depth = config.hardware, config.model.get("depth", 1)
    for key, choices in CHOICES.items():
        if hardware[key] not in choices:
            raise UserError(
                f"config.hardware.{key}={hardware[key]!r} is not one of {', '.join(choices)}"
                f"{nearest(hardware[key], choices)}"
            )
    sizes = mesh.sizes(hardware.mesh, num_devices)
    stages, parts, of_step = sizes["stage"], 1, hardware.accumulation
    if stages > 1:
        parts = hardware.microbatches or stages
        if parts < stages:
            raise UserError(
                f"config.hardware.microbatches={parts} is fewer than mesh.stage={stages}; "
                f"nearest valid: {stages}"
            )
        if depth % stages:
            raise UserError(
                f"config.hardware.mesh.stage={stages} does not divide config.model.depth={depth}"
            )
    if hardware.attention == "splash" and sizes["sequence"] > 1:
        raise UserError(
            "config.hardware.attention='splash' cannot split positions over mesh.sequence="
            f"{sizes['sequence']}; use chunked"
        )
    positions = families.load(config.family).cost(config).tokens
    if hardware.attention == "splash" and positions % TILE:
        raise UserError(
            f"config.hardware.attention='splash' works on tiles of {TILE} positions, which do not "
            f"divide {positions}; use chunked"
        )
    batch = config.train.batch_size
    mesh.check_batch(sizes, "config.train.batch_size", batch, of_step * parts, "micro-batches")
    batch = config.evaluation.batch_size
    mesh.check_batch(sizes, "config.evaluation.batch_size", batch, parts, "micro-batches")


_SPECS: dict[str, dict] = {}


def _spec(key: str, source: ConfigDict) -> dict:
    """What the data looks like; it is prepared on the way when it never was."""
    if key not in _SPECS:
        _SPECS[key] = data.load(source, "train").spec
    return _SPECS[key]


def share_trunks(trials: Sequence[Trial]) -> list[tuple[Trial, ...]]:
    """Group trials that differ only in horizon behind one trunk of constant learning rate.

    A "wsd" run is the same as every longer one until its cooldown begins, so one trunk serves all
    horizons of a size (Haegele et al. 2024) and each trial trains its cooldown only, bit for bit
    the run it would have been from step 0.
    """
    groups: dict[str, list[Trial]] = {}
    for trial in trials:
        groups.setdefault(_trunk_key(trial), []).append(trial)
    return [_with_trunk(group) for group in groups.values()]


def _trunk_key(trial: Trial) -> str:
    config = copy.deepcopy(trial.config)
    if config.train.schedule != "wsd" or config.train.decay_steps == 0:
        return trial.id
    config.budget = None
    config.train.steps = config.train.decay_steps = None
    return str(configs.to_plain(config))


def _with_trunk(group: list[Trial]) -> tuple[Trial, ...]:
    if len(group) == 1:
        return tuple(group)
    starts = {
        trial.id: trial.config.train.steps - trial.config.train.decay_steps for trial in group
    }
    longest = max(group, key=lambda trial: trial.config.train.steps)
    config = copy.deepcopy(longest.config)
    config.budget = None
    config.train.steps, config.train.decay_steps = max(starts.values()), 0
    words = [word for word in longest.id.split("-") if not word.startswith(("budget", "steps"))]
    name = "-".join([*words, "trunk"])
    trunk = Trial(name, config, branches=tuple(sorted(set(starts.values()))))
    branches = [Trial(t.id, t.config, name, starts[t.id]) for t in group]
    return (trunk, *sorted(branches, key=lambda trial: trial.config.train.steps))


def write_description(study: Study, folder: Path) -> None:
    """Write study.json: the question, the parts and how many trials each has."""
    record.write_json(
        folder / "study.json",
        {
            "study": study.name,
            "title": study.docstring.strip().splitlines()[0] if study.docstring else study.name,
            "docstring": study.docstring.strip(),
            "parts": study.parts,
            "trials": [trial.id for trial in study.trials],
        },
    )


def check_folder(study: Study, folder: Path) -> None:
    """Raise UserError when a trial's folder holds a run of another config."""
    for group in study.groups:
        for trial in group:
            configs.check_folder(folder / trial.id, trial.config)
