"""The laws of learning curves in the coordinates of a batch of curves."""

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


@pytest.mark.parametrize("name", THETAS)
def test_derivatives_are_those_of_the_law(name):
    law = curve_laws.LAWS[name]
    theta = np.array([THETAS[name]])
    x = np.exp(np.linspace(-4, 2, 13))[None]
    value, slopes = law.slopes(theta, x)
    np.testing.assert_array_equal(value, law.predict(theta, x))
    for i in range(theta.shape[1]):
        step = np.zeros_like(theta)
        step[0, i] = 1e-6
        change = law.predict(theta + step, x) - law.predict(theta - step, x)
        np.testing.assert_allclose(slopes[..., i], change / 2e-6, rtol=1e-6, atol=1e-8)


def test_every_batched_law_is_tested():
    assert set(curve_laws.LAWS) == set(THETAS) <= set(laws.LAWS)


@pytest.mark.parametrize("name", THETAS)
def test_a_law_extrapolates_its_own_curve(name):
    x = np.geomspace(1e6, 1e9, 60)
    theta = np.array([THETAS[name]])
    y = np.exp(curve_laws.LAWS[name].predict(theta, x[None] / x[39])[0])
    frame = pd.DataFrame({"kind": "own", "curve": 0, "x": x, "y": y, "fit": np.arange(60) < 40})
    curves = from_frame(frame, curve="kind,curve", x="x", y="y", fit="fit")
    result = extrapolate(curves, name)
    # Priors pull: a broken law's floor is hardly seen in the points before it.
    np.testing.assert_allclose(result.prediction, y[40:], rtol=0.01 if name == "bnsl1" else 2e-3)
