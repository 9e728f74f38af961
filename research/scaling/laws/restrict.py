"""A law with some of its parameters held at given values."""

import functools
from collections.abc import Mapping

from research.errors import UserError, nearest
from research.scaling.laws.law import Array, Law, sum_of_powers


def _restricted(
    law: Law,
    held: tuple[tuple[str, float], ...],
    parameters: Mapping[str, Array],
    variables: Mapping[str, Array],
) -> Array:
    every = {**dict(held), **parameters}
    if law.terms:
        return sum_of_powers(law.terms, every, variables)
    assert law.function is not None
    return law.function(every, variables)


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
    return Law(
        name=law.name,
        formula=f"{law.formula}; {values} held",
        source=law.source,
        parameters=free,
        variables=law.variables,
        minimum_rows=max(len(free) + 1, law.minimum_rows - len(held)),
        function=functools.partial(_restricted, law, tuple(held.items())),
        target=law.target,
    )
