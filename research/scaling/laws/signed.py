"""Laws whose floor may be below zero: of a loss less a baseline's, or of any other signed score."""

import functools
from dataclasses import replace

from research.scaling.laws.law import Law, sum_of_powers
from research.scaling.laws.power import CHINCHILLA, FRONTIER

LARGEST_FLOOR = 1e6
EXPONENTS = (0.1, 0.25, 0.5, 1.0)  # where a fit starts


def signed(law: Law) -> Law:
    """`law`, a sum of powers, with a floor of either sign."""
    parameters = []
    for parameter in law.parameters:
        if parameter.kind == "floor":
            parameter = replace(parameter, low=-LARGEST_FLOOR, high=LARGEST_FLOOR)
        elif parameter.kind == "exponent":
            parameter = replace(parameter, grid=EXPONENTS)
        parameters.append(parameter)
    return replace(
        law,
        name=f"signed_{law.name}",
        formula=f"{law.formula}, E of either sign",
        parameters=tuple(parameters),
        function=functools.partial(sum_of_powers, law.terms),
        terms=(),
    )


SIGNED_LAWS = {law.name: law for law in map(signed, (CHINCHILLA, FRONTIER))}
