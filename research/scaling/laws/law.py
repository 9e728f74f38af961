"""What a law is: a formula with named parameters, where it comes from, and how to evaluate it.

N is parameters, D data, C training FLOPs, U unique data; other variables have names of their own.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from research.scaling.laws.numerics import numerics

Array = Any  # NumPy's, JAX's or Slopes: a law's function is called with any (see numerics.py)


@dataclass(frozen=True)
class Parameter:
    """One fitted number. `unit` is for people; `low` and `high` bound it as published.

    `kind` says how it is fitted: the law is linear in a "floor" or "coefficient", and given the
    others they start at least squares; a "scale" is positive and starts on `grid`; an "exponent"
    too, but is fitted as it is. The first three are fitted in their logs unless `low` is negative.
    `limit` says at which bound, "lower" or "upper", the parameter drops out of the law, so that a
    fit there is an answer. Other bounds are only ours.
    `within` names a variable when `grid` holds shares of its log range instead of values: 0 is
    the table's smallest, 1 its largest (where a curve may break, whatever the unit).
    """

    name: str
    kind: str
    unit: str
    low: float = 0.0
    high: float = np.inf
    grid: tuple[float, ...] = ()
    within: str = ""
    limit: str = ""

    @property
    def ends(self) -> str:
        """The bound at which the law is one of fewer parameters: a floor's lower one too."""
        return "lower" if self.kind == "floor" else self.limit

    @property
    def linear(self) -> bool:
        """Whether the law is linear in it."""
        return self.kind in ("floor", "coefficient")

    @property
    def logarithmic(self) -> bool:
        """Whether it is fitted in its log."""
        return self.kind != "exponent" and self.low >= 0

    def starts(self, variables: Mapping[str, Array]) -> tuple[float, ...]:
        """Where to start on a table of `variables` [rows]; 0 for parameters without a grid."""
        if not self.within:
            return self.grid or (0.0,)
        logs = np.log(variables[self.within])
        return tuple(np.exp(logs.min() + share * np.ptp(logs)) for share in self.grid)


@dataclass(frozen=True)
class Term:
    """`coefficient * prod variable^-exponent`; without powers it is the constant of the law."""

    coefficient: str
    powers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Law:
    """A law of the loss, or of whatever `target` says.

    It is a sum of power terms (`terms`), for which the engine has closed-form derivatives, or any
    `function` of (parameters, variables), two mappings by name, written with operators or
    `jax.numpy`; its variables are arrays of one shape and its parameters numbers.
    `minimum_rows` is the smallest table on which an answer is given.
    """

    name: str
    formula: str
    source: str
    parameters: tuple[Parameter, ...]
    variables: tuple[str, ...]
    minimum_rows: int
    function: Callable[[Mapping[str, Array], Mapping[str, Array]], Array] | None = None
    terms: tuple[Term, ...] = ()
    target: str = "loss"

    @property
    def names(self) -> tuple[str, ...]:
        """Parameter names in the order every vector of this law uses."""
        return tuple(parameter.name for parameter in self.parameters)

    @property
    def signed(self) -> bool:
        """Whether its value may be below zero, as a loss less a baseline's is."""
        return any(parameter.kind == "floor" and parameter.low < 0 for parameter in self.parameters)

    def loss(self, parameters: Mapping[str, float] | np.ndarray, **variables) -> np.ndarray:
        """The law's value at the given variables, in the unit it was fitted in.

        `parameters` is a mapping by name or an array [..., num_parameters] in the law's order; its
        leading axes and those of the variables broadcast: draws [S, P] with N [R] give [S, R].
        """
        if isinstance(parameters, Mapping):
            values = np.array([parameters[name] for name in self.names], float)
        else:
            values = np.asarray(parameters, float)
        column = {name: values[..., i] for i, name in enumerate(self.names)}
        if values.ndim > 1:
            column = {name: value[..., None] for name, value in column.items()}
        given = {name: np.asarray(variables[name], float) for name in self.variables}
        if self.terms:
            return np.asarray(self.value(column, given))
        import jax  # a function of somebody's own may call jax.numpy

        with np.errstate(all="ignore"), jax.enable_x64():
            return np.asarray(self.value(column, given))

    def value(self, parameters: Mapping[str, Array], variables: Mapping[str, Array]) -> Array:
        """The law of parameters and variables by name, numpy's or JAX's."""
        if self.function is not None:
            return self.function(parameters, variables)
        xp, total = numerics(parameters, variables), 0.0
        for term in self.terms:
            part = parameters[term.coefficient]
            for exponent, variable in term.powers:
                part = part * xp.exp(-parameters[exponent] * xp.log(variables[variable]))
            total = total + part
        return total
