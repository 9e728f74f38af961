"""Laws as objects: what each says at a point, where it becomes another, and its derivatives."""

import itertools
import re

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from research.errors import UserError
from research.scaling.engine.autodiff import Autodiff
from research.scaling.laws import LAWS, MUENNIGHOFF, OVERTRAINING, Law, get, mixture, restrict
from tests.scaling.instances import INSTANCES, instance

N, D = np.meshgrid(np.geomspace(1e6, 1e12, 5), np.geomspace(1e8, 1e13, 5))
N, D = N.ravel(), D.ravel()
CHINCHILLA = {"E": 1.7, "A": 406.0, "B": 410.0, "alpha": 0.34, "beta": 0.28}
CHINCHILLA_LOSS = LAWS["chinchilla"].loss(CHINCHILLA, N=N, D=D)


def same(left, right, tolerance=1e-13):
    np.testing.assert_allclose(left, right, rtol=tolerance, atol=0)


def every_law() -> list[Law]:
    return [*LAWS.values(), mixture(2), mixture(7)]


@pytest.mark.parametrize("law", every_law(), ids=lambda law: law.name)
def test_every_law_says_what_it_is(law):
    assert re.search(r"\b(19|20)\d\d\b", law.source), "a year"
    assert law.formula and law.target and law.minimum_rows > len(law.parameters)
    assert len(set(law.names)) == len(law.names) and len(set(law.variables)) == len(law.variables)
    assert bool(law.terms) != (law.function is not None)
    num_starts = 1
    for parameter in law.parameters:
        assert parameter.unit and parameter.low < parameter.high
        assert parameter.linear or parameter.grid or law.terms, f"{parameter.name}: no start"
        num_starts *= 1 if parameter.linear else max(len(parameter.grid), 1)
        if not parameter.within:
            assert all(parameter.low <= start <= parameter.high for start in parameter.grid)
    assert num_starts <= 1000


def test_every_law_has_an_instance():
    assert set(LAWS) <= set(INSTANCES)


@pytest.mark.parametrize("law", every_law(), ids=lambda law: law.name)
def test_the_function_is_linear_in_what_it_calls_linear(law):
    # Least squares start from this: value(x) must be value(0) + sum x_j (value(e_j) - value(0)).
    rng = np.random.default_rng(0)
    variables = {v: rng.uniform(2.0, 30.0, 7) for v in law.variables}
    values = [
        parameter.grid[0] if parameter.grid and not parameter.within else 3.0
        for parameter in law.parameters
    ]
    point = np.array(values)
    linear = [i for i, parameter in enumerate(law.parameters) if parameter.linear]
    point[linear] = 0.0
    base = law.loss(point, **variables) if linear else 0.0
    amounts = rng.uniform(1.0, 5.0, len(linear))
    total = base
    for amount, j in zip(amounts, linear, strict=True):
        unit = point.copy()
        unit[j] = 1.0
        total = total + amount * (law.loss(unit, **variables) - base)
    point[linear] = amounts
    if linear:
        same(law.loss(point, **variables), total, 1e-12)


def test_kaplan_tends_to_each_of_its_two_power_laws():
    p = {"N_c": 6.4e13, "D_c": 1.8e13, "alpha_N": 0.076, "alpha_D": 0.103}
    same(LAWS["kaplan"].loss(p, N=N, D=1e200), (p["N_c"] / N) ** p["alpha_N"])
    same(LAWS["kaplan"].loss(p, N=1e300, D=D), (p["D_c"] / D) ** p["alpha_D"])


def test_muennighoff_is_chinchilla_with_unique_data_and_few_parameters():
    p = {**CHINCHILLA, "R_D_star": 15.4, "R_N_star": 5.3}
    ratio = p["alpha"] * p["A"] / (p["beta"] * p["B"])
    g = ratio ** (1 / (p["alpha"] + p["beta"]))
    optimal = g * (g * D) ** (p["beta"] / p["alpha"])
    few = N <= optimal
    assert few.any() and not few.all()
    for unique in (D, 7 * D):
        loss = MUENNIGHOFF.loss(p, N=N, D=D, U=unique)
        same(loss[few], CHINCHILLA_LOSS[few])
        # More parameters than the data deserve are worth less than their number.
        assert (loss[~few] > CHINCHILLA_LOSS[~few]).all()
    # At N_opt exactly, wherever it is, nothing is in excess.
    loss = MUENNIGHOFF.loss(p, N=optimal, D=D, U=D)
    same(loss, LAWS["chinchilla"].loss(CHINCHILLA, N=optimal, D=D))


def test_muennighoff_repeats_saturate():
    p = {**CHINCHILLA, "R_D_star": 15.4, "R_N_star": 5.3}
    forever = MUENNIGHOFF.loss(p, N=1e6, D=1e10 * 1e6, U=1e10)
    # All epochs together are worth 1 + R_D* of them, and nothing repeats in Chinchilla's.
    same(forever, LAWS["chinchilla"].loss(CHINCHILLA, N=1e6, D=1e10 * 16.4), 1e-12)
    # Without discount (both R* large) repeated data are fresh data.
    fresh = {**p, "R_D_star": 1e12, "R_N_star": 1e12}
    same(MUENNIGHOFF.loss(fresh, N=1e7, D=D, U=D / 50), _chinchilla(1e7, D), 1e-9)


def _chinchilla(params, data):
    return LAWS["chinchilla"].loss(CHINCHILLA, N=params, D=data)


def test_overtraining_is_chinchilla_with_one_exponent():
    eta = 0.15
    loss = OVERTRAINING.loss({"E": 1.7, "a": 200.0, "b": 300.0, "eta": eta}, N=N, D=D)
    factor = 6**-eta
    tied = {"E": 1.7, "A": 200 * factor, "B": 300 * factor, "alpha": 2 * eta, "beta": 2 * eta}
    same(loss, LAWS["chinchilla"].loss(tied, N=N, D=D))
    # As printed, in C and M.
    c, m = 6 * N * D, D / N
    same(loss, 1.7 + (200 * m**eta + 300 * m**-eta) * c**-eta)


def test_curves_become_one_another():
    d = np.geomspace(1e2, 1e10, 9)
    m1 = LAWS["m1"].loss({"beta": 20.0, "c": 0.3}, D=d)
    same(LAWS["m2"].loss({"E": 0.0, "beta": 20.0, "c": 0.3}, D=d), m1)
    same(LAWS["m3"].loss({"beta": 20.0, "gamma": 0.0, "c": 0.3}, D=d), m1)
    m2 = LAWS["m2"].loss({"E": 0.1, "beta": 2.0, "c": 0.3}, D=d)
    # M4 with alpha = 0 is M2 while the loss is below L_0 = E + span.
    m4 = {"E": 0.1, "span": 5.0, "alpha": 0.0, "beta": 2.0, "c": 0.3}
    same(LAWS["m4"].loss(m4, D=d), m2)
    one = {"a": 0.1, "b": 2.0, "c0": 0.3, "c1": 0.0, "d1": 1e5, "f1": 0.4}
    same(LAWS["bnsl1"].loss(one, D=d), m2)
    one["c1"] = 0.7
    two = {**one, "c2": 0.0, "d2": 1e7, "f2": 0.2}
    three = {**two, "c3": 0.0, "d3": 1e8, "f3": 0.2}
    same(LAWS["bnsl2"].loss(two, D=d), LAWS["bnsl1"].loss(one, D=d))
    same(LAWS["bnsl3"].loss(three, D=d), LAWS["bnsl1"].loss(one, D=d))
    # As printed.
    same(
        LAWS["bnsl1"].loss(one, D=d),
        0.1 + 2 * d**-0.3 * (1 + (d / 1e5) ** (1 / 0.4)) ** (-0.7 * 0.4),
    )


@settings(max_examples=200)
@given(
    st.floats(0.0, 3.0),
    st.floats(0.05, 20.0),
    st.floats(0.01, 10.0),
    st.floats(-5.0, 20.0),
    st.floats(0.01, 2.0),
)
def test_m4_solves_its_equation(floor, span, alpha, log_beta, c):
    d = np.geomspace(1e2, 1e10, 9)
    p = {"E": floor, "span": span, "alpha": alpha, "beta": np.exp(log_beta), "c": c}
    share = (LAWS["m4"].loss(p, D=d) - floor) / span
    inside = (share > 1e-9) & (share < 1 - 1e-9)
    left = np.log(share[inside] * span) - alpha * np.log((1 - share[inside]) * span)
    right = log_beta - c * np.log(d[inside])
    np.testing.assert_allclose(left, right, atol=1e-5 * (1 + alpha))
    assert (np.diff(share) <= 1e-15).all()


def test_architectures_without_the_architecture_are_plain():
    # One expert is dense: a power of N. Where b + c log10 N = 0, more experts change nothing.
    p = {"a": -0.082, "b": -0.108, "c": 0.009, "d": 1.104, "E_start": 1.847, "E_max": 314.478}
    log_start = np.log10(p["E_start"])
    dense = 10 ** (p["d"] + p["b"] * log_start) * N ** (p["a"] + p["c"] * log_start)
    same(LAWS["moe_clark"].loss(p, N=N, experts=1.0), dense, 1e-12)
    experts = 2.0 ** np.arange(10)
    flat = LAWS["moe_clark"].loss(p, N=10 ** (-p["b"] / p["c"]), experts=experts)
    same(flat, flat[0], 1e-12)
    many = LAWS["moe_clark"].loss(p, N=N, experts=1e15)
    log_max = np.log10(p["E_max"])
    same(many, 10 ** (p["d"] + p["b"] * log_max) * N ** (p["a"] + p["c"] * log_max), 1e-11)

    fine = {"E": 1.7, "g": 6.0, "a": 400.0, "b": 410.0, "gamma": 0.6, "alpha": 0.34, "beta": 0.28}
    same(LAWS["moe_krajewski"].loss(fine, N=N, D=D, granularity=1.0), CHINCHILLA_LOSS)

    streams = {"E": 1.7, "A": 1e8, "k": 0.4, "alpha": 0.2}
    same(LAWS["parallel"].loss(streams, N=N, streams=1.0), 1.7 + (1e8 / N) ** 0.2)
    more = LAWS["parallel"].loss(streams, N=N, streams=8.0)
    same(more, LAWS["parallel"].loss(streams, N=N * (0.4 * np.log(8) + 1), streams=1.0))

    bits = {"gamma_weight": 2.7, "gamma_activation": 2.2, "gamma_cache": 0.9}
    full = {"weight_bits": 1e6, "activation_bits": 1e6, "cache_bits": 1e6}
    precision = LAWS["precision"]
    same(precision.loss({**CHINCHILLA, **bits}, N=N, D=D, **full), CHINCHILLA_LOSS)
    four = precision.loss({**CHINCHILLA, **bits}, N=N, D=D, **{**full, "weight_bits": 4.0})
    same(four, _chinchilla(N * (1 - np.exp(-4 / 2.7)), D))
    cut = {"C_T": 0.06, "gamma_D": 0.5, "gamma_N": 0.35, "gamma_post": 0.6}
    same(LAWS["quantisation"].loss({**CHINCHILLA, **cut}, N=N, D=D, bits=1e6), CHINCHILLA_LOSS)
    added = LAWS["quantisation"].loss({**CHINCHILLA, **cut}, N=N, D=D, bits=4.0) - CHINCHILLA_LOSS
    same(added, 0.06 * D**0.5 / N**0.35 * np.exp(-4 / 0.6), 1e-9)

    words = {"E": 1.7, "A_1": 406.0, "A_2": 0.0, "B": 410.0, "alpha": 0.3, "alpha_2": 0.6}
    tied = {**CHINCHILLA, "alpha": 0.3, "beta": 0.3}
    loss = LAWS["vocabulary"].loss(words, N=N, vocabulary_parameters=1e7, D=D)
    same(loss, LAWS["chinchilla"].loss(tied, N=N, D=D))


def test_farseer_without_its_cross_terms_is_a_power_of_data():
    p = {"a_1": 0.0, "b_1": np.log(0.3), "a_2": 0.0, "b_2": np.log(400.0), "a_3": 0.0, "b_3": 0.5}
    p |= {"alpha": 0.12, "beta": -0.1, "gamma": 0.17}
    same(LAWS["farseer"].loss(p, N=N, D=D), np.exp(0.5) + 400 * D**-0.3, 1e-12)
    # As printed.
    p |= {"a_1": -0.1, "a_2": 80.0, "a_3": -0.02}
    exponent = np.exp(-0.1 * N**0.12 + p["b_1"])
    printed = np.exp(-0.02 * N**0.17 + 0.5) + np.exp(80 * N**-0.1 + p["b_2"]) * D**-exponent
    same(LAWS["farseer"].loss(p, N=N, D=D), printed, 1e-11)


def test_distillation_and_its_supervised_law():
    outer = {**CHINCHILLA, "gamma": 1.0}
    same(LAWS["supervised"].loss(outer, N=N, D=D), CHINCHILLA_LOSS)
    # Without a floor and coupled as Kaplan does, it is Kaplan's.
    kaplan = {"N_c": 6.4e13, "D_c": 1.8e13, "alpha_N": 0.076, "alpha_D": 0.103}
    power = kaplan["alpha_N"] / kaplan["alpha_D"]
    supervised = {"E": 0.0, "A": kaplan["N_c"] ** power, "B": kaplan["D_c"], "alpha": power}
    supervised |= {"beta": 1.0, "gamma": kaplan["alpha_D"]}
    coupled = LAWS["supervised"].loss(supervised, N=N, D=D)
    same(coupled, LAWS["kaplan"].loss(kaplan, N=N, D=D), 1e-12)

    p = {"c_0": 2.5, "c_1": 20.0, "d_1": 1.3, "f_1": 0.1, "A": 2e3, "B": 2e4}
    p |= {"alpha": 0.32, "beta": 0.6, "gamma": 0.76}
    teacher, alone = 2.2, 2.9
    loss = LAWS["distillation"].loss(p, N=N, D=D, teacher_loss=teacher, supervised_loss=alone)
    broken = (1 + (teacher / (alone * 1.3)) ** (1 / 0.1)) ** (-20 * 0.1)
    sizes = (2e3 / N**0.32 + 2e4 / D**0.6) ** 0.76
    same(loss, teacher + teacher**-2.5 * broken * sizes, 1e-12)


def test_a_mixture_does_not_say_which_share_it_left_out():
    # Ye's form has a t for every domain; the shares sum to one, so one of them moves into k.
    rng = np.random.default_rng(0)
    shares, t, k = rng.dirichlet(np.ones(4), 9), np.array([-1.5, 0.4, -0.2, 0.7]), 1.3
    ye = 0.9 + k * np.exp(shares @ t)
    parameters = {"c": 0.9, "k": k * np.exp(t[3])}
    parameters |= {f"t_{j + 1}": t[j] - t[3] for j in range(3)}
    same(mixture(4).loss(parameters, **{f"r_{j + 1}": shares[:, j] for j in range(3)}), ye)
    assert get("mixture:4") is mixture(4)
    for bad in ("mixture:1", "mixture:13"):
        with pytest.raises(UserError, match="from 2 to 12"):
            get(bad)


# What falls (-1) or rises (+1) with what, as the papers say.
MONOTONE = {
    **{name: {"N": -1, "D": -1} for name in ("chinchilla", "kaplan", "overtraining", "supervised")},
    "frontier": {"C": -1},
    "power": {"C": -1},
    "muennighoff": {"N": -1, "D": -1},
    "loss_to_error": {"loss": 1},
    **{name: {"D": -1} for name in ("m1", "m2", "m3", "m4", "bnsl1", "farseer")},
    "step_learning_rate": {"N": -1, "D": 1},
    "step_batch": {"D": 1},
    "allocation": {"C": 1},
    "moe_clark": {"N": -1, "experts": -1},
    "moe_krajewski": {"N": -1, "D": -1, "granularity": -1},
    "parallel": {"N": -1, "streams": -1},
    "vocabulary": {"N": -1, "vocabulary_parameters": -1, "D": -1},
    "precision": {"N": -1, "D": -1, "weight_bits": -1, "activation_bits": -1, "cache_bits": -1},
    "quantisation": {"N": -1, "bits": -1},
    "distillation": {"N": -1, "D": -1, "supervised_loss": 1},
}


@pytest.mark.parametrize(
    "name, variable", [(n, v) for n, signs in MONOTONE.items() for v in signs], ids=str
)
def test_it_falls_or_rises_with_each_variable(name, variable):
    law, variables, truth, values = instance(name)
    more = law.loss(truth, **{**variables, variable: variables[variable] * 1.1})
    change = MONOTONE[name][variable] * (more - values)
    # Muennighoff's repeats and excess parameters saturate: there nothing changes any more.
    assert (change > (-1e-14 if name == "muennighoff" else 0)).all() and change.max() > 1e-6


def test_quantising_a_model_of_more_data_costs_more():
    # The reason for the law: beyond some D, more pretraining raises the loss after quantisation.
    law, _, truth, _ = instance("quantisation")
    d = np.geomspace(1e9, 1e14, 60)
    steps = np.diff(law.loss(truth, N=1e8, D=d, bits=3.0))
    assert steps[0] < 0 < steps[-1]


def corner(law: Law) -> dict[str, np.ndarray]:
    """Extreme values of a law's variables, all together."""
    ends = {"N": (1e4, 1e13), "D": (1e2, 1e14), "U": (1e2, 1e14), "C": (1e10, 1e28)}
    ends |= {"loss": (0.1, 20.0), "teacher_loss": (0.1, 20.0), "supervised_loss": (0.1, 20.0)}
    ends |= {"vocabulary_parameters": (1e4, 1e11), "experts": (1.0, 1e4)}
    other = (0.0, 1.0) if law.name.startswith("mixture") else (1.0, 64.0)
    rows = list(itertools.product(*(ends.get(v, other) for v in law.variables)))
    return {v: np.array(rows)[:, i] for i, v in enumerate(law.variables)}


@pytest.mark.parametrize("law", [x for x in every_law() if not x.terms], ids=lambda law: law.name)
def test_derivatives_are_finite_everywhere_between_the_bounds(law):
    variables = corner(law)
    design = Autodiff(law, variables)
    low, high = design.bounds(np.array([0.5, 5.0]))

    # Corners of the box are where powers overflow.
    share = st.one_of(st.sampled_from([0.0, 1.0]), st.floats(0, 1))

    @settings(max_examples=400)
    @given(st.lists(share, min_size=len(low), max_size=len(low)))
    def check(shares):
        theta = low + np.array(shares) * (high - low)
        assert np.isfinite(design.predict(theta[None], log=False)).all()
        assert np.isfinite(design.jacobian(theta[None], log=False)).all()

    check()


@pytest.mark.parametrize("name", ["kaplan", "m4", "bnsl1", "muennighoff"])
def test_derivatives_are_those_of_the_value(name):
    law, variables, truth, values = instance(name)
    design = Autodiff(law, variables)
    theta = design.to_theta(truth)
    ones = np.ones(len(values))
    _, gradient, hessian = design.evaluate(theta[None], np.log(values * 1.0004), ones)
    step = 1e-6 * (1 + np.abs(theta))
    numeric = []
    for i in range(len(theta)):
        ends = np.tile(theta, (2, 1))
        ends[:, i] += step[i] * np.array([-1, 1])
        _, slopes, _ = design.evaluate(ends, np.log(values * 1.0004), ones)
        numeric.append((slopes[1] - slopes[0]) / (2 * step[i]))
    scale = np.sqrt(np.outer(np.diag(hessian[0]), np.diag(hessian[0])).clip(1e-30))
    np.testing.assert_allclose(np.array(numeric) / scale, hessian[0] / scale, atol=2e-5)


def test_the_law_is_evaluated_in_float64_and_jax_is_left_as_it_was():
    before = jax.config.jax_enable_x64  # type: ignore[attr-defined]
    value = LAWS["kaplan"].loss(np.array([6.4e13, 1.8e13, 0.076, 0.103]), N=1e9, D=1e10)
    assert value.dtype == np.float64 and value != np.float32(value)
    assert jax.config.jax_enable_x64 == before  # type: ignore[attr-defined]


def test_draws_and_rows_broadcast():
    law, variables, truth, values = instance("m4")
    draws = np.stack([truth, truth * 1.01])
    both = law.loss(draws, **variables)
    assert both.shape == (2, len(values))
    same(both[0], values)
    same(both[1], law.loss(draws[1], **variables))


def test_restricting_a_law_holds_parameters():
    base = {name: CHINCHILLA[name] for name in ("E", "A", "B", "alpha", "beta")}
    repeats = restrict(MUENNIGHOFF, **base)
    assert repeats.names == ("R_D_star", "R_N_star")
    given_all = MUENNIGHOFF.loss({**base, "R_D_star": 15.0, "R_N_star": 5.0}, N=N, D=D, U=1e9)
    same(repeats.loss({"R_D_star": 15.0, "R_N_star": 5.0}, N=N, D=D, U=1e9), given_all)
    # A sum of powers too.
    known_floor = restrict(LAWS["chinchilla"], E=1.7)
    rest = {name: CHINCHILLA[name] for name in known_floor.names}
    same(known_floor.loss(rest, N=N, D=D), CHINCHILLA_LOSS)
    with pytest.raises(UserError, match="no parameter 'alfa'.*'alpha'"):
        restrict(LAWS["chinchilla"], alfa=0.3)
    with pytest.raises(UserError, match="no parameter left"):
        restrict(LAWS["power"], A=1.0, alpha=0.1)
