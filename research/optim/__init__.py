"""How parameters move: schedules, optimizers by name, groups of parameters, and what is frozen.

An optimizer is a module with

    default_train() -> the keys of config.train that it reads, with their defaults
    RANGES of those that are numbers
    transform(settings, parameters) -> optax.GradientTransformation, whose updates are what the
        learning rate multiplies: without rate and decay. `settings` are config.train, or those of
        a group; `parameters` says what each parameter is by its name (`research.optim.roles`)

and, where it needs them,

    steps(settings, parameter) -> "element", its steps' elements are as large at every width,
        "orthogonal", "spectral" or "gradient" (`parametrization.Weight`); "element" by default
    DECAYED, the roles of the parameters that weight decay is for; of every matrix by default
    check(train) raises UserError before any compile
    NEEDS, the role of which a parameter must be among those that it moves
    wrap(settings, inner, parameters) -> the transformation of the whole step, of which `inner` is
        all but the rate; it is given `learning_rate`, and serves a whole run, not a group, with
        the `parameters` that it moves itself
    evaluated(opt_state, params) -> the parameters to score and sample with
"""

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
from research.optim.steps import begun, evaluated, init, micro_batches, trained, update

__all__ = [
    "OPTIMIZERS",
    "PARTS",
    "RATES",
    "SCHEDULES",
    "begun",
    "check",
    "check_parameters",
    "complete_groups",
    "default_train",
    "evaluated",
    "init",
    "learning_rate",
    "micro_batches",
    "trained",
    "update",
]
