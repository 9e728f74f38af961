"""Sums of powers: `log L = logsumexp_k u_k` with each u_k linear in (log coefficient, exponents).

The engine differentiates these in closed form (see power_sums.py).
"""

from research.scaling.laws.law import Law, Parameter, Term

EXPONENT = (1e-3, 4.0, (0.1, 0.25, 0.5, 1.0))


def power(
    name: str,
    variable: str,
    unit: str,
    source: str,
    floor: bool = True,
    names: tuple[str, str] = ("A", "alpha"),
) -> Law:
    """A power of one variable (in `unit`), with or without a floor.

    A frontier has one point a budget, so its table is short: one row more than parameters do.
    """
    coefficient, exponent = names
    parameters = (
        Parameter(coefficient, "coefficient", f"loss * {unit}^{exponent}"),
        Parameter(exponent, "exponent", "1", *EXPONENT),
    )
    terms = (Term(coefficient, ((exponent, variable),)),)
    formula = f"{coefficient} / {variable}^{exponent}"
    if floor:
        parameters = (Parameter("E", "floor", "loss"), *parameters)
        terms, formula = (Term("E"), *terms), f"E + {formula}"
    return Law(
        name=name,
        formula=f"L({variable}) = {formula}",
        source=source,
        parameters=parameters,
        variables=(variable,),
        minimum_rows=len(parameters) + 1,
        terms=terms,
    )


POWER = power("power", "C", "FLOPs", "Kaplan 2020, equation 1.3 without its constants", False)
FRONTIER = power("frontier", "C", "FLOPs", "Henighan 2020, equation 1.1")
# The same two of the size alone, for tables that know nothing else, or runs on one ladder.
SIZE_POWER = power(
    "size_power", "N", "parameters", "Kaplan 2020, equation 1.1 without its constants", False
)
SIZE = power("size", "N", "parameters", "Henighan 2020, equation 1.1, of parameters")

CHINCHILLA = Law(
    name="chinchilla",
    formula="L(N, D) = E + A / N^alpha + B / D^beta",
    source="Hoffmann 2022, equation 10; refitted by Besiroglu 2024",
    parameters=(
        Parameter("E", "floor", "loss"),
        Parameter("A", "coefficient", "loss * parameters^alpha"),
        Parameter("B", "coefficient", "loss * data^beta"),
        Parameter("alpha", "exponent", "1", *EXPONENT),
        Parameter("beta", "exponent", "1", *EXPONENT),
    ),
    variables=("N", "D"),
    terms=(Term("E"), Term("A", (("alpha", "N"),)), Term("B", (("beta", "D"),))),
    minimum_rows=10,
)
