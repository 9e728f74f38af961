"""The batched laws of learning curves: the same as the laboratory's, with right derivatives."""

import numpy as np
import pandas as pd
import pytest

from research.scaling import laws
from research.scaling.extrapolate import laws as curve_laws
from research.scaling.extrapolate.curves import from_frame
from research.scaling.extrapolate.forecast import extrapolate

THETAS = {
    "m1": (0.3, -1.2),
    "m2": (0.3, -0.7, 0.4),
    "m3": (0.3, -0.9, -0.5),
    "m4": (0.1, -1.5, -0.4, 0.3, -0.8),
    "bnsl1": (0.3, -1.0, 0.1, 0.4, -1.5, -0.3),
}


def sigmoid(logit):
    return 1 / (1 + np.exp(-logit))


# Parameters of the law of the laboratory, in its order, for theta; x in units of the last point.
PUBLISHED = {
    "m1": lambda level, c: (np.exp(level), np.exp(c)),
    "m2": lambda level, c, q: (
        np.exp(level) * sigmoid(q),
        np.exp(level) * sigmoid(-q),
        np.exp(c),
    ),
    "m3": lambda level, c, g: (
        np.exp(level - np.exp(c) * np.log1p(np.exp(g))),
        np.exp(g),
        np.exp(c),
    ),
    "m4": lambda start, q, c, alpha, k: (
        np.exp(start) * sigmoid(q),
        np.exp(start) * sigmoid(-q),
        np.exp(alpha),
        np.exp(k + (1 - np.exp(alpha)) * np.log(np.exp(start) * sigmoid(-q))),
        np.exp(c),
    ),
    "bnsl1": lambda level, q, c0, c1, d, f: (
        np.exp(level) * sigmoid(q),
        np.exp(level + c1 * np.exp(f) * np.logaddexp(-d * np.exp(-f), 0)) * sigmoid(-q),
        c0,
        c1,
        np.exp(d),
        np.exp(f),
    ),
}


@pytest.mark.parametrize("name", THETAS)
def test_derivatives_are_those_of_the_law(name):
    law = curve_laws.LAWS[name]
    theta = np.array([THETAS[name]])
    u = np.linspace(-4, 2, 13)[None]
    slopes = law.function(theta, u)[1]
    for i in range(theta.shape[1]):
        step = np.zeros_like(theta)
        step[0, i] = 1e-6
        change = law.function(theta + step, u)[0] - law.function(theta - step, u)[0]
        np.testing.assert_allclose(slopes[..., i], change / 2e-6, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", THETAS)
def test_laws_are_those_of_the_laboratory(name):
    generator = np.random.default_rng(0)
    theta = np.array(THETAS[name]) + 0.4 * generator.standard_normal((50, len(THETAS[name])))
    u = np.repeat(np.linspace(-4, 2, 13)[None], 50, 0)
    parameters = np.stack(PUBLISHED[name](*theta.T), -1)
    expected = laws.get(name).loss(parameters, D=np.exp(u))
    found = np.exp(curve_laws.LAWS[name].function(theta, u)[0])
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_every_batched_law_is_tested():
    assert set(curve_laws.LAWS) == set(THETAS) == set(PUBLISHED)


@pytest.mark.parametrize("name", THETAS)
def test_a_law_extrapolates_its_own_curve(name):
    x = np.geomspace(1e6, 1e9, 60)
    theta, u = np.array([THETAS[name]]), np.log(x / x[39])[None]
    y = np.exp(curve_laws.LAWS[name].function(theta, u)[0][0])
    frame = pd.DataFrame({"kind": "own", "curve": 0, "x": x, "y": y, "fit": np.arange(60) < 40})
    curves = from_frame(frame, curve="kind,curve", x="x", y="y", fit="fit")
    result = extrapolate(curves, name)
    # Priors pull: a broken law's floor is hardly seen in the points before it.
    np.testing.assert_allclose(result.prediction, y[40:], rtol=0.01 if name == "bnsl1" else 2e-3)
