"""Families of generative models, one module each, all behind the same pure functions.

A family is a module with

    init(config, key) -> params
    loss(config, params, batch, key) -> (scalar, metrics)
    score(config, params, batch, key) -> {"total": summed bits, "count": bytes or dimensions}
    score_kind(config) -> {"unit", "kind"}
    sample(config, params, key, num) -> array
    cost(config) -> research.cost.Ledger
    default_model() -> the keys of config.model

where params is any pytree of dicts, lists and tuples; and, where it needs them,

    axes(config) -> logical axis names of its parameters
    check(config, spec) raises UserError before any compile; `spec` is the data's
    default_sampling(), default_evaluation() -> the keys it reads there
    init_optimizer(config, params), update(config, state, batch, key, learning_rate)
        when its step is not one gradient of `loss`: two players, inner sampling chains

Programs are shared by runs of one shape. So init, loss, score and update may read any key of the
config but those in which such runs differ (`research.programs.ARGUMENTS` and `UNREAD`, such as
config.train.steps and config.seed): reading one is an error.
"""

import importlib
from pathlib import Path
from types import ModuleType

from research.errors import UserError, nearest

PROTOCOL = ("default_model", "init", "loss", "score", "score_kind", "sample", "cost")


def names() -> list[str]:
    """Names of the families that ship."""
    return sorted(p.stem for p in Path(__file__).parent.iterdir() if not p.name.startswith("_"))


def load(name: str) -> ModuleType:
    """Return the family `name`: one of `names()`, or the dotted path of any module.

    Raises:
        UserError: for an unknown name, or a module that lacks part of the protocol.
    """
    if "." not in name and name not in names():
        raise UserError(
            f"config.family={name!r} is not one of {', '.join(names())}{nearest(name, names())}"
        )
    path = name if "." in name else f"research.families.{name}"
    try:
        module = importlib.import_module(path)
    except ModuleNotFoundError as error:
        raise UserError(f"config.family={name!r}: {error}") from error
    missing = [function for function in PROTOCOL if not hasattr(module, function)]
    if missing:
        raise UserError(f"config.family={name!r} lacks {', '.join(missing)}")
    return module
