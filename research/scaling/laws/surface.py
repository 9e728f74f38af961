"""Losses of size and data that are no sum of powers: one bracket, varying exponents, a teacher."""

from research.scaling.laws.law import Law, Parameter
from research.scaling.laws.numerics import numerics


def _bracketed(p, v):
    xp = numerics(p, v)
    size = p["alpha_N"] / p["alpha_D"] * (xp.log(p["N_c"]) - xp.log(v["N"]))
    data = xp.log(p["D_c"]) - xp.log(v["D"])
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
    function=_bracketed,
)


# A loss of e^500 is far off any table, and finite.
MAX_LOG = 500.0


def _farseer(p, v):
    xp = numerics(p, v)
    log_size, log_data = xp.log(v["N"]), xp.log(v["D"])

    def linear(k, power):
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
    function=_farseer,
)


def _bracket(p, v):
    """Log of (A / N^alpha + B / D^beta)^gamma."""
    xp = numerics(p, v)
    size = xp.log(p["A"]) - p["alpha"] * xp.log(v["N"])
    data = xp.log(p["B"]) - p["beta"] * xp.log(v["D"])
    return p["gamma"] * xp.logaddexp(size, data)


def _supervised(p, v):
    xp = numerics(p, v)
    return p["E"] + xp.exp(_bracket(p, v))


_SIZES = (
    Parameter("A", "scale", "parameters^alpha", 1e-6, 1e20, (1e2, 3e3, 1e5)),
    Parameter("B", "scale", "data^beta", 1e-6, 1e20, (1e2, 3e3, 1e5)),
    Parameter("alpha", "exponent", "1", 1e-2, 4.0, (0.3, 0.5)),
    Parameter("beta", "exponent", "1", 1e-2, 4.0, (0.3, 0.5)),
    Parameter("gamma", "exponent", "1", 1e-2, 4.0, (0.4, 1.0)),
)

SUPERVISED = Law(
    name="supervised",
    formula="L(N, D) = E + (A / N^alpha + B / D^beta)^gamma",
    source="Busbridge 2025, supervised scaling law; Chinchilla with gamma = 1",
    parameters=(Parameter("E", "floor", "loss"), *_SIZES),
    variables=("N", "D"),
    minimum_rows=12,
    function=_supervised,
)


def _student(p, v):
    xp = numerics(p, v)
    log_teacher = xp.log(v["teacher_loss"])
    gap = log_teacher - xp.log(v["supervised_loss"]) - xp.log(p["d_1"])
    log_excess = _bracket(p, v) - p["c_0"] * log_teacher
    log_excess = log_excess - p["c_1"] * p["f_1"] * xp.logaddexp(gap / p["f_1"], 0.0)
    return v["teacher_loss"] + xp.exp(log_excess)


DISTILLATION = Law(
    name="distillation",
    formula=(
        "L(N, D, L_T, L_S) = L_T + L_T^-c_0 (1 + (L_T / (L_S d_1))^(1 / f_1))^(-c_1 f_1) "
        "(A / N^alpha + B / D^beta)^gamma"
    ),
    source=(
        "Busbridge 2025, equation 8 (L_T the teacher's loss; L_S the same student's without a "
        "teacher; A, B and the last three exponents have a prime there)"
    ),
    parameters=(
        Parameter("c_0", "exponent", "1", 0.0, 20.0, (1.0, 3.0)),
        Parameter("c_1", "scale", "1", 1e-2, 5e3, (1.0, 30.0)),
        Parameter("d_1", "scale", "1", 0.1, 10.0, (1.0, 1.3)),
        Parameter("f_1", "scale", "1", 1e-2, 10.0, (0.1, 0.5)),
        Parameter("A", "scale", "parameters^alpha", 1e-6, 1e20, (1e2, 1e4)),
        Parameter("B", "scale", "data^beta", 1e-6, 1e20, (1e2, 1e4)),
        Parameter("alpha", "exponent", "1", 1e-2, 4.0, (0.35,)),
        Parameter("beta", "exponent", "1", 1e-2, 4.0, (0.35, 0.6)),
        Parameter("gamma", "exponent", "1", 1e-2, 4.0, (0.5, 1.0)),
    ),
    variables=("N", "D", "teacher_loss", "supervised_loss"),
    minimum_rows=18,
    function=_student,
)

SURFACE_LAWS = (KAPLAN, FARSEER, SUPERVISED, DISTILLATION)
