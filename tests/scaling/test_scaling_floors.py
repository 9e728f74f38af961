"""A law without a floor is doubted where the runs bend towards one, and only there."""

import numpy as np
import pandas as pd
import pytest

from research.scaling.doubt.law_checks import missing_floor
from research.scaling.laws import POWER, SIZE, SIZE_POWER
from research.scaling.table import from_frame

SIZES = np.geomspace(1e7, 2e9, 8)


def ladder(floor, noise):
    rng = np.random.default_rng(0)
    loss = (floor + 480 / SIZES**0.35) * np.exp(noise * rng.standard_normal(8))
    frame = pd.DataFrame({"N": SIZES, "D": 20 * SIZES, "L": loss})
    return from_frame(frame, params="N", data="D", loss="L")


@pytest.mark.parametrize("law", [POWER, SIZE_POWER])
def test_16_a_power_of_runs_with_a_floor_says_so(law):
    found = missing_floor(ladder(1.8, 0.003), law)
    assert found is not None and found.code == 16 and found.numbers["with_floor"] < 0.005
    assert f"--law {'frontier' if law is POWER else 'size'} has the floor" in found.message


@pytest.mark.parametrize("noise", [0.0, 0.003, 0.03])
def test_16_no_floor_is_asked_for_where_there_is_none(noise):
    assert missing_floor(ladder(0.0, noise), SIZE_POWER) is None
    assert missing_floor(ladder(1.8, 0.003), SIZE) is None
