"""One planted table and its fit, for the tests that draw what a law promises and deserves."""

import numpy as np
import pytest

from research.scaling.fit import fit_law
from tests.scaling.planted import losses, table, valleys


@pytest.fixture(scope="session")
def runs():
    params, data = valleys()
    return table(params, data, losses(params, data, noise=0.002), budget=np.repeat(range(5), 7))


@pytest.fixture(scope="session")
def fit(runs):
    return fit_law(runs, bootstrap=300)
