"""Size and data coupled in one bracket (Kaplan 2020)."""

from collections.abc import Mapping

from research.scaling.laws.law import Array, Law, Parameter, numerics


def _loss(parameters: Mapping[str, Array], variables: Mapping[str, Array]) -> Array:
    xp = numerics(parameters, variables)
    p = parameters
    size = p["alpha_N"] / p["alpha_D"] * (xp.log(p["N_c"]) - xp.log(variables["N"]))
    data = xp.log(p["D_c"]) - xp.log(variables["D"])
    return xp.exp(p["alpha_D"] * xp.logaddexp(size, data))


KAPLAN = Law(
    name="kaplan",
    formula="L(N, D) = ((N_c / N)^(alpha_N / alpha_D) + D_c / D)^alpha_D",
    source="Kaplan 2020, equation 1.5 (N without embeddings, D the data set, stopped early)",
    parameters=(
        Parameter("N_c", "scale", "parameters", 1e3, 1e30, (1e9, 1e11, 1e13, 1e15)),
        Parameter("D_c", "scale", "data", 1e3, 1e30, (1e9, 1e11, 1e13, 1e15)),
        Parameter("alpha_N", "exponent", "1", 1e-3, 2.0, (0.05, 0.1, 0.2)),
        Parameter("alpha_D", "exponent", "1", 1e-2, 2.0, (0.05, 0.1, 0.2)),
    ),
    variables=("N", "D"),
    minimum_rows=8,
    function=_loss,
)
