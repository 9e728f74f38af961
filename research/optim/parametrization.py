"""How initialisation and rates follow width and depth, by a parametrisation's name.

A parametrisation is a module with

    NEEDS, the keys of config.base that it goes by
    scales(weight) -> Scales of one parameter

It says nothing of forward multipliers: with an optimizer whose steps do not depend on the
gradient's size, one is the same as another initialisation and another rate (Yang & Hu 2021, the
abc-symmetry), and a network keeps its equations.
"""

import math
from collections.abc import Mapping
from types import ModuleType
from typing import Any, NamedTuple

import jax
from ml_collections import ConfigDict

from research import parts
from research.errors import UserError
from research.optim import roles

PARAMETRIZATIONS = {
    "standard": "research.optim.standard",
    "mup": "research.optim.mup",
    "completep": "research.optim.completep",
    "spectral": "research.optim.spectral",
}


class Weight(NamedTuple):
    """What a parametrisation may know of a parameter.

    Attributes:
        role: of `roles.ROLES`.
        layered: whether it is of a layer of a stack.
        residual: whether it writes into the residual stream of a stack of layers.
        inputs, outputs: sizes of the sides of its matrices; 1 of a scalar.
        width, depth: the network's over those of config.base; 1 of what is not in NEEDS.
        step: what an optimizer's steps keep as the sides grow: the size of each "element"; the
            same of an "orthogonal" matrix, whose singular values then grow as the root of the
            longer side; the "spectral" norm over sqrt(outputs / inputs); the "angle" by which a
            matrix turns; or nothing, when they are as the "gradient" is.
    """

    role: str
    layered: bool
    residual: bool
    inputs: int
    outputs: int
    width: float
    depth: float
    step: str


class Scales(NamedTuple):
    """Factors of a parameter's initial values, rate, weight decay and Adam's eps."""

    init: float = 1.0
    rate: float = 1.0
    decay: float = 1.0
    eps: float = 1.0

    def times(self, factor: float) -> "Scales":
        """These with a rate times `factor`, and weights that forget as fast as before."""
        return self._replace(rate=self.rate * factor, decay=self.decay / factor)


def base_keys(config: ConfigDict) -> tuple[str, ...]:
    """The keys of config.base by which the parametrisation of `config` goes."""
    return _load(config).NEEDS


def check(config: ConfigDict) -> None:
    """Raise UserError for a base that is missing or cannot be, or a network it does not suit."""
    name, base = config.train.parametrization, config.base
    for key, value in base.items():
        if not 0 <= value < math.inf:
            raise UserError(
                f"config.base.{key}={value} must be positive, or 0 where it is not given"
            )
    for key in base_keys(config):
        if not base[key]:
            raise UserError(
                f"config.train.parametrization={name!r} needs config.base.{key}, that of the "
                "network whose rates are known"
            )
        if key not in config.model:
            raise UserError(
                f"config.train.parametrization={name!r} goes by config.model.{key}, which family "
                f"{config.family!r} does not have"
            )
    if name != "standard" and config.model.get("tie_embeddings"):
        raise UserError(
            f"config.train.parametrization={name!r} wants one rate of an embedding and another of "
            "a head, so config.model.tie_embeddings must be False"
        )


def scales(
    config: ConfigDict, params: Any, known: Mapping[str, roles.Parameter], steps: Mapping[str, str]
) -> dict[str, Scales]:
    """The factors of each of `params`, arrays or their shapes, by name.

    Args:
        known: what each parameter is.
        steps: of each, as in `Weight`.
    """
    module = _load(config)
    ratio = dict.fromkeys(("width", "depth"), 1.0)
    ratio |= {key: config.model[key] / config.base[key] for key in module.NEEDS}
    found = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        name = roles.path_name(path)
        each = known[name]
        inputs, outputs = (math.prod(leaf.shape[a] for a in s) for s in (each.reads, each.writes))
        weight = Weight(
            role=each.role,
            layered="layers" in each.axes,
            residual=each.residual,
            inputs=inputs,
            outputs=outputs,
            width=ratio["width"],
            depth=ratio["depth"],
            step=steps[name],
        )
        found[name] = module.scales(weight)
    return found


def _load(config: ConfigDict) -> ModuleType:
    name = config.train.parametrization
    return parts.load("train.parametrization", name, PARAMETRIZATIONS, ("NEEDS", "scales"))
