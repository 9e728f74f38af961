"""Laws as small objects: parameters, a formula, its paper, and terms the engine can differentiate.

Every law here is a sum of power terms, `L = sum_k coefficient_k * prod_v v^-exponent`, so that
`log L = logsumexp_k u_k` with each `u_k` linear in (log coefficient, exponents): its gradient and
Hessian are exact and cheap (see engine.py). N is parameters, D data, C training FLOPs.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from research.errors import UserError, nearest


@dataclass(frozen=True)
class Parameter:
    """One fitted number: `kind` is "floor", "coefficient" or "exponent"; `unit` is for people."""

    name: str
    kind: str
    unit: str


@dataclass(frozen=True)
class Term:
    """`coefficient * prod variable^-exponent`; without powers it is the constant of the law."""

    coefficient: str
    powers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Law:
    """A law of the loss. `minimum_rows` is the smallest table on which an answer is given."""

    name: str
    formula: str
    source: str
    parameters: tuple[Parameter, ...]
    terms: tuple[Term, ...]
    minimum_rows: int

    @property
    def names(self) -> tuple[str, ...]:
        """Parameter names in the order every vector of this law uses."""
        return tuple(parameter.name for parameter in self.parameters)

    @property
    def variables(self) -> tuple[str, ...]:
        """Columns of the table the law reads, each once, in order of first use."""
        return tuple(dict.fromkeys(v for term in self.terms for _, v in term.powers))

    def loss(self, parameters: Mapping[str, float] | np.ndarray, **variables) -> np.ndarray:
        """Loss at the given N, D or C, in the unit the law was fitted in.

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
        total = 0.0
        for term in self.terms:
            value = column[term.coefficient]
            for exponent, variable in term.powers:
                value = value * np.asarray(variables[variable], float) ** -column[exponent]
            total = total + value
        return np.asarray(total)


CHINCHILLA = Law(
    name="chinchilla",
    formula="L(N, D) = E + A / N^alpha + B / D^beta",
    source="Hoffmann 2022, equation 10; refitted by Besiroglu 2024",
    parameters=(
        Parameter("E", "floor", "loss"),
        Parameter("A", "coefficient", "loss * parameters^alpha"),
        Parameter("B", "coefficient", "loss * data^beta"),
        Parameter("alpha", "exponent", "1"),
        Parameter("beta", "exponent", "1"),
    ),
    terms=(Term("E"), Term("A", (("alpha", "N"),)), Term("B", (("beta", "D"),))),
    minimum_rows=10,
)

# A frontier has one point a budget, so its table is short: one row more than it has parameters.
FRONTIER = Law(
    name="frontier",
    formula="L(C) = E + A / C^alpha",
    source="Henighan 2020, equation 1.1",
    parameters=(
        Parameter("E", "floor", "loss"),
        Parameter("A", "coefficient", "loss * FLOPs^alpha"),
        Parameter("alpha", "exponent", "1"),
    ),
    terms=(Term("E"), Term("A", (("alpha", "C"),))),
    minimum_rows=4,
)

LAWS = {law.name: law for law in (CHINCHILLA, FRONTIER)}


def get(name: str) -> Law:
    """Return the law called `name`.

    Raises:
        UserError: when there is no such law; the nearest is named.
    """
    if name not in LAWS:
        raise UserError(f"--law: no law {name!r}{nearest(name, LAWS)}; one of {', '.join(LAWS)}")
    return LAWS[name]
