"""Data: repeated (Muennighoff 2023), more than optimal, and what its loss is worth (Gadre 2024)."""

from research.scaling.laws.law import Law, Parameter
from research.scaling.laws.numerics import numerics

# Beyond e^60 times too many parameters for the data the excess counts no more: no overflow.
MAX_LOG_EXCESS = 60.0


def _repeated(p, v):
    xp = numerics(p, v)
    log_size, data = xp.log(v["N"]), v["D"]
    unique = xp.minimum(v["U"], data)
    repeats = data / unique - 1
    saturated = -xp.expm1(-repeats / p["R_D_star"])
    log_data = xp.log(unique) + xp.log1p(p["R_D_star"] * saturated)
    ratio = xp.log(p["alpha"] * p["A"]) - xp.log(p["beta"] * p["B"])
    log_g = ratio / (p["alpha"] + p["beta"])
    log_optimal = log_g + p["beta"] / p["alpha"] * (xp.log(unique) + log_g)
    log_excess = xp.clip(log_size - log_optimal, 0.0, MAX_LOG_EXCESS)
    saturated = -xp.expm1(-xp.expm1(log_excess) / p["R_N_star"])
    log_size = log_size - log_excess + xp.log1p(p["R_N_star"] * saturated)
    size_term = xp.exp(xp.log(p["A"]) - p["alpha"] * log_size)
    return p["E"] + size_term + xp.exp(xp.log(p["B"]) - p["beta"] * log_data)


# N_opt, the parameters that U unique tokens deserve, is Chinchilla's optimum for D = U:
# N_opt = G (G U)^(beta / alpha), G = (alpha A / (beta B))^(1 / (alpha + beta)), as in the README of
# the authors' datablations repository. Excess parameters are
# discounted even without repeats: with U >= D this is Chinchilla wherever N <= N_opt(D).
MUENNIGHOFF = Law(
    name="muennighoff",
    formula=(
        "L(N, D, U) = E + A / N'^alpha + B / D'^beta; X' = U_X (1 + R_X* (1 - exp(-R_X / R_X*))); "
        "U_D = min(U, D), U_N = min(N, N_opt(U_D)), R_D = D / U_D - 1, R_N = N / U_N - 1"
    ),
    source="Muennighoff 2023, equations 5 and 6",
    parameters=(
        Parameter("E", "floor", "loss"),
        Parameter("A", "scale", "loss * parameters^alpha", 1e-3, 1e15, (30.0, 500.0, 8e3)),
        Parameter("B", "scale", "loss * data^beta", 1e-3, 1e15, (30.0, 1e3, 3e4)),
        Parameter("alpha", "exponent", "1", 0.02, 2.0, (0.25, 0.4)),
        Parameter("beta", "exponent", "1", 0.02, 2.0, (0.25, 0.4)),
        Parameter("R_D_star", "scale", "epochs", 1e-2, 1e5, (5.0, 20.0, 100.0), limit="upper"),
        Parameter("R_N_star", "scale", "1", 1e-2, 1e5, (1.5, 5.0, 20.0), limit="upper"),
    ),
    variables=("N", "D", "U"),
    minimum_rows=14,
    function=_repeated,
)


def _overtrained(p, v):
    xp = numerics(p, v)
    size = xp.exp(-p["eta"] * (2 * xp.log(v["N"]) + xp.log(6.0)))
    data = xp.exp(-p["eta"] * (2 * xp.log(v["D"]) + xp.log(6.0)))
    return p["E"] + p["a"] * size + p["b"] * data


# With C = 6 N D and M = D / N the bracket is 6^-eta (a N^(-2 eta) + b D^(-2 eta)). The authors'
# code (mlfoundations/scaling, laws.py) leaves the 6 out of its first term: its alpha is
# a 6^-eta, its beta is b, its exponent is -2 eta.
OVERTRAINING = Law(
    name="overtraining",
    formula="L(N, D) = E + (a M^eta + b M^-eta) C^-eta, M = D / N, C = 6 N D",
    source="Gadre 2024, equation 4",
    parameters=(
        Parameter("E", "floor", "loss"),
        Parameter("a", "coefficient", "loss * FLOPs^eta"),
        Parameter("b", "coefficient", "loss * FLOPs^eta"),
        Parameter("eta", "exponent", "1", 1e-3, 1.0, (0.03, 0.06, 0.1, 0.14, 0.18, 0.25, 0.35)),
    ),
    variables=("N", "D"),
    minimum_rows=5,
    function=_overtrained,
)


def _error(p, v):
    xp = numerics(p, v)
    return p["epsilon"] - p["k"] * xp.exp(-p["gamma"] * v["loss"])


LOSS_TO_ERROR = Law(
    name="loss_to_error",
    formula="error = epsilon - k exp(-gamma loss)",
    source="Gadre 2024, equation 5",
    parameters=(
        Parameter("epsilon", "floor", "error"),
        Parameter("k", "coefficient", "error"),
        Parameter("gamma", "exponent", "1 / loss", 1e-3, 20.0, (0.1, 0.3, 0.6, 1.0, 2.0, 4.0)),
    ),
    variables=("loss",),
    minimum_rows=4,
    function=_error,
    target="error",
)

DATA_LAWS = (MUENNIGHOFF, OVERTRAINING, LOSS_TO_ERROR)
