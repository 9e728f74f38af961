"""Ladders of runs: what one line in N and D supports, its next rung, and how far to trust it."""

import json

import numpy as np
import pandas as pd
import pytest

from research.__main__ import main
from research.errors import UserError
from research.scaling import laws
from research.scaling.choice import choose
from research.scaling.fit import fit_law
from research.scaling.frontier import fit_frontier, frontier_rows
from research.scaling.ladder import ladder
from research.scaling.table import from_frame
from tests.scaling.planted import losses, table, valleys

SIZES = 1e7 * 2.0 ** np.arange(8)


def climb(num=8, ratio=20.0, power=1.0, noise=0.0, seed=0):
    """A ladder of `num` sizes, each twice the last."""
    size = SIZES[:num]
    data = ratio * size[0] * (size / size[0]) ** power
    return table(size, data, losses(size, data, noise=noise, seed=seed))


def test_one_ratio_is_a_ladder_and_two_are_not():
    found = ladder(climb())
    assert found is not None and found.power == 1.0
    assert found.ratio == pytest.approx(20.0, rel=1e-12) and found.num_rungs == 8
    assert found.next["N"] == pytest.approx(2.56e9) and found.next["D"] == pytest.approx(5.12e10)
    assert found.next["C"] == pytest.approx(6 * 2.56e9 * 5.12e10)
    # The run aside costs what the last rung did.
    assert found.aside["N"] * found.aside["D"] == pytest.approx(found.last["N"] * found.last["D"])
    data = 20 * SIZES * np.where(np.arange(8) % 2, 0.92, 1.08)
    jittered = ladder(table(SIZES, data, losses(SIZES, data)))
    assert jittered is not None and jittered.power == 1.0
    data = 20 * SIZES * np.where(np.arange(8) % 2, 1.0, 2.0)
    assert ladder(table(SIZES, data, losses(SIZES, data))) is None
    assert ladder(table(*valleys(), losses(*valleys()))) is None
    assert ladder(climb(2)) is None


def test_data_that_grow_as_a_power_of_size_are_a_ladder_too():
    found = ladder(climb(power=0.74))
    assert found is not None and found.power == pytest.approx(0.74)
    assert found.ratio is not None and found.at is not None
    again = found.ratio * found.at * (SIZES / found.at) ** 0.74
    np.testing.assert_allclose(again, climb(power=0.74)["D"])
    # One budget: more parameters on less data. That is a valley.
    size = SIZES[:6]
    assert ladder(table(size, 1e17 / size, losses(size, 1e17 / size))) is None


def test_every_row_of_a_ladder_is_its_frontier():
    runs = climb(4)
    runs.frame.loc[3, "L"] = runs["L"][2] * 1.02  # the largest run disappoints
    assert frontier_rows(runs).all() and fit_frontier(runs, bootstrap=100).num_runs == 4
    seeds = table(*(np.repeat(runs[name], 3) for name in "NDL"))
    assert frontier_rows(seeds).all()  # three seeds a rung: none is the luckiest


@pytest.mark.parametrize("num", [4, 5, 8])
def test_auto_fits_compute_with_a_floor_and_says_what_parts_n_from_d(num, tmp_path, capsys):
    runs, path, out = climb(num, noise=0.003), tmp_path / "runs.csv", tmp_path / "laws.json"
    runs.frame[["N", "D", "L"]].to_csv(path, index=False)
    columns = ["--params", "N", "--data", "D", "--loss", "L", "--bootstrap", "100"]
    assert main(["fit", str(path), *columns, "--law", "auto", "--out", str(out)]) == 0
    said = capsys.readouterr().out
    content = json.loads(out.read_text())
    assert content["law"] == "frontier" and content["ratio"]["D_over_N"] == pytest.approx(20)
    rung = content["next_rung"]
    assert rung["low"] < rung["loss"] < rung["high"] < runs["L"][0]
    assert "next rung: N = " in said and "N and D move together (D = 20 N" in said
    assert main(["fit", str(path), *columns]) == 2
    assert "such as N = " in capsys.readouterr().err


def test_a_ladder_of_three_has_a_power_without_a_floor():
    choice = choose(climb(3))
    assert choice.law is laws.POWER
    with pytest.raises(UserError, match="2 rows are too few"):
        choose(climb(2))


def test_sizes_alone_have_a_law_from_five_points():
    size = SIZES[:5]
    runs = from_frame(pd.DataFrame({"N": size, "L": 1.7 + 400 * size**-0.34}), params="N", loss="L")
    choice = choose(runs)
    assert choice.law is laws.SIZE
    fit = fit_law(runs, laws.SIZE, bootstrap=100)
    assert fit.parameters is not None and fit.rung is not None
    assert fit.parameters["E"] == pytest.approx(1.7, abs=1e-4)
    assert fit.rung.loss == pytest.approx(1.7 + 400 * (2 * size[-1]) ** -0.34, abs=1e-4)


def test_n_is_c_over_6d_where_it_is_missing():
    frame = climb().frame.assign(C=lambda t: 6 * t["N"] * t["D"])
    runs = from_frame(frame[["D", "C", "L"]], data="D", flops="C", loss="L")
    np.testing.assert_allclose(runs["N"], SIZES)
    assert "N computed as C / 6D" in runs.notes


def test_a_floor_that_the_runs_do_not_show_is_said_to_be_open():
    size = SIZES[:5]
    runs = table(size, 20 * size, 10 * size**-0.08 * np.array([1.01, 0.99, 1, 1.01, 0.99]))
    fit = fit_frontier(runs, bootstrap=100)
    assert not fit.profiles["E"].identified and 12 in {finding.code for finding in fit.findings}


@pytest.mark.slow
def test_intervals_of_the_next_rung_hold_their_word():
    inside, law = [], []
    rung = ladder(climb())
    assert rung is not None
    truth = float(losses(rung.next["N"], np.array([rung.next["D"]]))[0])
    for seed in range(40):
        fit = fit_frontier(climb(noise=0.01, seed=seed), bootstrap=100)
        new = truth * np.exp(0.01 * np.random.default_rng(1000 + seed).standard_normal())
        assert fit.rung is not None
        inside.append(fit.rung.low <= new <= fit.rung.high)
        low, high = fit.predict_interval(C=rung.next["C"], anyway=True)[:, 0]
        law.append(low <= truth <= high)
    assert 0.9 <= np.mean(inside) and 0.88 <= np.mean(law)


def test_the_page_draws_a_ladder_with_its_next_rung(tmp_path, capsys):
    path, page = tmp_path / "runs.csv", tmp_path / "page.html"
    climb(noise=0.003).frame[["N", "D", "L"]].to_csv(path, index=False)
    words = ["report", str(path), "--params", "N", "--data", "D", "--loss", "L"]
    assert main([*words, "--out", str(page)]) == 0
    html = page.read_text()
    assert "The next rung of the ladder, 2.56B parameters, 51.2B tokens" in html
    assert "N and D move together (D = 20 N in every row)" in html
    assert '"triangle-up"' in html


@pytest.mark.parametrize(("law", "power"), [("frontier", 1.0), ("size", 1.0), ("frontier", 0.74)])
def test_a_plan_goes_on_along_the_ladder(law, power, tmp_path, capsys):
    runs, path, out = climb(power=power), tmp_path / "runs.csv", tmp_path / "laws.json"
    runs.frame[["N", "D", "L"]].to_csv(path, index=False)
    columns = ["--params", "N", "--data", "D", "--loss", "L", "--bootstrap", "100"]
    assert main(["fit", str(path), *columns, "--law", law, "--out", str(out)]) == 0
    rung = json.loads(out.read_text())["next_rung"]
    capsys.readouterr()
    assert main(["plan", str(out), "--flops", str(rung["at"]["C"]), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["params"] == pytest.approx(rung["at"]["N"], rel=1e-6)
    assert found["tokens"] == pytest.approx(rung["at"]["D"], rel=1e-6)
    assert found["loss"] == pytest.approx(rung["loss"], rel=1e-6)
    assert found["best"]["run_interval"] == pytest.approx([rung["low"], rung["high"]], rel=1e-2)
    assert any("in every run that was fitted" in line for line in found["warnings"])
    assert main(["plan", str(out), "--flops", "1e18", "--inference-tokens", "1e12"]) == 2
    assert "--inference-tokens: D " in capsys.readouterr().err
