"""How rate, batch, decay and moments follow data and batch size: named rules, each with its paper.

A rule carries one value of config.train from `config.base`, the point where it is known, to the
run. `config.rules` names those of a study in the order in which they act: two on one key follow
each other. A rate or batch that a user sets stands; what has a default of its own is replaced.
"""

import copy
from collections.abc import Callable
from typing import NamedTuple

from ml_collections import ConfigDict

from research import parts
from research.errors import UserError


class Now(NamedTuple):
    """A run's examples, batch size and learning rate over those of the base."""

    examples: float
    batch_size: float
    learning_rate: float


class Rule(NamedTuple):
    """What becomes of the base's `key` now, and which other keys of the base that goes by."""

    key: str
    needs: tuple[str, ...]
    value: Callable[[float, Now], float]


RULES = {
    # The best rate falls with the length of a run (Bjorck et al. 2024, arXiv 2409.19913).
    "token_horizon": Rule(
        "learning_rate", ("examples",), lambda rate, now: rate * now.examples**-0.32
    ),
    # The noise of Adam's steps is kept (Malladi et al. 2022, the square-root scaling rule).
    "root_batch": Rule(
        "learning_rate", ("batch_size",), lambda rate, now: rate * now.batch_size**0.5
    ),
    "root_batch_eps": Rule("eps", ("batch_size",), lambda eps, now: eps * now.batch_size**-0.5),
    # The best batch grows with the data of a run (Bergsma et al. 2025, arXiv 2505.13738).
    "batch_of_data": Rule(
        "batch_size", ("examples",), lambda size, now: size * now.examples**0.383
    ),
    # Weights forget over the same share of a run: B / (rate x decay x D) is kept (Wang & Aitchison
    # 2024, arXiv 2405.13698; Bergsma et al. 2025).
    "decay_timescale": Rule(
        "weight_decay",
        ("examples", "batch_size", "learning_rate"),
        lambda decay, now: decay * now.batch_size / (now.learning_rate * now.examples),
    ),
    # Second moments forget over as many examples (Marek et al. 2025, arXiv 2507.07101).
    "half_life": Rule("b2", ("batch_size",), lambda b2, now: b2**now.batch_size),
}


def check(config: ConfigDict) -> None:
    """Raise UserError for a rule that is unknown, or lacks what it goes by."""
    for name in config.rules:
        parts.check_choice("rules", name, RULES)
        rule = RULES[name]
        for key in (rule.key, *rule.needs):
            if not config.base[key]:
                raise UserError(f"config.rules: {name!r} needs config.base.{key}")
        if rule.key not in config.train:
            raise UserError(
                f"config.rules: {name!r} sets config.train.{rule.key}, which optimizer "
                f"{config.train.optimizer!r} does not have"
            )


def fill(config: ConfigDict, recipe: Callable[[ConfigDict], None]) -> None:
    """Fill `config` by its recipe, with the values that its rules have for this run.

    Raises:
        UserError: when the batch is to follow the data of a run that no budget decides.
    """
    check(config)
    unset = [key for key in ("learning_rate", "batch_size") if config.train[key] is None]
    rules = [RULES[name] for name in config.rules]
    if "batch_size" in unset and any(rule.key == "batch_size" for rule in rules):
        if config.budget is None or config.train.steps is not None:
            raise UserError("config.rules: 'batch_of_data' needs config.budget, and no train.steps")
        trial = copy.deepcopy(config)  # the same FLOPs, in other batches
        trial.train.batch_size = config.base.batch_size
        recipe(trial)
        _set(config, rules, {"batch_size"}, _now(trial))
    recipe(config)
    _set(config, rules, {*unset} & {"learning_rate"}, _now(config))
    _set(config, rules, {"weight_decay", "b2", "eps"}, _now(config))


def _now(config: ConfigDict) -> Now:
    train, base = config.train, config.base

    def over(value: float, known: float) -> float:
        return value / known if known and value else 1.0

    examples = over((train.steps or 0) * train.batch_size, base.examples)
    return Now(
        examples,
        over(train.batch_size, base.batch_size),
        over(train.learning_rate or 0, base.learning_rate),
    )


def _set(config: ConfigDict, rules: list[Rule], keys: set[str], now: Now) -> None:
    for key in keys & {rule.key for rule in rules}:
        value = config.base[key]
        for rule in rules:
            if rule.key == key:
                value = rule.value(value, now)
        config.train[key] = max(1, round(value)) if key == "batch_size" else value
