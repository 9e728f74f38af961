"""Laws made of other laws: with some parameters held, or with a floor of either sign."""

import functools
from dataclasses import replace

from research.errors import UserError, nearest
from research.scaling.laws.law import Law
from research.scaling.laws.power import CHINCHILLA, FRONTIER

LARGEST_FLOOR = 1e6


def restrict(law: Law, **held: float) -> Law:
    """`law` with the parameters `held` at their values: Muennighoff fitted only R_D* and R_N*.

    Raises:
        UserError: when one of `held` is no parameter of the law, or none is left to fit.
    """
    for name in held:
        if name not in law.names:
            raise UserError(
                f"the law {law.name!r} has no parameter {name!r}{nearest(name, law.names)}"
            )
    free = tuple(parameter for parameter in law.parameters if parameter.name not in held)
    if not free:
        raise UserError(f"the law {law.name!r} has no parameter left to fit")
    values = ", ".join(f"{name} = {value!r}" for name, value in held.items())
    return replace(
        law,
        formula=f"{law.formula}; {values} held",
        parameters=free,
        minimum_rows=max(len(free) + 1, law.minimum_rows - len(held)),
        function=functools.partial(_restricted, law, tuple(held.items())),
        terms=(),
    )


def _restricted(law, held, p, v):
    return law.value({**dict(held), **p}, v)


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
        function=law.value,
        terms=(),
    )


SIGNED_LAWS = {law.name: law for law in map(signed, (CHINCHILLA, FRONTIER))}
