"""How parameters move: schedules, optimizers by name, groups of parameters, and what is frozen.

An optimizer is a module with

    default_train() -> the keys of config.train that it reads, with their defaults
    RANGES of those that are numbers
    transform(settings, parameters) -> optax.GradientTransformation, whose updates are what the
        learning rate multiplies: without rate and decay. `settings` are config.train, or those of
        a group; `parameters` says what each parameter is by its name (`research.optim.roles`)

and, where it needs them,

    step_kind(settings, parameter) -> what is the same of its steps at every width: "element",
        "orthogonal", "spectral", "angle" or "gradient" (`parametrization.Weight`); "element" by
        default
    check(train) raises UserError before any compile
    MOVES, the role of the parameters that it is for, when it moves others by Adam
    the key `decayed`, the roles that weight decay is for; without it, that of every matrix
    wrap(settings, inner, parameters) -> the transformation of the whole step, of which `inner` is
        all but the rate; it is given `learning_rate`, and serves a whole run, not a group, with
        the `parameters` that it moves itself
    evaluated(opt_state, params) -> the parameters to score and sample with
"""

from research.optim.parametrization import base_keys
from research.optim.schedules import SCHEDULES, learning_rate
from research.optim.settings import (
    OPTIMIZERS,
    PARTS,
    RATES,
    check,
    check_parameters,
    complete_groups,
    default_train,
)
from research.optim.steps import begun, evaluated, init, merged, micro_batches, trained, update

__all__ = [
    "OPTIMIZERS",
    "PARTS",
    "RATES",
    "SCHEDULES",
    "base_keys",
    "begun",
    "check",
    "check_parameters",
    "complete_groups",
    "default_train",
    "evaluated",
    "init",
    "learning_rate",
    "merged",
    "micro_batches",
    "trained",
    "update",
]
