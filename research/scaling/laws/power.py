"""Sums of powers: `log L = logsumexp_k u_k` with each u_k linear in (log coefficient, exponents).

The engine differentiates these in closed form (see power_sums.py).
"""

from research.scaling.laws.law import Law, Parameter, Term

EXPONENT = (1e-3, 4.0)

POWER = Law(
    name="power",
    formula="L(C) = A / C^alpha",
    source="Kaplan 2020, equation 1.3 without its constants",
    parameters=(
        Parameter("A", "coefficient", "loss * FLOPs^alpha"),
        Parameter("alpha", "exponent", "1", *EXPONENT),
    ),
    variables=("C",),
    terms=(Term("A", (("alpha", "C"),)),),
    minimum_rows=3,
)

# A frontier has one point a budget, so its table is short: one row more than it has parameters.
FRONTIER = Law(
    name="frontier",
    formula="L(C) = E + A / C^alpha",
    source="Henighan 2020, equation 1.1",
    parameters=(
        Parameter("E", "floor", "loss"),
        Parameter("A", "coefficient", "loss * FLOPs^alpha"),
        Parameter("alpha", "exponent", "1", *EXPONENT),
    ),
    variables=("C",),
    terms=(Term("E"), Term("A", (("alpha", "C"),))),
    minimum_rows=4,
)

# The same two of the size alone, for tables that know nothing else, or runs on one ladder.
SIZE_POWER = Law(
    name="size_power",
    formula="L(N) = A / N^alpha",
    source="Kaplan 2020, equation 1.1 without its constants",
    parameters=(
        Parameter("A", "coefficient", "loss * parameters^alpha"),
        Parameter("alpha", "exponent", "1", *EXPONENT),
    ),
    variables=("N",),
    terms=(Term("A", (("alpha", "N"),)),),
    minimum_rows=3,
)

SIZE = Law(
    name="size",
    formula="L(N) = E + A / N^alpha",
    source="Henighan 2020, equation 1.1, of parameters",
    parameters=(
        Parameter("E", "floor", "loss"),
        Parameter("A", "coefficient", "loss * parameters^alpha"),
        Parameter("alpha", "exponent", "1", *EXPONENT),
    ),
    variables=("N",),
    terms=(Term("E"), Term("A", (("alpha", "N"),))),
    minimum_rows=4,
)

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
