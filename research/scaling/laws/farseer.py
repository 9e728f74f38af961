"""A data exponent that depends on the size (Li 2025, Farseer)."""

from collections.abc import Mapping

from research.scaling.laws.law import Array, Law, Parameter, numerics

# A loss of e^500 is far off any table, and finite.
MAX_LOG = 500.0


def _loss(parameters: Mapping[str, Array], variables: Mapping[str, Array]) -> Array:
    xp = numerics(parameters, variables)
    p, log_size, log_data = parameters, xp.log(variables["N"]), xp.log(variables["D"])

    def linear(k: int, power: str) -> Array:
        value = p[f"a_{k}"] * xp.exp(p[power] * log_size) + p[f"b_{k}"]
        return xp.clip(value, -MAX_LOG, MAX_LOG)

    exponent = xp.exp(linear(1, "alpha"))
    return xp.exp(linear(3, "gamma")) + xp.exp(linear(2, "beta") - exponent * log_data)


FARSEER = Law(
    name="farseer",
    formula=("L(N, D) = exp(a_3 N^gamma + b_3) + exp(a_2 N^beta + b_2) D^-exp(a_1 N^alpha + b_1)"),
    source="Li 2025 (Farseer), equation 3 (N without embeddings)",
    parameters=(
        Parameter("a_1", "exponent", "parameters^-alpha", -10.0, 0.0, (-0.1,)),
        Parameter("alpha", "exponent", "1", 1e-2, 0.6, (0.05, 0.12)),
        Parameter("b_1", "exponent", "1", -5.0, 5.0, (-0.5, 0.4)),
        Parameter("a_2", "exponent", "parameters^-beta", 0.0, 1e3, (10.0, 80.0)),
        Parameter("beta", "exponent", "1", -1.0, -1e-2, (-0.2, -0.1)),
        Parameter("b_2", "exponent", "log loss", -50.0, 50.0, (-5.0, 0.0, 5.0)),
        Parameter("a_3", "exponent", "parameters^-gamma", -10.0, 0.0, (-0.02, -0.1)),
        Parameter("gamma", "exponent", "1", 1e-2, 0.6, (0.08, 0.17)),
        Parameter("b_3", "exponent", "log loss", -5.0, 10.0, (0.0, 1.0)),
    ),
    variables=("N", "D"),
    minimum_rows=18,
    function=_loss,
)
