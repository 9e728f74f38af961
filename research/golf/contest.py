"""A contest's file, and a recipe held to it: its runs as a study, or why it has none."""

import copy
import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from research import config as configs
from research import cost, data, defaults, recipes, study
from research.errors import UserError, nearest
from research.golf import guard
from research.run import record

FIXED = ("family", "data", "evaluation", "init_from", "seed")  # sections of a config
STUDY = '''"""The runs of a recipe in a contest, written by `python -m research golf`."""

from research.golf import contest

PARTS, get_config, get_trials = contest.study_of({configs!r}, {seeds})
'''


@dataclasses.dataclass(frozen=True)
class Contest:
    """What is the same for every recipe; see experiments/golf.py, whose names these are."""

    family: str
    data: dict[str, Any]
    made_by: str
    fingerprint: str
    examples: int
    budgets: tuple[float, ...]
    seeds: int
    margin: float
    level: float
    records: str


def load(path: str) -> Contest:
    """Read a contest's file.

    Raises:
        UserError: when it is missing, does not import, or lacks one of the names.
    """
    module = configs.load_file(path, "--contest")
    names = [field.name for field in dataclasses.fields(Contest)]
    if missing := [name.upper() for name in names if not hasattr(module, name.upper())]:
        raise UserError(f"--contest {path}: a contest defines {', '.join(missing)}")
    return Contest(**{name: getattr(module, name.upper()) for name in names})


def budgets(contest: Contest, asked: Sequence[str]) -> tuple[float, ...]:
    """The budgets of the contest that the user `asked` for, all of them where he did not."""
    known = {name_of(budget): budget for budget in contest.budgets}
    for name in asked:
        if name not in known:
            raise UserError(f"--budget {name}: not one of {', '.join(known)}{nearest(name, known)}")
    return tuple(known[name] for name in known if name in asked or not asked)


def name_of(budget: float) -> str:
    """A budget as parts and folders are called: 8e11."""
    return f"{budget:g}".replace("e+", "e")


def entries(contest: Contest, recipe: str, budgets: Sequence[float]) -> dict[str, ConfigDict]:
    """The complete config of a recipe at each budget, by the budget's name; data are prepared.

    Raises:
        UserError: for other bytes than the contest's, and for a recipe that cannot be run or
            breaks a rule: the rule, in one line.
    """
    _check_bytes(contest)
    guard.close()
    module = configs.load_file(recipe, "recipe")
    if not hasattr(module, "get_config"):
        raise UserError(f"recipe {recipe}: a recipe defines get_config(budget)")
    return {name_of(each): _entry(contest, module.get_config, recipe, each) for each in budgets}


def _check_bytes(contest: Contest) -> None:
    found = data.fingerprint(_usual(contest).data)
    if found != contest.fingerprint:
        raise UserError(
            f"the contest holds for {contest.data['name']} of {contest.made_by} (fingerprint "
            f"{contest.fingerprint[:12]}); here it is {found[:12]}, other bytes, whose losses "
            "cannot be compared: run that version"
        )


def _usual(contest: Contest) -> ConfigDict:
    config = defaults.config(contest.family, contest.data["name"])
    config.data.update(contest.data)
    return config


def _entry(
    contest: Contest, get_config: Callable[[float], Any], recipe: str, budget: float
) -> ConfigDict:
    with configs.naming(recipe, "recipe"):
        config = get_config(budget)
    if not isinstance(config, ConfigDict):
        raise UserError(f"recipe {recipe}: get_config(budget) gives no ConfigDict")
    _check_fixed(contest, config, recipe)
    config.data.folder = _usual(contest).data.folder
    config.evaluation.examples = contest.examples
    config.budget, config.sampling.num = budget, 0
    full = recipes.apply(copy.deepcopy(config))
    step, steps = cost.ledger(full).step_flops, full.train.steps
    if config.train.steps is None and step * steps > budget and steps > 1:  # rounded up
        config.train.update(batch_size=full.train.batch_size, steps=steps - 1)
        full = recipes.apply(copy.deepcopy(config))
    study.check(full)
    _check_fixed(contest, full, recipe)  # what it names may have changed it
    if (spent := step * full.train.steps) > budget:
        raise UserError(
            f"recipe {recipe}: {full.train.steps} steps of {step:.4g} FLOPs are {spent:.4g}, over "
            f"the budget of {budget:g}, which buys {int(budget // step)}"
        )
    return full


def _check_fixed(contest: Contest, config: ConfigDict, recipe: str) -> None:
    """Raise UserError for a config that changes what is the contest's."""
    usual, found = (
        {key: tree.get(key) for key in FIXED}
        for tree in (configs.to_plain(_usual(contest)), configs.to_plain(config))
    )
    changed = configs.changes(usual, found)
    for key in sorted(changed, key=lambda key: (key not in ("family", "data.name"), key)):
        fixed, mine = changed[key]
        if key != "data.folder" and (key, mine) != ("evaluation.examples", contest.examples):
            raise UserError(
                f"recipe {recipe}: config.{key}={mine!r} is not the recipe's to choose; the "
                f"contest's is {fixed!r}"
            )


def write_study(path: Path, entries: dict[str, ConfigDict], seeds: int) -> None:
    """Write the study whose trials are the seeds of each entry."""
    plain = {name: configs.to_plain(config) for name, config in entries.items()}
    record.write_text(path, STUDY.format(configs=json.dumps(plain), seeds=seeds))


def study_of(
    entries: str, seeds: int
) -> tuple[dict[str, dict], Callable[[str], ConfigDict], Callable[[str], list[dict]]]:
    """PARTS, get_config and get_trials of a recipe's runs: a part a budget, a trial a seed.

    Whoever loads the study trains its runs: from here on validation is closed to the recipe.
    """
    guard.close()
    found = json.loads(entries)
    parts = {
        name: {
            "title": f"{name} FLOPs",
            "family": plain["family"],
            "data": plain["data"]["name"],
            "unit": "bits/byte",
            "data_unit": "tokens",
        }
        for name, plain in found.items()
    }

    def get_config(part: str) -> ConfigDict:
        return configs.from_plain({**found[part], "part": part})

    return parts, get_config, lambda part: [{"seed": seed} for seed in range(seeds)]
