"""Laws whose floor may be below zero: of a loss less a baseline's, or of any other signed score."""

import functools
from dataclasses import replace

from research.scaling.laws.law import Law, sum_of_powers
from research.scaling.laws.power import CHINCHILLA, FRONTIER

LARGEST_FLOOR = 1e6


def signed(law: Law) -> Law:
    """`law`, a sum of powers, with a floor of either sign."""
    parameters = tuple(
        replace(p, low=-LARGEST_FLOOR, high=LARGEST_FLOOR) if p.kind == "floor" else p
        for p in law.parameters
    )
    return replace(
        law,
        name=f"signed_{law.name}",
        formula=f"{law.formula}, E of either sign",
        parameters=parameters,
        function=functools.partial(sum_of_powers, law.terms),
        terms=(),
    )


SIGNED_LAWS = {law.name: law for law in map(signed, (CHINCHILLA, FRONTIER))}
