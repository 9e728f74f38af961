"""The whole config of a trial, every key with its default: nothing a run uses is hidden."""

import math
from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import Any

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from research import config as configs
from research import data, families, mesh, optim, parts
from research.errors import UserError, nearest

RANGES = {  # [low, high) of keys outside config.train, by section
    "": {"seed": (0, 2**32), "log_steps": (1, math.inf)},
    "evaluation": {"batch_size": (1, math.inf), "examples": (1, math.inf)},
    "checkpoint": {
        "keep": (1, math.inf),
        "every_steps": (0, math.inf),
        "every_seconds": (0, math.inf),
        "snapshots": (0, 65),
    },
    "sampling": {"num": (0, math.inf)},
    "hardware": {
        "unroll": (1, math.inf),
        "accumulation": (1, 2**31),
        "microbatches": (0, 2**31),
        "loss_chunks": (1, 2**31),
    },
}


def check_ranges(config: ConfigDict) -> None:
    """Raise UserError for a number of `config` that is out of its range, but config.train's."""
    for section, ranges in RANGES.items():
        tree = config[section] if section else config
        configs.check_ranges(tree, f"config.{section}" if section else "config", ranges)


def owners(config: ConfigDict) -> dict[str, ModuleType]:
    """The sections of `config` whose keys are those of named parts, and who names the parts."""
    return {"model": families.load(config.family), "train": optim}


def settle(config: ConfigDict) -> None:
    """Give `config` the keys that it lacks of the parts that it names, and refuse others.

    Those of a part that was named before go, where they are as that part had them by default.
    """
    for name, owner in owners(config).items():
        section = config[name]
        known = parts.keys(owner, section, name)
        for key in [key for key in section if key not in known]:
            left = parts.unused(owner, key, name)
            if left and left[2] == section[key]:
                with section.unlocked():
                    del section[key]
        configs.complete(section, f"config.{name}", known)
    optim.complete_groups(config.train)


def override(
    config: ConfigDict, flags: Iterable[str], axes: Mapping[str, Any] | None = None
) -> None:
    """Set `config` in place from flags such as `--config.model.depth=6`.

    What names a part is set first, so that the part's keys are there whatever the order.

    Args:
        axes: values that the axes of a study give to dotted keys; flags win over them.

    Raises:
        UserError: for an unknown key (nearest named) or a value of another type.
    """
    settings = list((axes or {}).items())
    for flag in flags:
        key, equals, text = flag.partition("=")
        if not key.startswith("--config.") or not equals:
            raise UserError(f"unknown argument {flag!r}; config keys are set as --config.key=value")
        settings.append((key.removeprefix("--config."), text))
    settle(config)
    pattern, given = f"model.{parts.PATTERN}", dict(settings)
    if pattern in given and parts.PATTERN in config.model:  # its layers may bring keys, too
        configs.assign(config, pattern, given[pattern])
        settle(config)
    chosen, sections = _choose_parts(config, given), owners(config)
    for key, value in settings:
        section, _, own = key.partition(".")
        if section in sections and own not in config[section]:
            if words := parts.unknown(sections[section], own, section):
                raise UserError(f"--config.{key}: config.{section} has no key {own!r}{words}")
        if key not in chosen:
            configs.assign(config, key, value)


def _choose_parts(config: ConfigDict, settings: Mapping[str, Any]) -> set[str]:
    """Let `config` name the parts that `settings` name: one may bring the key of the next."""
    chosen: set[str] = set()
    for name, owner in owners(config).items():
        while left := [
            key
            for key, _ in parts.named(owner, config[name], name)
            if f"{name}.{key}" in settings and f"{name}.{key}" not in chosen
        ]:
            chosen.add(f"{name}.{left[0]}")
            parts.choose(owner, config[name], left[0], settings[f"{name}.{left[0]}"], name)
    return chosen


def hardware() -> ConfigDict:
    """Return `config.hardware`: where and how a step is computed, never what."""
    return ConfigDict(
        dict(
            mesh=mesh.default_mesh(),
            accumulation=1,  # micro-batches of a step, one after another
            microbatches=0,  # of the pipeline; 0: one a stage
            remat="none",  # what the backward pass computes again
            unroll=6,  # deepest stack that is unrolled; deeper ones are scanned
            attention="dense",
            loss_chunks=1,  # of positions, through the head one after another
            compute_dtype="float32",  # of products; parameters and their sums stay float32
            shard_optimizer=False,  # split the optimizer's state over replicas too
            offload_optimizer=False,  # keep it in the host's memory between steps
        )
    )


def config(family: str, source: str, **chosen: Any) -> ConfigDict:
    """Return the config of `family` on data `source`; None means "the recipe decides".

    Args:
        chosen: names of parts in place of the default ones, such as attention="window", whose keys
            are then in config.model, or optimizer="adamw", whose keys follow; and `pattern`, where
            layers differ.
    """
    module = families.load(family)
    tree = ConfigDict(
        dict(
            part="",  # of the study; a label
            arm="",  # of a comparison; a label
            family=family,
            recipe="ladder",
            size=placeholder(int),  # the one dial: width of the network
            budget=placeholder(float),  # FLOPs of the run, from step 0; sets train.steps
            seed=0,
            # The point at which rates and the rest are known; 0: not given.
            base=dict(
                width=0,
                depth=0,
                examples=0,
                batch_size=0,
                learning_rate=0.0,
                weight_decay=0.0,
                b2=0.0,
                eps=0.0,
            ),
            rules=(),  # by which these follow data and batch size (`research.rules`)
            train=optim.default_train(),
            evaluation=dict(
                evaluators=("validation",),  # the first gives a run its score
                batch_size=64,
                examples=2048,
                every_steps=0,  # of a run, scored along it too; 0: only at its end
                steps=(),  # ... and at these
                # Of "longer": windows that are read, () for 1, 2, 4 and 8 times data.length; and
                # ways of `model.rotary_scaling` to read those beyond it in, too.
                lengths=(),
                scalings=(),
                # Of what judges images: how many are drawn and held to which, by the name of a
                # recipe; and by what they are compared (`research.evaluation.image_features`).
                image_recipe="images_2k",
                features="pixels",
            ),
            # Parameters that a run begins with: those of `run`, a folder, whose path matches one
            # of `parts`; `reference` fills the frozen ones of a family that has any.
            init_from=dict(run="", parts=("*",), reference=""),
            sampling=dict(num=8),
            # ... and snapshots of the averages of train.ema_widths, each time that steps double.
            checkpoint=dict(every_seconds=60.0, every_steps=0, keep=2, snapshots=4),
            log_steps=20,
            hardware=hardware(),
        )
    )
    tree.model = ConfigDict(parts.keys(module, chosen))
    tree.model.update({key: chosen[key] for key in chosen.keys() & {parts.PATTERN}})
    known = [*optim.PARTS, *dict(parts.named(module, tree.model)), parts.PATTERN]
    for key in chosen.keys() - {*known}:
        raise UserError(f"{key}={chosen[key]!r} names no part of {family!r}{nearest(key, known)}")
    tree.data = data.default(source)
    for section in ("train", "sampling", "evaluation"):
        if hasattr(module, f"default_{section}"):
            tree[section].update(getattr(module, f"default_{section}")())
    tree.train.update({key: chosen[key] for key in chosen.keys() & optim.PARTS.keys()})
    return tree


# Keys that came later and whose default is not what was run before.
BEFORE = {
    "model": {"zero_outputs": False, "smear": False, "qk_norm": False, "activation": "relu2"},
    "train": {
        "optimizer": "adamw",
        "rates": dict.fromkeys(optim.RATES, 1.0),
        "decay_shape": "sqrt",
        "decay_fraction": 0.2,
        "scale": "rms",  # Muon's
        "neuron_b2": 0.0,
        "decayed": ("input", "hidden", "output"),
    },
}


def complete(found: dict[str, Any]) -> dict[str, Any]:
    """A config.json of any age, with what was run before its later keys were."""
    try:
        model, family = _by_todays_names(found["model"]), families.load(found["family"])
        named = [key for key, _ in parts.named(family, parts.keys(family, model))]
        chosen = {key: model[key] for key in (*named, parts.PATTERN) if key in model}
        chosen["optimizer"] = found["train"].get("optimizer", BEFORE["train"]["optimizer"])
        tree = config(found["family"], found["data"]["name"], **chosen)
        groups = found["train"].get("groups", {})
        for name, group in groups.items():
            own = {"optimizer": group["optimizer"]} if "optimizer" in group else {}
            tree.train.groups[name] = ConfigDict(own)
        settle(tree)
        default = configs.to_plain(tree)
    except (KeyError, TypeError, UserError):  # of no family that is here
        return found

    def filled(tree: dict, default: dict, before: dict) -> dict:
        missing = {key: before.get(key, default[key]) for key in default if key not in tree}
        both = {
            key: filled(value, default[key], before.get(key, {}))
            for key, value in tree.items()
            if isinstance(value, dict) and isinstance(default.get(key), dict)
        }
        return {**tree, **missing, **both}

    of_groups = dict.fromkeys(groups, BEFORE["train"])
    before = BEFORE | {"train": BEFORE["train"] | {"groups": of_groups}}
    return filled({**found, "model": model}, default, before)


def _by_todays_names(model: dict[str, Any]) -> dict[str, Any]:
    """`model` by its names of today.

    "mlp" was a mixture, too, where it had a number of experts. Positions were rotary or not, or had
    a table where `max_length` was not 0.
    """
    model = dict(model)
    if model.get("channel", "mlp") == "mlp" and "num_experts" in model:
        if model["num_experts"]:
            model["channel"] = "moe"
        else:
            for key in ("num_experts", "experts_per_token", "capacity_factor", "balance_weight"):
                model.pop(key, None)
    if "rotary" in model:
        rotary, table = model.pop("rotary"), model.get("max_length")
        model["positions"] = "rotary" if rotary else "learned" if table else "none"
        if model["positions"] != "learned":
            model.pop("max_length", None)
    return model
