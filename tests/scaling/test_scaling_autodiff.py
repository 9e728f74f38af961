"""Laws of any formula: the same numbers as the closed form where both can, and planted laws."""

import jax.numpy as jnp
import numpy as np
import pytest

from research.scaling import laws
from research.scaling.engine.design import make_design
from research.scaling.engine.objective import HUBER, Objective
from research.scaling.fit import fit_law
from research.scaling.laws import Law, Parameter
from tests.scaling.planted import TRUTH, grid, losses, table

EXPONENTS = (0.1, 0.3, 0.6, 1.0)
WRITTEN_OUT = Law(
    name="chinchilla written out",
    formula="E + A / N^alpha + B / D^beta",
    source="Hoffmann 2022",
    parameters=(
        Parameter("E", "floor", "loss"),
        Parameter("A", "coefficient", "1"),
        Parameter("B", "coefficient", "1"),
        Parameter("alpha", "exponent", "1", 1e-3, 4.0, EXPONENTS),
        Parameter("beta", "exponent", "1", 1e-3, 4.0, EXPONENTS),
    ),
    variables=("N", "D"),
    minimum_rows=10,
    function=lambda p, v: (
        p["E"]
        + p["A"] * jnp.exp(-p["alpha"] * jnp.log(v["N"]))
        + p["B"] * jnp.exp(-p["beta"] * jnp.log(v["D"]))
    ),
)
SATURATING = Law(
    name="saturating",
    formula="a - b exp(-D / scale)",
    source="a shape with a negative coefficient",
    parameters=(
        Parameter("a", "floor", "loss"),
        Parameter("b", "coefficient", "loss", low=-np.inf),
        Parameter("scale", "scale", "tokens", 1e6, 1e14, (1e9, 1e10, 1e11)),
    ),
    variables=("D",),
    minimum_rows=4,
    function=lambda p, v: p["a"] - p["b"] * jnp.exp(-v["D"] / p["scale"]),
)


@pytest.mark.parametrize("objective", [HUBER, Objective(np.inf, log=False)])
@pytest.mark.parametrize("reweighted", [True, False])
def test_derivatives_are_those_of_the_closed_form(objective, reweighted):
    params, data = grid()
    loss = losses(params, data, noise=0.01)
    variables = {"N": params, "D": data}
    closed, auto = make_design(laws.CHINCHILLA, variables), make_design(WRITTEN_OUT, variables)
    closed = closed.uncentred("A").uncentred("A")
    published = np.array([[1.6, 380.0, 430.0, 0.33, 0.29], [1.8, 300.0, 500.0, 0.3, 0.3]])
    plain = laws.CHINCHILLA
    np.testing.assert_allclose(
        auto.predict(auto.to_theta(published), False),
        plain.loss(published, **variables),
        rtol=1e-13,
    )
    target, ones = objective.target(loss), np.ones(len(loss))
    theta = auto.to_theta(published)
    cost, gradient, hessian = auto.evaluate(theta, target, ones, objective, reweighted)
    # The closed form is centred: published log coefficients are its own plus a linear shift.
    shift = np.eye(5)
    shift[1, 3], shift[2, 4] = -np.log(params).mean(), -np.log(data).mean()
    centred = make_design(laws.CHINCHILLA, variables)
    other = centred.evaluate(centred.to_theta(published), target, ones, objective, reweighted)
    np.testing.assert_allclose(cost, other[0], rtol=1e-10)
    np.testing.assert_allclose(gradient, other[1] @ shift, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(hessian, shift.T @ other[2] @ shift, rtol=1e-7, atol=1e-7)


def test_a_law_written_out_fits_as_the_closed_form_does():
    params, data = grid()
    runs = table(params, data, losses(params, data, noise=0.003))
    closed = fit_law(runs, bootstrap=100)
    auto = fit_law(runs, WRITTEN_OUT, bootstrap=100)
    assert closed.parameters is not None and auto.parameters is not None
    assert auto.objective == pytest.approx(closed.objective, rel=1e-9)
    for name, value in closed.parameters.items():
        assert auto.parameters[name] == pytest.approx(value, rel=1e-5)
    np.testing.assert_allclose(auto.draws, closed.draws, rtol=2e-3)
    assert auto.profiles["alpha"].low == pytest.approx(closed.profiles["alpha"].low, rel=0.02)


def test_noise_free_planted_values_return():
    params, data = grid()
    found = fit_law(table(params, data, losses(params, data)), WRITTEN_OUT, bootstrap=100)
    assert found.parameters == pytest.approx(TRUTH, rel=1e-7)


def test_a_coefficient_may_be_negative():
    _, data = grid()
    truth = {"a": 3.0, "b": -2.0, "scale": 2e10}
    loss = SATURATING.loss(truth, D=data)
    found = fit_law(table(np.geomspace(1e6, 1e8, len(data)), data, loss), SATURATING, bootstrap=100)
    assert found.parameters == pytest.approx(truth, rel=1e-7)
