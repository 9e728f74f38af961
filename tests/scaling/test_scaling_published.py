"""Published laws say the numbers that their papers print."""

import numpy as np
import pytest

from research.scaling.laws.published import EXPONENTS, PF_DAY, PUBLISHED


def test_every_published_law_is_complete_and_within_its_bounds():
    for name, law in PUBLISHED.items():
        assert law.name == name and law.convention
        assert any(str(year) in law.source for year in range(2020, 2027))
        assert tuple(sorted(law.parameters)) == tuple(sorted(law.law.names))
        for parameter in law.law.parameters:
            assert parameter.low <= law.parameters[parameter.name] <= parameter.high
        for parameter, (low, high) in law.intervals.items():
            assert low < law.parameters[parameter] < high
    for exponent in EXPONENTS.values():
        if exponent.interval:
            assert exponent.interval[0] < exponent.value < exponent.interval[1]


def test_muennighoff_prints_two_losses():
    # README of huggingface/datablations, "Models in Figure 1 (right)".
    law = PUBLISHED["muennighoff2023"]
    assert law.predict(N=6.34e9, D=242e9, U=25e9) == pytest.approx(2.2256440889984477, rel=1e-14)
    assert law.predict(N=8.67e9, D=178e9, U=25e9) == pytest.approx(2.2269634075087867, rel=1e-14)


def best_ratio(name: str, flops: float) -> float:
    """Tokens per parameter of the lowest loss on a fine grid of sizes."""
    params = np.geomspace(1e8, 1e12, 400_001)
    data = flops / (6 * params)
    best = PUBLISHED[name].predict(N=params, D=data).argmin()
    return float(data[best] / params[best])


def test_rounding_moves_hoffmanns_answer():
    assert best_ratio("hoffmann2022_rounded", 5.88e23) == pytest.approx(93, abs=0.5)
    assert best_ratio("hoffmann2022", 5.88e23) == pytest.approx(59, abs=0.5)
    assert best_ratio("besiroglu2024", 5.88e23) == pytest.approx(18.3, abs=0.05)
    for rounded, exact in zip(
        PUBLISHED["hoffmann2022_rounded"].parameters.values(),
        PUBLISHED["hoffmann2022"].parameters.values(),
        strict=True,
    ):
        assert rounded == pytest.approx(exact, rel=0.02)


def test_hoffmanns_exponents_are_those_of_the_loss():
    p = PUBLISHED["hoffmann2022"].parameters
    share = p["beta"] / (p["alpha"] + p["beta"])
    assert share == pytest.approx(EXPONENTS["hoffmann2022_3"].value, abs=0.005)


def test_gadre_predicts_its_two_large_runs():
    # The authors' formula with its own constants: alpha N^b + beta 6^(b/2) (M N)^b + E.
    law, b = PUBLISHED["gadre2024_rpj"], -0.272851
    for params, multiple, error, loss in (
        (1439795200, 640, 0.7103e-2, 2.502054),
        (6889410560, 20, 0.7320e-2, 2.424993),
    ):
        theirs = 166.2110 * params**b + 366.6872 * 6 ** (b / 2) * (multiple * params) ** b
        ours = law.predict(N=params, D=multiple * params)
        assert ours == pytest.approx(theirs + 1.836648, rel=1e-14)
        assert abs(ours / loss - 1) == pytest.approx(error, abs=3e-5)


def test_clark_prints_a_dense_law_and_where_experts_stop_helping():
    for name in ("s_base", "rl_r", "hash"):
        law = PUBLISHED[f"clark2022_{name}"]
        dense = law.predict(N=np.array([1e8, 1.3e9]), experts=1.0)
        # Their dense fit, table 3: (3.568e13 / N)^0.078.
        np.testing.assert_allclose(dense, (3.568e13 / np.array([1e8, 1.3e9])) ** 0.078, rtol=0.03)
    s_base = PUBLISHED["clark2022_s_base"].parameters
    # N_cutoff = 937e9; the exponent c has one digit, and 10^(-b / c) what that leaves of it.
    lowest, highest = (10 ** (-s_base["b"] / c) for c in (s_base["c"] + 5e-4, s_base["c"] - 5e-4))
    assert lowest < 937e9 < highest


def test_compute_laws_in_flops():
    law = PUBLISHED["henighan2020_8x8"]
    assert law.predict(C=1.8e-8 * PF_DAY) == pytest.approx(4.13, rel=1e-14)
    assert law.predict(C=1.8e-8 * PF_DAY * 10) == pytest.approx(3.13 + 10**-0.19, rel=1e-14)
    # Llama 3 405B: 3.8e25 FLOPs, printed optimum 16.55e12 tokens.
    tokens = PUBLISHED["llama3_2024_data"].predict(C=3.8e25)
    assert tokens == pytest.approx(16.55e12, rel=0.02)
    # DiT: the two allocations multiply to compute, up to the printed digits.
    both = [PUBLISHED[f"liang2024_{which}"].parameters for which in ("params", "data")]
    assert both[0]["a"] + both[1]["a"] == pytest.approx(1)
    assert both[0]["k"] * both[1]["k"] * 6 == pytest.approx(1, rel=0.06)


def test_kaplans_limits_are_his_separate_laws():
    law = PUBLISHED["kaplan2020"]
    # Table 2 against equations 1.1 and 1.2, fitted apart: (8.8e13/N)^.076, (5.4e13/D)^.095.
    assert law.predict(N=1e9, D=1e30) == pytest.approx((8.8e13 / 1e9) ** 0.076, rel=0.03)
    assert law.predict(N=1e30, D=1e10) == pytest.approx((5.4e13 / 1e10) ** 0.095, rel=0.06)


def test_parscale_says_streams_are_worth_parameters():
    for name, k in (("chen2025_code", 0.39), ("chen2025_pile", 0.33)):
        law = PUBLISHED[name]
        assert law.parameters["k"] == pytest.approx(k, abs=0.01)
        worth = 1 + law.parameters["k"] * np.log(8)
        same = law.predict(N=1.6e9 * worth, streams=1.0)
        assert law.predict(N=1.6e9, streams=8.0) == pytest.approx(same, rel=1e-14)


def test_taos_units():
    law = PUBLISHED["tao2024"]
    printed = -5.533 + 1.831 / 3000**0.447 + 0.196 / 102.4**0.671 + 2.124 / 100**0.447
    ours = law.predict(N=3e9, vocabulary_parameters=102.4e6, D=100e9)
    assert ours == pytest.approx(printed, rel=1e-14)
