"""Students of a teacher, and the supervised law they are compared with (Busbridge 2025)."""

from collections.abc import Mapping

from research.scaling.laws.law import Array, Law, Parameter, numerics


def _bracket(parameters: Mapping[str, Array], variables: Mapping[str, Array]) -> Array:
    """Log of (A / N^alpha + B / D^beta)^gamma."""
    xp = numerics(parameters, variables)
    p = parameters
    size = xp.log(p["A"]) - p["alpha"] * xp.log(variables["N"])
    data = xp.log(p["B"]) - p["beta"] * xp.log(variables["D"])
    return p["gamma"] * xp.logaddexp(size, data)


def _supervised(parameters: Mapping[str, Array], variables: Mapping[str, Array]) -> Array:
    xp = numerics(parameters, variables)
    return parameters["E"] + xp.exp(_bracket(parameters, variables))


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


def _student(parameters: Mapping[str, Array], variables: Mapping[str, Array]) -> Array:
    xp = numerics(parameters, variables)
    p, log_teacher = parameters, xp.log(variables["teacher_loss"])
    gap = log_teacher - xp.log(variables["supervised_loss"]) - xp.log(p["d_1"])
    log_excess = _bracket(parameters, variables) - p["c_0"] * log_teacher
    log_excess = log_excess - p["c_1"] * p["f_1"] * xp.logaddexp(gap / p["f_1"], 0.0)
    return variables["teacher_loss"] + xp.exp(log_excess)


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

DISTILLATION_LAWS = (SUPERVISED, DISTILLATION)
