"""One planted table and its fit, for the tests that draw what a law promises and deserves."""

import functools

import numpy as np
import pytest

from research.report import findings
from research.scaling import study_laws
from research.scaling.fit import fit_law
from tests.scaling.planted import losses, table, valleys


@pytest.fixture(scope="module", autouse=True)
def _few_draws():
    """The intervals of pages rest on a tenth of the draws that a user's rest on."""
    draws = study_laws.DRAWS // 10
    with pytest.MonkeyPatch.context() as patch:
        for module in (study_laws, findings):
            patch.setattr(module, "DRAWS", draws)
        few = functools.partial(study_laws.study_laws, bootstrap=draws)
        patch.setattr(findings, "study_laws", few)
        yield


@pytest.fixture(scope="session")
def runs():
    params, data = valleys()
    return table(params, data, losses(params, data, noise=0.002), budget=np.repeat(range(5), 7))


@pytest.fixture(scope="session")
def fit(runs):
    return fit_law(runs, bootstrap=300)
