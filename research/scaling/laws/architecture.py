"""Architecture: experts, granularity, parallel streams, vocabulary, bits."""

from research.scaling.laws.law import Law, Parameter
from research.scaling.laws.numerics import numerics

_ALPHA = Parameter("alpha", "exponent", "1", 1e-3, 4.0, (0.15, 0.35, 0.7))
_BETA = Parameter("beta", "exponent", "1", 1e-3, 4.0, (0.15, 0.35, 0.7))


def _routed(p, v):
    xp = numerics(p, v)
    shift = 1 / (1 / p["E_start"] - 1 / p["E_max"])
    experts = 1 / (1 / (v["experts"] - 1 + shift) + 1 / p["E_max"])
    size, experts = xp.log10(v["N"]), xp.log10(experts)
    log_loss = p["a"] * size + p["b"] * experts + p["c"] * size * experts + p["d"]
    return 10.0**log_loss


# Base 10 is the authors' notebook's (google-deepmind/scaling_laws_for_routing); the paper writes
# log. With one expert E' is E_start, and the law is the power law of a dense model.
MOE_CLARK = Law(
    name="moe_clark",
    formula=(
        "log10 L(N, E) = a log10 N + b log10 E' + c log10 N log10 E' + d; "
        "1/E' = 1/(E - 1 + 1/(1/E_start - 1/E_max)) + 1/E_max"
    ),
    source="Clark 2022, equation 1 (N dense parameters, E experts, data fixed)",
    parameters=(
        Parameter("a", "exponent", "1", -2.0, 1.0, (-0.08,)),
        Parameter("b", "exponent", "1", -5.0, 5.0, (-0.1,)),
        Parameter("c", "exponent", "1", -1.0, 1.0, (0.01,)),
        Parameter("d", "exponent", "log10 loss", -20.0, 20.0, (1.0,)),
        Parameter("E_start", "scale", "experts", 1.0, 30.0, (1.2, 2.0, 4.0, 10.0)),
        Parameter("E_max", "scale", "experts", 40.0, 1e6, (60.0, 200.0, 1e3, 1e4), limit="upper"),
    ),
    variables=("N", "experts"),
    minimum_rows=12,
    function=_routed,
)


def _granular(p, v):
    xp = numerics(p, v)
    finer = p["g"] * xp.exp(-p["gamma"] * xp.log(v["granularity"]))
    size = (finer + p["a"]) * xp.exp(-p["alpha"] * xp.log(v["N"]))
    return p["E"] + size + p["b"] * xp.exp(-p["beta"] * xp.log(v["D"]))


MOE_KRAJEWSKI = Law(
    name="moe_krajewski",
    formula="L(N, D, G) = E + (g / G^gamma + a) / N^alpha + b / D^beta",
    source="Krajewski 2024, equation 9 (G granularity, experts fixed; E is their c)",
    parameters=(
        Parameter("E", "floor", "loss"),
        Parameter("g", "coefficient", "loss * parameters^alpha"),
        Parameter("a", "coefficient", "loss * parameters^alpha"),
        Parameter("b", "coefficient", "loss * data^beta"),
        Parameter("gamma", "exponent", "1", 1e-2, 4.0, (0.3, 1.0)),
        _ALPHA,
        _BETA,
    ),
    variables=("N", "D", "granularity"),
    minimum_rows=14,
    function=_granular,
)


def _streams(p, v):
    xp = numerics(p, v)
    size = xp.log(v["N"]) + xp.log1p(p["k"] * xp.log(v["streams"]))
    return p["E"] + xp.exp(p["alpha"] * (xp.log(p["A"]) - size))


PARALLEL = Law(
    name="parallel",
    formula="L(N, P) = E + (A / (N (k ln P + 1)))^alpha",
    source="Chen 2025 (ParScale), equation 5 (P parallel streams, data fixed)",
    parameters=(
        Parameter("E", "floor", "loss"),
        Parameter("A", "scale", "parameters", 1e-6, 1e25, (1e6, 1e8, 1e10)),
        Parameter("k", "scale", "1", 1e-6, 1e3, (0.1, 0.4, 2.0), limit="lower"),
        Parameter("alpha", "exponent", "1", 1e-2, 4.0, (0.1, 0.2, 0.4, 0.8)),
    ),
    variables=("N", "streams"),
    minimum_rows=8,
    function=_streams,
)


def _vocabulary(p, v):
    xp = numerics(p, v)
    size = p["A_1"] * xp.exp(-p["alpha"] * xp.log(v["N"]))
    words = p["A_2"] * xp.exp(-p["alpha_2"] * xp.log(v["vocabulary_parameters"]))
    return p["E"] + size + words + p["B"] * xp.exp(-p["alpha"] * xp.log(v["D"]))


# alpha_1 = beta as in their fit. Their E enters with a minus sign: their loss is normalised by a
# unigram model, and negative; here E may have either sign, so that bits per byte can be fitted.
VOCABULARY = Law(
    name="vocabulary",
    formula="L(N, N_v, D) = E + A_1 / N^alpha + A_2 / N_v^alpha_2 + B / D^alpha",
    source=(
        "Tao 2024, parametric approach (N without, N_v with the vocabulary's parameters; "
        "D in tokens, as their code approach3_isoloss.py has it)"
    ),
    parameters=(
        Parameter("E", "floor", "loss", -50.0, 50.0),
        Parameter("A_1", "coefficient", "loss * parameters^alpha"),
        Parameter("A_2", "coefficient", "loss * parameters^alpha_2"),
        Parameter("B", "coefficient", "loss * data^alpha"),
        Parameter("alpha", "exponent", "1", 1e-2, 2.0, (0.15, 0.3, 0.45, 0.7)),
        Parameter("alpha_2", "exponent", "1", 1e-2, 4.0, (0.15, 0.3, 0.45, 0.7)),
    ),
    variables=("N", "vocabulary_parameters", "D"),
    minimum_rows=12,
    function=_vocabulary,
)


def _precision(p, v):
    xp = numerics(p, v)
    log_size = xp.log(v["N"])
    for what in ("weight", "activation", "cache"):
        kept = -xp.expm1(-v[f"{what}_bits"] / p[f"gamma_{what}"])
        log_size = log_size + xp.log(kept)
    size = p["A"] * xp.exp(-p["alpha"] * log_size)
    return p["E"] + size + p["B"] * xp.exp(-p["beta"] * xp.log(v["D"]))


PRECISION = Law(
    name="precision",
    formula=(
        "L = E + A / N_eff^alpha + B / D^beta; "
        "N_eff = N prod_x (1 - exp(-bits_x / gamma_x)), x weight, activation, cache"
    ),
    source="Kumar 2024, equations 3 and 4 (bits while training; cache: keys and values)",
    parameters=(
        Parameter("E", "floor", "loss"),
        Parameter("A", "coefficient", "loss * parameters^alpha"),
        Parameter("B", "coefficient", "loss * data^beta"),
        _ALPHA,
        _BETA,
        Parameter("gamma_weight", "scale", "bits", 0.05, 50.0, (1.0, 3.0), limit="lower"),
        Parameter("gamma_activation", "scale", "bits", 0.05, 50.0, (1.0, 3.0), limit="lower"),
        Parameter("gamma_cache", "scale", "bits", 0.05, 50.0, (1.0, 3.0), limit="lower"),
    ),
    variables=("N", "D", "weight_bits", "activation_bits", "cache_bits"),
    minimum_rows=16,
    function=_precision,
)


def _quantised(p, v):
    xp = numerics(p, v)
    log_size, log_data = xp.log(v["N"]), xp.log(v["D"])
    trained = p["A"] * xp.exp(-p["alpha"] * log_size) + p["B"] * xp.exp(-p["beta"] * log_data)
    power = p["gamma_D"] * log_data - p["gamma_N"] * log_size
    return p["E"] + trained + p["C_T"] * xp.exp(power - v["bits"] / p["gamma_post"])


QUANTISATION = Law(
    name="quantisation",
    formula=(
        "L(N, D, bits) = E + A / N^alpha + B / D^beta "
        "+ C_T D^gamma_D / N^gamma_N exp(-bits / gamma_post)"
    ),
    source="Kumar 2024, equations 1 and 2 (weights quantised after training)",
    parameters=(
        Parameter("E", "floor", "loss"),
        Parameter("A", "coefficient", "loss * parameters^alpha"),
        Parameter("B", "coefficient", "loss * data^beta"),
        Parameter("C_T", "coefficient", "loss * parameters^gamma_N / data^gamma_D"),
        _ALPHA,
        _BETA,
        Parameter("gamma_D", "exponent", "1", 0.0, 4.0, (0.3, 0.7)),
        Parameter("gamma_N", "exponent", "1", 0.0, 4.0, (0.3, 0.7)),
        Parameter("gamma_post", "scale", "bits", 0.05, 50.0, (0.5, 1.5)),
    ),
    variables=("N", "D", "bits"),
    minimum_rows=18,
    function=_quantised,
)

ARCHITECTURE_LAWS = (MOE_CLARK, MOE_KRAJEWSKI, PARALLEL, VOCABULARY, PRECISION, QUANTISATION)
