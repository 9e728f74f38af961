"""Learning curves: M1 to M4 (Alabdulmohsin 2022), smoothly broken powers (Caballero 2023).

`extrapolate` fits M1-M4 and one break to many short curves at once, in coordinates of its own
(research/scaling/extrapolate/laws.py).
"""

import functools

import numpy as np

from research.scaling.laws.law import Law, Parameter
from research.scaling.laws.numerics import frozen, numerics, softplus
from research.scaling.laws.power import power

NEWTON_STEPS = 30
# Powers are kept within e^-500 to e^500: a loss there is far off the table, and finite.
MAX_LOG = 500.0

_C = Parameter("c", "exponent", "1", 1e-3, 4.0, (0.1, 0.25, 0.5, 1.0))
_SOURCE = "Alabdulmohsin 2022, {} (c with its sign turned)"

M1 = power("m1", "D", "data", _SOURCE.format("M1"), False, ("beta", "c"))
M2 = power("m2", "D", "data", _SOURCE.format("M2"), names=("beta", "c"))


def _m3(p, v):
    xp = numerics(p, v)
    return p["beta"] * xp.exp(p["c"] * xp.log(1 / v["D"] + p["gamma"]))


M3 = Law(
    name="m3",
    formula="L(D) = beta (1 / D + gamma)^c",
    source=_SOURCE.format("M3") + ", as their code m3.py has it",
    parameters=(
        Parameter("beta", "coefficient", "loss * data^c"),
        Parameter("gamma", "scale", "1 / data", 1e-18, 1e3, tuple(10.0**k for k in range(-12, 0))),
        _C,
    ),
    variables=("D",),
    minimum_rows=4,
    function=_m3,
)


def _newton(z, alpha, y):
    """One step towards log s - alpha log(1 - s) = y for s = sigmoid(z)."""
    xp = numerics({"y": y})
    above = softplus(z)
    below = above - z
    return z - (alpha * above - below - y) / (xp.exp(-above) + alpha * xp.exp(-below))


def _root(alpha, y):
    """Where those steps end [rows], without derivatives."""
    xp = numerics({"y": y})
    start = xp.where(y < 0, y, y / xp.maximum(alpha, 1e-12))
    if xp is not np:
        return _compiled()(start, alpha, y)
    for _ in range(NEWTON_STEPS):
        last, start = start, _newton(start, alpha, y)
        if not (np.abs(start - last) > 1e-6).any():  # the next step is as good as exact
            break
    return start


@functools.cache
def _compiled():
    """The same in JAX, compiled once for each shape."""
    import jax

    @jax.jit
    def root(z, alpha, y):
        return jax.lax.fori_loop(0, NEWTON_STEPS, lambda _, z: _newton(z, alpha, y), z)

    return root


def _m4(p, v):
    xp = numerics(p, v)
    # With s = (L - E) / span the law is log s - alpha log(1 - s) = y; solved for z = logit(s), in
    # which the left side is increasing, and convex or concave throughout: Newton cannot cycle.
    y = xp.log(p["beta"]) - p["c"] * xp.log(v["D"]) + (p["alpha"] - 1) * xp.log(p["span"])
    alpha = p["alpha"] + 0 * y
    # One more step carries the derivatives of the root, another one the second derivatives.
    z = _newton(_root(frozen(alpha), frozen(y)), alpha, y)
    z = z if xp is np else _newton(z, alpha, y)
    return p["E"] + p["span"] * xp.exp(-softplus(-z))


M4 = Law(
    name="m4",
    formula="(L - E) / (L_0 - L)^alpha = beta / D^c, L_0 = E + span",
    source=_SOURCE.format("M4") + ", there in eps_inf = E and eps_0 = E + span",
    parameters=(
        Parameter("E", "floor", "loss"),
        Parameter("span", "scale", "loss", 1e-6, 1e6, (0.5, 1.0, 5.0)),
        Parameter("alpha", "exponent", "1", 1e-3, 20.0, (0.2, 1.0, 3.0)),
        Parameter("beta", "scale", "loss^(1 - alpha) * data^c", 1e-30, 1e40, (1.0, 30.0, 1e3, 1e5)),
        _C,
    ),
    variables=("D",),
    minimum_rows=6,
    function=_m4,
)


def _broken(num_breaks, p, v):
    xp = numerics(p, v)
    log_data = xp.log(v["D"])
    exponent = -p["c0"] * log_data
    for i in range(1, num_breaks + 1):
        sharpness, past = p[f"f{i}"], log_data - xp.log(p[f"d{i}"])
        exponent = exponent - p[f"c{i}"] * sharpness * softplus(past / sharpness)
    return p["a"] + p["b"] * xp.exp(xp.minimum(xp.maximum(exponent, -MAX_LOG), MAX_LOG))


def _broken_law(num_breaks: int) -> Law:
    # Where a break may be, as a share of the table's range of log D.
    places = {1: [(0.1, 0.3, 0.5, 0.7, 0.9)], 2: [(0.15, 0.4), (0.6, 0.85)]}
    places[3] = [(0.15, 0.3), (0.5,), (0.7, 0.85)]
    changes = (-0.3, 0.3, 1.0) if num_breaks == 1 else (-0.3, 0.5)
    widths = (0.1, 0.5, 2.0) if num_breaks == 1 else (0.3,)
    parameters = [
        Parameter("a", "floor", "loss"),
        Parameter("b", "coefficient", "loss * data^c0"),
        Parameter("c0", "exponent", "1", -2.0, 4.0, (0.0, 0.1, 0.4)),
    ]
    for i, place in enumerate(places[num_breaks], 1):
        parameters += [
            Parameter(f"c{i}", "exponent", "1", -10.0, 10.0, changes),
            Parameter(f"d{i}", "scale", "data", 1e-6, 1e30, place, within="D"),
            Parameter(f"f{i}", "scale", "1", 0.02, 10.0, widths),
        ]
    breaks = "one break" if num_breaks == 1 else f"{num_breaks} breaks"
    return Law(
        name=f"bnsl{num_breaks}",
        formula="L(D) = a + b D^-c0 prod_i (1 + (D / d_i)^(1 / f_i))^(-c_i f_i), " + breaks,
        source="Caballero 2023, equation 1",
        parameters=tuple(parameters),
        variables=("D",),
        minimum_rows=len(parameters) + 1,
        function=functools.partial(_broken, num_breaks),
    )


BNSL1, BNSL2, BNSL3 = (_broken_law(n) for n in (1, 2, 3))

CURVE_LAWS = (M1, M2, M3, M4, BNSL1, BNSL2, BNSL3)
