"""The keys of `config.train`: those of every run, of the optimizer it names, and of its groups."""

import fnmatch
import math
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from research import config as configs
from research import families, parts
from research.errors import UserError, nearest
from research.optim import noise_scale, parametrization, power_average, roles, schedules
from research.optim.parametrization import PARAMETRIZATIONS

OPTIMIZERS = {
    "adafactor": "research.optim.adafactor",
    "adamw": "research.optim.adamw",
    "hypersphere": "research.optim.hypersphere",
    "lion": "research.optim.lion",
    "muon": "research.optim.muon",
    "schedule_free": "research.optim.schedule_free",
    "sgd": "research.optim.sgd",
}
PARTS = {"optimizer": OPTIMIZERS, "parametrization": PARAMETRIZATIONS}
RANGES = {  # [low, high) of the keys of every run
    **dict.fromkeys(("steps", "batch_size"), (1, 2**31)),
    **dict.fromkeys(("warmup_steps", "decay_steps", "weight_decay", "clip_norm"), (0, math.inf)),
    "ema_decay": (0, 1),
    "noise_scale": (0, 2**31),
}
RATES = tuple(role for role in roles.ROLES if role != "hidden")
GROUP = {"paths": (), "roles": (), "rate": 1.0}  # and what it sets otherwise than config.train
OTHERS = "others"  # what is in no group


def default_train() -> ConfigDict:
    """Keys of `config.train` of every run; None means "the recipe decides".

    Those of the optimizer follow when the config is complete. `groups` is {name: {"paths": shell
    patterns over names such as "stack/blocks/mlp/up/kernel", "roles": of `roles.ROLES`, "rate":
    times the learning rate, and of "weight_decay", "optimizer" and its keys what differs}}.
    """
    return ConfigDict(
        dict(
            steps=placeholder(int),
            batch_size=placeholder(int),
            learning_rate=placeholder(float),  # of hidden matrices
            rates={role: placeholder(float) for role in RATES},  # of others, times learning_rate
            schedule="wsd",
            decay_shape=placeholder(str),  # of the cooldown of "wsd"
            warmup_steps=placeholder(int),
            decay_fraction=placeholder(float),  # of the steps, in the cooldown of "wsd"
            decay_steps=placeholder(int),  # ... which is that many, or as many as are set here
            optimizer="adamw",
            parametrization="standard",  # how rates follow width and depth
            weight_decay=0.1,  # of all but scalars; of all that a group is when the group sets it
            clip_norm=1.0,
            cautious_decay=False,  # decay only what the update, too, brings nearer to 0
            ema_decay=0.0,  # 0: no average kept
            ema_widths=(),  # of averages of which others are made later (`power_average`)
            noise_scale=0,  # parts of each batch whose gradients tell the noise; 0: not measured
            groups={},
            frozen=(),  # shell patterns as those of groups
        )
    )


def load(name: str, key: str = "train.optimizer") -> ModuleType:
    """Return the optimizer `name`, which `key` names: of OPTIMIZERS, or any module's dotted path.

    Raises:
        UserError: for an unknown name, or a module that lacks part of an optimizer.
    """
    return parts.load(key, name, OPTIMIZERS, ("default_train", "RANGES", "transform"))


def complete_groups(train: ConfigDict) -> None:
    """Give each group of `train` the keys that it lacks, those of its optimizer among them.

    Raises:
        UserError: for an unknown optimizer, or a key that is nobody's (nearest named).
    """
    for name, group in train.groups.items():
        key = f"config.train.groups.{name}"
        if not isinstance(group, ConfigDict) or name == OTHERS:
            raise UserError(f"{key} must be a dict of its keys, under another name than {OTHERS!r}")
        optimizer = group.get("optimizer", train.optimizer)
        keys = load(optimizer, f"{key}.optimizer".removeprefix("config.")).default_train()
        needed = GROUP if optimizer == train.optimizer else {**GROUP, **keys}
        configs.complete(group, key, needed, {"optimizer": "", "weight_decay": 0.0, **keys})


def settings(train: ConfigDict, group: Mapping[str, Any]) -> ConfigDict:
    """`train` as a group of parameters has it."""
    return ConfigDict({**train, "rate": 1.0, **group})


def matches(name: str, patterns: tuple[str, ...]) -> bool:
    """Whether the parameter `name` fits one of these shell patterns, whose * also crosses "/"."""
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def groups(train: ConfigDict, known: Mapping[str, roles.Parameter]) -> dict[str, str]:
    """The group of each parameter by name, OTHERS where it has none.

    Raises:
        UserError: for a parameter that two groups claim.
    """
    found = {}
    for path, each in known.items():
        claims = [
            name
            for name, group in train.groups.items()
            if matches(path, group.paths) or each.role in group.roles
        ]
        if len(claims) > 1:
            raise UserError(f"config.train.groups: {' and '.join(claims)} both have {path!r}")
        found[path] = claims[0] if claims else OTHERS
    return found


def step_kinds(train: ConfigDict, known: Mapping[str, roles.Parameter]) -> dict[str, str]:
    """What the steps of each parameter keep as networks grow (`parametrization.Weight.step`)."""
    group, found = groups(train, known), {}
    for name, each in known.items():
        own = settings(train, train.groups.get(group[name], {}))
        kind = getattr(load(own.optimizer), "step_kind", None)
        found[name] = kind(own, each) if kind else "element"
    return found


def check(config: ConfigDict) -> None:
    """Raise UserError for what in `config.train` cannot be, before any compile."""
    train = config.train
    configs.check_ranges(train, "config.train", RANGES)
    configs.check_ranges(train.rates, "config.train.rates", dict.fromkeys(RATES, (0, math.inf)))
    schedules.check(train)
    noise_scale.check(train)
    power_average.check(train.ema_widths)
    parametrization.check(config)
    _check_optimizer(train, "config.train", {})
    for name, group in train.groups.items():
        key = f"config.train.groups.{name}"
        if hasattr(load(group.get("optimizer", "adamw")), "wrap"):
            raise UserError(f"{key}.optimizer={group.optimizer!r} serves a whole run, not a group")
        positive = dict.fromkeys(("rate", "weight_decay"), (0, math.inf))
        _check_optimizer(settings(train, group), key, positive)
        for role in group.roles:
            if role not in roles.ROLES:
                raise UserError(
                    f"{key}.roles: {role!r} is not one of {', '.join(roles.ROLES)}"
                    f"{nearest(role, roles.ROLES)}"
                )
    _check_idle(config)


def _check_idle(config: ConfigDict) -> None:
    """Raise UserError for a key that a family with an update of its own does not read."""
    train, family, default = config.train, families.load(config.family), default_train()
    idle = ["noise_scale"] if hasattr(family, "update") else []
    if hasattr(family, "init_optimizer"):
        idle += ["optimizer", "parametrization", "cautious_decay", "groups", "frozen"]
    changed = [key for key in idle if train[key] != default[key]]
    if "optimizer" in idle and {*train.rates.values()} - {None, 1}:
        changed.append("rates")
    if changed:
        raise UserError(
            f"config.train.{changed[0]} would change nothing: family {config.family!r} brings an "
            "optimizer or an update of its own"
        )


def check_parameters(config: ConfigDict) -> None:
    """Raise UserError for what in `config.train` its parameters do not suit; these are traced."""
    from research import defaults, programs  # which import this

    train = config.train
    named = {group.get("optimizer", train.optimizer) for group in train.groups.values()}
    particular = any(hasattr(load(name), "MOVES") for name in {train.optimizer, *named})
    if train.groups or train.frozen or particular:
        neutral = programs.close(config)  # as the ledger has it: traced once a process
        neutral.hardware = defaults.hardware()
        neutral.hardware.unroll = 1
        shapes = programs.parameter_shapes(neutral)
        _check_parameters(train, roles.parameters(neutral, shapes))


def _check_optimizer(train: ConfigDict, key: str, ranges: dict) -> None:
    optimizer = load(train.optimizer)
    configs.check_ranges(train, key, {**ranges, **optimizer.RANGES})
    if hasattr(optimizer, "check"):
        optimizer.check(train)


def _check_parameters(train: ConfigDict, known: Mapping[str, roles.Parameter]) -> None:
    """Raise UserError for a pattern or a group without a parameter, or nothing left to train."""
    patterns = {"config.train.frozen": train.frozen}
    patterns |= {f"config.train.groups.{n}.paths": g.paths for n, g in train.groups.items()}
    for key, each in patterns.items():
        for pattern in each:
            if not any(matches(name, (pattern,)) for name in known):
                raise UserError(f"{key}: {pattern!r} fits no parameter{nearest(pattern, known)}")
    if all(matches(name, train.frozen) for name in known):
        raise UserError("config.train.frozen leaves nothing to train")
    group_of = groups(train, known)
    if empty := [name for name in train.groups if name not in group_of.values()]:
        raise UserError(f"config.train.groups.{empty[0]} has no parameter")
    moved = {OTHERS: set()}  # roles of what an optimizer moves, by the group that names it
    for name, group in group_of.items():
        namer = group if "optimizer" in train.groups.get(group, ()) else OTHERS
        if not matches(name, train.frozen):
            moved.setdefault(namer, set()).add(known[name].role)
    for namer, found in moved.items():
        key = "config.train" if namer == OTHERS else f"config.train.groups.{namer}"
        own = train.groups.get(namer, train)
        moves = getattr(load(own.optimizer), "MOVES", None)
        if moves and moves not in found:
            raise UserError(
                f"{key}.optimizer={own.optimizer!r} is for parameters of the role {moves!r}, of "
                "which it has none to train; use 'adamw'"
            )
        if own.get("heads_apart") and not any(each.heads for each in known.values()):
            raise UserError(
                f"{key}.heads_apart=True, but no parameter has heads of one size: set it to False"
            )
