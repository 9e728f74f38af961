"""A contest's file, and a recipe held to it: its runs as a study, or why it has none."""

import copy
import dataclasses
import functools
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from research import config as configs
from research import cost, data, defaults, recipes, study
from research.errors import UserError, nearest
from research.golf import guard
from research.run import record

STUDY = '''"""The runs of a recipe in a contest, written by `python -m research golf`."""

from research.golf import contest

PARTS, get_config, get_trials = contest.study_of(
    contest={contest!r},
    recipe={recipe!r},
    digest={digest!r},
    budgets={budgets!r},
    seeds={seeds!r},
)
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


def check_bytes(contest: Contest) -> None:
    """Raise UserError where this interpreter's bytes are not the contest's; they are prepared."""
    found = data.fingerprint(_data(contest))
    if found != contest.fingerprint:
        raise UserError(
            f"the contest holds for {contest.data['name']} of {contest.made_by} (fingerprint "
            f"{contest.fingerprint[:12]}); here it is {found[:12]}, other bytes, whose losses "
            "cannot be compared: run that version"
        )


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


def digest(recipe: str) -> str:
    """Twelve digits of the sha256 of a recipe's file."""
    return hashlib.sha256(Path(recipe).read_bytes()).hexdigest()[:12]


def write_study(
    contest: str, recipe: str, budgets: Sequence[float], seeds: int, workdir: str
) -> str:
    """Write the study of a recipe's runs into `workdir` and return its path.

    It is called after the recipe's file and its digest, so that a recipe that was changed trains
    anew.

    Raises:
        UserError: when the recipe breaks a rule; then nothing is written.
    """
    loaded = load(contest)
    configs.load_file(recipe, "recipe")
    check_bytes(loaded)
    for budget in budgets:
        entry(loaded, recipe, budget)
    key = digest(recipe)
    path = Path(workdir) / f"{Path(recipe).stem}-{key}.py"
    record.write_text(
        path,
        STUDY.format(
            contest=str(Path(contest).resolve()),
            recipe=str(Path(recipe).resolve()),
            digest=key,
            budgets=tuple(budgets),
            seeds=seeds,
        ),
    )
    return str(path)


def study_of(
    contest: str, recipe: str, digest: str, budgets: Sequence[float], seeds: int
) -> tuple[dict[str, dict], Callable[[str], ConfigDict], Callable[[str], list[dict]]]:
    """PARTS, get_config and get_trials of a recipe's runs: a part a budget, a trial a seed.

    Whoever loads the study trains its runs: from here on validation is closed to the recipe.

    Raises:
        UserError: when the recipe's file is not that of `digest`, or breaks a rule.
    """
    guard.watch()
    found = globals()["digest"](recipe)
    if found != digest:
        raise UserError(f"recipe {recipe} was changed ({digest}, now {found}): run golf again")
    loaded = load(contest)
    parts = {
        name_of(budget): {
            "title": f"{Path(recipe).stem} at {name_of(budget)} FLOPs",
            "family": loaded.family,
            "data": loaded.data["name"],
            "unit": "bits/byte",
            "data_unit": "tokens",
        }
        for budget in budgets
    }

    @functools.lru_cache
    def made(part: str) -> ConfigDict:  # once: every seed has the same
        return entry(loaded, recipe, float(part))

    def get_config(part: str) -> ConfigDict:
        config = copy.deepcopy(made(part))
        config.part = part
        return config

    return parts, get_config, lambda part: [{"seed": seed} for seed in range(seeds)]


def entry(contest: Contest, recipe: str, budget: float) -> ConfigDict:
    """The config of a recipe at a budget, held to the rules and not yet filled by config.recipe.

    Raises:
        UserError: for a recipe that cannot be run, or breaks a rule: the rule, in one line.
    """
    with guard.closed():
        module = configs.load_file(recipe, "recipe")
        if not hasattr(module, "get_config"):
            raise UserError(f"recipe {recipe}: a recipe defines get_config(budget)")
        with configs.naming(recipe, "recipe"):
            config = module.get_config(budget)
        if not isinstance(config, ConfigDict):
            raise UserError(f"recipe {recipe}: get_config(budget) gives no ConfigDict")
        _check_fixed(contest, config, f"recipe {recipe}: ")
        config.data = _data(contest)
        config.evaluation.examples = contest.examples
        config.budget, config.sampling.num = budget, 0
        full = study.check(recipes.apply(copy.deepcopy(config)))
        _check_fixed(contest, full, f"recipe {recipe}: ")  # what it names may have changed it
        step = cost.ledger(full).step_flops
    spent = step * full.train.steps
    if step > 0.1 * budget:  # rounding would be much of it
        raise UserError(
            f"recipe {recipe}: one step is {step:.4g} FLOPs, more than a tenth of the budget of "
            f"{budget:g}"
        )
    if spent > budget + step / 2:
        raise UserError(
            f"recipe {recipe}: {full.train.steps} steps of {step:.4g} FLOPs are {spent:.4g}, over "
            f"the budget of {budget:g}; at most {max(1, round(budget / step))} steps, or leave "
            "config.train.steps to the budget"
        )
    return config


def _data(contest: Contest) -> ConfigDict:
    chosen = data.default(contest.data["name"])
    chosen.update(contest.data)
    return chosen


def _check_fixed(contest: Contest, config: ConfigDict, who: str) -> None:
    """Raise UserError for a config that changes what is the contest's."""
    if config.family != contest.family:
        raise UserError(
            f"{who}config.family={config.family!r} scores in another way; the contest's is "
            f"{contest.family!r}"
        )
    mine, theirs = configs.to_plain(_data(contest)), configs.to_plain(config.data)
    if config.data.name != contest.data["name"]:
        mine, theirs = {"name": mine["name"]}, {"name": theirs["name"]}
    for key, (fixed, found) in configs.changes(mine, theirs).items():
        if key != "folder":
            raise UserError(f"{who}config.data.{key}={found!r} is the contest's, {fixed!r}")
    usual = defaults.config(contest.family, contest.data["name"]).evaluation
    for key, found in config.evaluation.items():
        if key in ("every_steps", "steps") and found:
            raise UserError(
                f"{who}config.evaluation.{key}={found!r} scores along the run; a golf run reads "
                "validation once, at its end"
            )
        if found != usual.get(key) and (key, found) != ("examples", contest.examples):
            raise UserError(f"{who}config.evaluation.{key}={found!r} is the contest's")
    for key in ("run", "reference"):
        if config.init_from[key]:
            raise UserError(
                f"{who}config.init_from.{key}={config.init_from[key]!r} begins with what another "
                "run was trained for; a golf run pays for all that it knows"
            )
    if config.seed != 0:
        raise UserError(f"{who}config.seed={config.seed}: seeds are the contest's, from 0 on")
