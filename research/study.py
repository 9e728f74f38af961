"""A study is a config and some axes: here they become trials, and trials that share a trunk."""

import copy
import dataclasses
import math
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import jax
from ml_collections import ConfigDict

from research import config as configs
from research import (
    cost,
    data,
    defaults,
    evaluation,
    families,
    identity,
    mesh,
    optim,
    parts,
    recipes,
    trunks,
)
from research.errors import UserError
from research.run import files, record, storage
from research.trunks import Group, Trial


@dataclass(frozen=True)
class Study:
    """The trials of an experiment file, grouped: each group is a trunk first, then its branches.

    Attributes:
        notes: what the user should know of how the trials came about, a line each.
    """

    name: str
    docstring: str
    groups: tuple[Group, ...]
    parts: dict[str, dict]
    notes: tuple[str, ...] = ()

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
    groups: list[Group] = []
    described, notes = {}, []
    for name in configs.study_parts(module, part):
        with configs.naming(spec):
            all_axes = [dict(axes) for axes in module.get_trials(name)]
        if not all_axes:
            raise UserError(f"{spec}: get_trials({name!r}) gives no trials")
        made = [_trial(module, spec, name, axes, flags, num_devices, prepared) for axes in all_axes]
        trials = _distinct(spec, made, all_axes)
        if len(trials) < len(made):
            why = f" with {' '.join(flags)}" if flags else ""
            notes.append(
                f"{name}: {len(made)} trials are {len(trials)}{why}: "
                "those that are the same run are run once"
            )
        described[name] = {**module.PARTS[name], "trials": len(trials)}
        groups += trunks.share_trunks(trials)
    title = Path(spec.partition(":")[0]).stem
    study = Study(title, module.__doc__ or "", tuple(groups), described, tuple(notes))
    ids = [trial.id for trial in study.trials]
    if repeated := {name for name in ids if ids.count(name) > 1}:
        raise UserError(f"{spec}: two parts have a trial {min(repeated)!r}; rename one part")
    return study


def _distinct(spec: str, trials: list[Trial], all_axes: list[dict]) -> list[Trial]:
    """Each trial once: those whose axes differ may have become the same run by flags.

    Raises:
        UserError: for two trials of one id that differ, or that the file itself repeats.
    """
    found: dict[str, tuple[Trial, dict]] = {}
    for trial, axes in zip(trials, all_axes, strict=True):
        former, former_axes = found.setdefault(trial.id, (trial, axes))
        if former is trial:
            continue
        differ = configs.difference(configs.to_plain(former.config), configs.to_plain(trial.config))
        if differ or axes == former_axes:
            raise UserError(
                f"{spec}: two trials have the id {trial.id!r}"
                f"{f' ({differ[0]})' if differ else ''}; the axes must differ"
            )
    return [trial for trial, _ in found.values()]


def load_config(
    spec: str, flags: Sequence[str] = (), *, num_devices: int | None = None, prepared: bool = True
) -> ConfigDict:
    """Return the config of one run: an experiment's first part, or the named one; see `load`."""
    module, part = configs.load_experiment(spec)
    with configs.naming(spec):
        config = module.get_config(part or next(iter(module.PARTS)))
    defaults.override(config, flags)
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
    defaults.override(config, flags, axes)
    if "budget" in axes and any(flag.startswith("--config.train.steps=") for flag in flags):
        config.budget = None  # the steps are what is run, whatever the axis asked for
        axes = {k: v for k, v in axes.items() if k != "budget"} | {"train.steps": None}
    try:
        config = check(recipes.apply(config), num_devices, prepared)
    except UserError as error:
        values = ", ".join(f"{key}={value}" for key, value in axes.items())
        raise UserError(f"{error} (the trial of {part} with {values or 'no axes'})") from error
    name = _name(part, axes, config)
    stem = _name(part, {k: v for k, v in axes.items() if k not in trunks.HORIZON}, config)
    return Trial(name, config, stem=stem)


def _name(part: str, axes: dict, config: ConfigDict) -> str:
    """The id of a trial, which becomes a folder's name: its axes, as its config has them.

    A flag may have set a key to something else than the axis did. The axis's own writing is kept
    where it is the same number.
    """
    words = [part]
    if config.arm and "arm" not in axes:
        words.append(f"arm{config.arm}")
    for key, value in axes.items():
        found = configs.lookup(config, key)
        words.append(f"{key.rpartition('.')[2]}{_short(value if value == found else found)}")
    return re.sub(r"[^\w.+-]", "_", "-".join(words))


def _short(value) -> str:
    """The shortest writing of a float that no other float has, of at least three digits."""
    if not isinstance(value, float):
        return str(value)
    writings = (f"{value:.{digits}g}" for digits in range(3, 18))
    short = next((each for each in writings if float(each) == value), str(value))
    return short.replace("e+", "e")


def check(config: ConfigDict, num_devices: int | None = None, prepared: bool = True) -> ConfigDict:
    """Raise UserError for whatever is wrong with a complete config, before any compile."""
    family = families.load(config.family)
    for label in ("part", "arm"):
        if config[label]:
            files.check_name(config[label], f"config.{label}:")
    defaults.check_ranges(config)
    if prepared:
        spec = _spec(str(configs.to_plain(config.data)), config.data)
    else:
        spec = data.outline(config.data)
    families.check(config, spec)
    evaluation.check(config, spec)
    _check_origin(config, family)
    examples = spec["unique"] // spec["amount"] if prepared else math.inf
    if config.train.batch_size > examples:
        raise UserError(
            f"config.train.batch_size={config.train.batch_size} is larger than the {examples} "
            f"examples of {config.data.name}"
        )
    optim.check(config)
    platform = None if num_devices else jax.default_backend()
    check_hardware(config, num_devices or len(jax.devices()), platform)
    optim.check_parameters(config)
    return config


def _check_origin(config: ConfigDict, family: ModuleType) -> None:
    """Raise UserError for a `config.init_from` that names no run, or what no family keeps."""
    for key in ("run", "reference"):
        folder = config.init_from[key]
        if folder and not (storage.path(folder) / "config.json").exists():
            raise UserError(f"config.init_from.{key}={folder}: not a run folder, no config.json")
    if config.init_from.reference and not hasattr(family, "reference"):
        raise UserError(f"config.init_from.reference: family {config.family!r} keeps no reference")


def here(config: ConfigDict) -> ConfigDict:
    """Return the `config` of a run that was trained anywhere, for this machine to read the run.

    Its layout is kept where this machine has such devices, else all of them are replicas; what
    only training needs is dropped. The precision of its products, which is part of the run, stays.

    Raises:
        UserError: as `check` does; the run's data need not be here.
    """
    config, trained = copy.deepcopy(config), config.hardware
    config.hardware = defaults.hardware()
    for key in ("compute_dtype", "unroll", "loss_chunks"):
        config.hardware[key] = trained.get(key, config.hardware[key])
    if data.known(config.data.name):  # else its source is in, or registered by, the study's file
        check(config, num_devices=1, prepared=False)
    else:
        check_hardware(config, num_devices=1)
    layout = copy.deepcopy(config)
    layout.hardware.mesh.update(trained.mesh)
    layout.hardware.microbatches = trained.microbatches
    try:
        check_hardware(layout, len(jax.devices()))
    except UserError:
        return config
    return layout


def check_hardware(config: ConfigDict, num_devices: int, platform: str | None = None) -> None:
    """Raise UserError for a `config.hardware` that the machine or the network do not allow.

    Args:
        platform: "cpu", "gpu" or "tpu"; None where the devices are elsewhere.
    """
    hardware = config.hardware
    parts.check_choice("hardware.compute_dtype", hardware.compute_dtype, ("float32", "bfloat16"))
    sizes = mesh.sizes(hardware.mesh, num_devices)
    stages, count, of_step = sizes["stage"], 1, optim.micro_batches(config)
    if stages > 1:
        count = hardware.microbatches or stages
        if count < stages:
            raise UserError(
                f"config.hardware.microbatches={count} is fewer than mesh.stage={stages}; "
                f"nearest valid: {stages}"
            )
    machine = parts.Machine(sizes, platform, lambda: cost.ledger(config).tokens)
    parts.check_hardware(families.load(config.family), config, machine)
    batch = config.train.batch_size
    mesh.check_batch(sizes, "config.train.batch_size", batch, of_step * count, "micro-batches")
    batch = config.evaluation.batch_size
    mesh.check_batch(sizes, "config.evaluation.batch_size", batch, count, "micro-batches")


_SPECS: dict[str, dict] = {}


def _spec(key: str, source: ConfigDict) -> dict:
    """What the data looks like; it is prepared on the way when it never was."""
    if key not in _SPECS:
        _SPECS[key] = data.load(source, "train").spec
    return _SPECS[key]


def labels(config: ConfigDict, name: str, study: str) -> dict[str, str]:
    """What result.json calls the run `name` of a `study`: {"id", "study", "part", "arm"}."""
    return {"id": name, "study": study, "part": config.part, "arm": config.arm}


def write_description(study: Study, folder: Path) -> None:
    """Write study.json: the question, the parts, the trials, and those that left the axes."""
    record.write_json(
        folder / "study.json",
        {
            "study": study.name,
            "title": study.docstring.strip().splitlines()[0] if study.docstring else study.name,
            "docstring": study.docstring.strip(),
            "parts": study.parts,
            "trials": [trial.id for trial in study.trials],
            "former": former(study, folder),
        },
    )


def former(study: Study, folder: Path) -> list[str]:
    """Trials of the study's `folder` that have a result and are not among its trials any more."""
    path = folder / "study.json"
    before = record.read_json(path) if path.exists() else {}
    lists = [before.get(key) for key in ("former", "trials")] if isinstance(before, dict) else []
    if not lists or not all(isinstance(names, list | None) for names in lists):
        raise UserError(f"{path} is not the description of a study; delete it and sweep again")
    now = {trial.id for trial in study.trials}
    gone = [name for name in dict.fromkeys(sum(filter(None, lists), [])) if name not in now]
    return [name for name in gone if (folder / name / "result.json").exists()]


def check_folder(study: Study, folder: Path) -> None:
    """Raise UserError when a trial's folder holds a run of another config."""
    for group in study.groups:
        for trial in group:
            identity.check_folder(folder / trial.id, trial.config, grows=bool(trial.branches))


def unfinished(study: Study, folder: Path) -> Study:
    """What is left to run of `study` in its `folder`; runs begin where their checkpoints end."""
    groups = []
    for group in study.groups:
        over = {trial.id for trial in group if trunks.finished(folder, trial)}
        left = [_going_on(trial, folder) for trial in trunks.left(group, over)]
        groups.append(tuple(t for t in left if t.steps_to_run > 0 or not t.branches))
    return dataclasses.replace(study, groups=tuple(group for group in groups if group))


def _going_on(trial: Trial, folder: Path) -> Trial:
    names = storage.names(folder / trial.id / "checkpoints")
    steps = [int(name) for name in names if name.isdigit()]
    return dataclasses.replace(trial, branch_step=max([trial.branch_step, *steps]))


def say_former(study: Study, folder: Path) -> None:
    """Say in one line which trials stay in `folder` though they left the axes of their part."""
    gone = [name for name in former(study, folder) if name.startswith(_prefixes(study))]
    if gone:
        more = f" and {len(gone) - 3} more" if len(gone) > 3 else ""
        print(
            f"{study.name}: {len(gone)} trials left the axes and stay as they are, in fits and "
            f"reports too: {', '.join(gone[:3])}{more}",
            file=sys.stderr,
        )


def _prefixes(study: Study) -> tuple[str, ...]:
    return tuple(f"{part}-" for part in study.parts)
