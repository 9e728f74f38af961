"""What a law asks of a table: a column for each variable, values it takes, losses of its sign."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from research.errors import UserError
from research.scaling.engine.objective import parse
from research.scaling.fit import fit_law
from research.scaling.table import from_frame
from tests.scaling.instances import instance


def _law_table(name, seed=0, noise=0.003):
    law, variables, _, values = instance(name)
    wobble = np.exp(noise * np.random.default_rng(seed).standard_normal(len(values)))
    return law, pd.DataFrame(variables).assign(loss_=values * wobble)


ASKED = {
    "muennighoff": ("U", "--unique COLUMN .did you mean 'unique_tokens'"),
    "moe_clark": ("experts", "--column experts=COLUMN .did you mean 'num_experts'"),
    "moe_krajewski": ("granularity", "--column granularity=COLUMN"),
    "precision": ("weight_bits", "--column weight_bits=COLUMN .did you mean 'weights_bits'"),
    "mixture:4": ("r_2", "--column r_2=COLUMN"),
    "loss_to_error": ("loss", "--column loss=COLUMN"),
}


@pytest.mark.parametrize("name", ASKED)
def test_a_law_asks_for_the_column_it_lacks(name):
    law, frame = _law_table(name)
    lacking, match = ASKED[name]
    renamed = {"U": "unique_tokens", "experts": "num_experts", "weight_bits": "weights_bits"}
    frame = frame.rename(columns={lacking: renamed.get(lacking, "zzz")})
    given: dict[str, Any] = {
        option: column
        for option, column in (("params", "N"), ("data", "D"))
        if column in law.variables
    }
    extra = {v: v for v in law.variables if v in frame and v not in ("N", "D", "U")}
    runs = from_frame(frame, loss="loss_", extra=extra, **given)
    with pytest.raises(UserError, match=f"the law '{name}' reads {lacking}: give {match}"):
        fit_law(runs, law)


def test_zero_shares_are_fitted_and_a_power_of_zero_is_not():
    law, variables, truth, _ = instance("mixture:4")
    shares = {name: np.where(np.arange(24) % 5 == 1, 0.0, r) for name, r in variables.items()}
    frame = pd.DataFrame(shares).assign(y=law.loss(truth, **shares))
    runs = from_frame(frame, loss="y", extra={name: name for name in shares})
    fit = fit_law(runs, law, bootstrap=100)
    assert fit.parameters == pytest.approx(dict(zip(law.names, truth, strict=True)), rel=1e-4)
    law, frame = _law_table("moe_krajewski")
    frame = frame.assign(g=frame["granularity"].where(frame.index != 6, 0.0))
    columns: dict[str, Any] = {
        "params": "N",
        "data": "D",
        "loss": "loss_",
        "extra": {"granularity": "g"},
    }
    with pytest.raises(UserError, match="column 'g' is 0 in row 7; .* takes granularity above 0"):
        fit_law(from_frame(frame, **columns), law)
    law, frame = _law_table("precision")
    frame.loc[[2, 4], "cache_bits"] = (0.0, -1.0)
    extra = {name: name for name in law.variables[2:]}
    runs = from_frame(frame, params="N", data="D", loss="loss_", extra=extra)
    with pytest.raises(UserError, match="'cache_bits' is 0 in row 3"):
        fit_law(runs, law)


def test_losses_below_zero_take_l2_and_a_law_that_may_be():
    # Tao 2024 fits losses less a unigram model's, all of them negative.
    law, variables, truth, values = instance("vocabulary")
    truth = truth - np.array([6.0, 0, 0, 0, 0, 0])
    noise = 0.002 * np.random.default_rng(0).standard_normal(len(values))
    frame = pd.DataFrame(variables).assign(y=law.loss(truth, **variables) + noise)
    assert frame["y"].max() < 0
    columns: dict[str, Any] = {"params": "N", "data": "D", "loss": "y"}
    columns["extra"] = {"vocabulary_parameters": "vocabulary_parameters"}
    with pytest.raises(UserError, match="'y' is not positive in rows 1, 2"):
        from_frame(frame, **columns)
    runs = from_frame(frame, signed_loss=True, **columns)
    with pytest.raises(UserError, match="not positive in row 1; huber.* give --objective l2"):
        fit_law(runs, law)
    with pytest.raises(UserError, match="'chinchilla' is positive; .* such as vocabulary"):
        fit_law(runs, objective=parse("l2"))
    fit = fit_law(runs, law, objective=parse("l2"), bootstrap=200)
    assert fit.refused is None and not fit.log
    assert fit.parameters["E"] == pytest.approx(truth[0], abs=0.02)
    assert fit.noise == pytest.approx(0.002, rel=0.3)
    low, high = fit.predict_interval(noise=True, anyway=True, **variables)
    inside = (low < frame["y"]) & (frame["y"] < high)
    assert inside.mean() > 0.9 and (high - low).max() < 0.02
