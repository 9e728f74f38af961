"""Plans: published answers come back, trade-offs obey their identities, refusals say why."""

import json
from dataclasses import replace

import numpy as np
import pytest

from research.__main__ import main
from research.errors import UserError
from research.hardware import PEAK_FLOPS, parse_slice
from research.scaling import laws
from research.scaling.plan.budget import MULTIPLES, plan
from research.scaling.plan.optimal import FlopsModel, optimum
from research.scaling.plan.surface import Surface, best_size, cheapest_to_serve, data_for

BUDGET = 5.88e23
ROUNDED = {"E": 1.69, "A": 406.4, "B": 410.7, "alpha": 0.34, "beta": 0.28}
UNROUNDED = {
    "E": float(np.exp(0.5267228)),
    "A": float(np.exp(6.0073404)),
    "B": float(np.exp(6.0179186)),
    "alpha": 0.33917084,
    "beta": 0.2849083,
}
EPOCH = {"E": 1.81686, "A": 482.006, "B": 2085.434, "alpha": 0.34781, "beta": 0.36585}
REPEATED = {**ROUNDED, "R_D_star": 15.387756, "R_N_star": 5.309743}


def fitted(parameters=None, law="chinchilla", **more) -> dict:
    """What a laws.json must hold at least."""
    return {"law": law, "parameters": parameters or EPOCH, **more}


def with_draws(count=200, size=1e-3, **more) -> dict:
    names = laws.CHINCHILLA.names
    point = np.array([EPOCH[name] for name in names])
    draws = point * np.exp(size * np.random.default_rng(0).standard_normal((count, len(point))))
    return fitted(draws=draws.tolist(), num_groups=240, noise=0.01, level=0.9, **more)


@pytest.mark.parametrize(("parameters", "ratio"), [(ROUNDED, 93), (UNROUNDED, 59), (EPOCH, 18.3)])
def test_tokens_a_parameter_of_hoffmann_and_besiroglu(parameters, ratio):
    """Rounding the exponents to two digits moves the answer from 59 to 93."""
    best = plan(fitted(parameters), BUDGET).best
    assert best.data / best.params == pytest.approx(ratio, rel=0.005)
    assert best.flops == pytest.approx(BUDGET, rel=1e-12)


@pytest.mark.parametrize("model", [FlopsModel(), FlopsModel(11.0, 0.93)])
def test_a_search_finds_what_the_closed_form_says(model):
    point = np.array([[EPOCH[name] for name in laws.CHINCHILLA.names]])
    other = replace(laws.CHINCHILLA, name="another")
    found = best_size(Surface(other, point, model), 1e21)
    assert found[0] == pytest.approx(np.log(optimum(point, 1e21, model)[0, 0]), abs=1e-6)


def test_intervals_are_those_of_the_draws():
    found = plan(with_draws(), 1e21)
    low, high = found.best.params_interval or (np.nan, np.nan)
    assert low < found.best.params < high and found.level == 0.9
    assert found.best.loss_interval[0] < found.best.loss < found.best.loss_interval[1]
    assert found.best.run_interval[0] < found.best.loss_interval[0], "a run has noise of its own"
    wide = plan(with_draws(size=4e-3), 1e21).best
    assert wide.params_interval[0] < low and wide.params_interval[1] > high
    none = plan(fitted(), 1e21)
    assert none.best.params_interval is None and none.best.run_interval is None
    assert any("no draws in the file: no intervals" in line for line in none.warnings)


def test_the_trade_off_curve_and_its_price():
    found = plan(fitted(), BUDGET)
    assert [row.multiple for row in found.curve] == list(MULTIPLES)
    assert MULTIPLES[0] == 0.25 and MULTIPLES[-1] == 4
    law = laws.CHINCHILLA
    for row in found.curve:
        assert 6 * row.params * row.data == pytest.approx(BUDGET, rel=1e-12)
        loss = float(law.loss(EPOCH, N=row.params, D=row.data))
        assert row.loss == pytest.approx(loss, rel=1e-12)
        assert row.excess == pytest.approx(loss / found.best.loss - 1, abs=1e-12)
        # `compute` times the budget brings this size to the best loss.
        data = row.compute * BUDGET / (6 * row.params)
        reached = float(law.loss(EPOCH, N=row.params, D=data))
        assert reached == pytest.approx(found.best.loss, rel=1e-9)
    middle = found.curve[4]
    assert middle.excess == 0 and middle.compute == 1
    away = [row for row in found.curve if row.multiple != 1]
    assert all(row.excess > 0 and row.compute > 1 for row in away)


def test_a_size_too_small_for_the_loss_never_reaches_it():
    found = plan(fitted({**EPOCH, "alpha": 1.5, "A": 1e12}), 1e21)
    assert found.curve[0].compute is None
    assert json.loads(json.dumps(found.to_json()))["curve"][0]["compute"] is None


def test_serving_favours_a_smaller_model_of_the_same_loss():
    tokens = 1e13
    found = plan(fitted(), BUDGET, inference=tokens)
    best, small = found.best, found.serving
    assert small.params < best.params and small.loss == pytest.approx(best.loss, rel=1e-9)
    assert best.serving_flops == pytest.approx(2 * best.params * tokens, rel=1e-12)
    assert small.flops == pytest.approx(6 * small.params * small.data, rel=1e-12)
    total = small.flops + small.serving_flops
    assert total < best.flops + best.serving_flops
    # No size a little off does better (Sardana 2023, equation 3).
    point = np.array([[EPOCH[name] for name in laws.CHINCHILLA.names]])
    surface = Surface(laws.CHINCHILLA, point, FlopsModel())
    for factor in (0.99, 1.01):
        params = np.array([[small.params * factor]])
        data = data_for(surface, params, np.array([[best.loss]]))
        assert (6 * params * data + 2 * params * tokens).item() > total
    little, _ = cheapest_to_serve(surface, np.log([best.params]), BUDGET, 1.0)
    assert little[0] == pytest.approx(best.params, rel=1e-3), "no serving, no shift"


def test_unique_tokens_cap_a_law_that_knows_no_repeats():
    free = plan(fitted(), BUDGET).best
    capped = plan(fitted(), BUDGET, unique=3e11)
    assert capped.best.data == pytest.approx(3e11, rel=1e-12)
    assert capped.best.params == pytest.approx(BUDGET / (6 * 3e11), rel=1e-12)
    assert capped.best.loss > free.loss
    assert any("D is capped" in line for line in capped.warnings)
    assert all(row.data <= 3e11 * (1 + 1e-9) for row in capped.curve)
    assert plan(fitted(), BUDGET, unique=1e14).best.data == pytest.approx(free.data, rel=1e-6)


def test_unique_tokens_are_repeated_by_a_law_that_knows_what_repeats_are_worth():
    budget = 1e22
    free = plan(fitted(REPEATED, "muennighoff"), budget).best
    few = plan(fitted(REPEATED, "muennighoff"), budget, unique=free.data / 10)
    assert few.best.loss > free.loss
    assert few.best.data > free.data / 10, "more than an epoch"
    assert any("the data are seen" in line for line in few.warnings)
    plenty = plan(fitted(REPEATED, "muennighoff"), budget, unique=1e15)
    assert plenty.best.data == pytest.approx(free.data, rel=1e-6)


def test_hours_on_a_slice():
    found = plan(fitted(), BUDGET, chips=parse_slice("v5e:16x16"), mfu=0.5)
    assert found.hours.num_chips == 256
    assert found.hours.chip_hours == pytest.approx(BUDGET / (197e12 * 0.5 * 3600), rel=1e-12)
    assert found.hours.hours == pytest.approx(found.hours.chip_hours / 256, rel=1e-12)
    assert parse_slice("v5p:4x4x8").num_chips == 128 and parse_slice("H100:64").num_chips == 64
    assert set(PEAK_FLOPS) >= {"v4", "v5e", "v5p", "v6e", "tpu7x", "h100", "a100"}


RANGE = {"N": [1e8, 1e9], "D": [1e9, 1e11], "C": [1e18, 1e21]}


def test_13_a_narrow_range_reaches_ten_times_as_far():
    plan(fitted(range=RANGE), 9.9e21)
    with pytest.raises(UserError, match="check 13: .*N spans 1.00 decades.*--anyway"):
        plan(fitted(range=RANGE), 1.1e22)
    found = plan(fitted(range=RANGE), 1.1e22, anyway=True)
    assert any("[13 extrapolation]" in line and "11 times" in line for line in found.warnings)
    wide = {**RANGE, "N": [1e7, 1e9]}
    found = plan(fitted(range=wide), 1.1e22)
    assert any("[13 extrapolation]" in line for line in found.warnings)
    assert not any("[13" in line for line in plan(fitted(range=wide), 9e21).warnings)


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ({"E": 1.0}, "not a fitted law"),
        ([1, 2], "not a fitted law"),
        (fitted(refused="two optima"), "the law was refused: two optima"),
        ({"law": "chinchilla", "parameters": None, "refused": "why"}, "refused: why"),
        (fitted(law="chinchila"), "did you mean 'chinchilla'"),
        (fitted({"E": 1, "A": 1, "alpha": 1}, "frontier"), "not of size and data"),
        (fitted({"E": 1.7, "A": 1.0}), "parameter 'B' is missing"),
        (fitted(draws=[[1.0, 2.0, 3.0]]), "its 'draws' are damaged"),
        (fitted(flops={"coefficient": 6}), "key 'flops.factor' is missing"),
        (fitted({**EPOCH, "alpha": 1e-9}, "chinchilla"), None),
    ],
)
def test_files_that_hold_no_plan(content, match):
    if match is None:
        assert plan(content, 1e21).best.params > 0, "an extreme law is still a law"
        return
    with pytest.raises(UserError, match=match):
        plan(content, 1e21)


def test_a_law_whose_loss_falls_for_ever_has_no_best_size():
    other = "overtraining"
    flat = {"E": 1.0, "a": 0.0, "b": 300.0, "eta": 0.1}
    with pytest.raises(UserError, match="no best size"):
        plan(fitted(flat, other), 1e21)


def test_variables_of_other_laws_are_asked_for():
    law = laws.get("moe") if "moe" in laws.LAWS else None
    chosen = law or next(
        each
        for each in laws.LAWS.values()
        if {"N", "D"} < set(each.variables) and "U" not in each.variables
    )
    lacking = [name for name in chosen.variables if name not in ("N", "D")]
    content = fitted(dict.fromkeys(chosen.names, 0.3), chosen.name)
    with pytest.raises(UserError, match=f"give --set {lacking[0]}=VALUE"):
        plan(content, 1e21)
    with pytest.raises(UserError, match="reads only N, D"):
        plan(fitted(), 1e21, given={"granularity": 8.0})


def run(tmp_path, content, *words) -> int:
    path = tmp_path / "laws.json"
    path.write_text(json.dumps(content))
    return main(["plan", str(path), "--flops", "5.88e23", *words])


def test_the_command_writes_what_it_prints(tmp_path, capsys):
    out = tmp_path / "plan.json"
    words = ("--chips", "v5e:16x16", "--inference-tokens", "1e12", "--json", "--out", str(out))
    assert run(tmp_path, with_draws(), *words) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads(out.read_text())
    assert printed["tokens"] / printed["params"] == pytest.approx(18.3, rel=0.005)
    assert printed["chip_hours"] > 0 and len(printed["curve"]) == 9
    assert run(tmp_path, with_draws(), *words[:4]) == 0
    said = capsys.readouterr().out
    for text in ("90% interval", "chip-hours at 40%", "256 v5e", "cheapest to train and serve"):
        assert text in said


def test_the_command_takes_a_part_of_a_study(tmp_path, capsys):
    content = {**fitted(refused="no"), "parts": {"text": fitted()}}
    assert run(tmp_path, content, "--part", "text") == 0
    capsys.readouterr()
    assert run(tmp_path, content) == 2
    assert "the law was refused: no" in capsys.readouterr().err
    assert run(tmp_path, content, "--part", "image") == 2
    assert "no part 'image'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (["--flops", "-1"], "--flops -1: expected a positive number"),
        (["--flops", "nan"], "--flops nan: expected"),
        (["--mfu", "40"], "--mfu 40: expected a share"),
        (["--chips", "v5:16"], "no chip 'v5' (did you mean"),
        (["--chips", "v5e"], "expected CHIP:TOPOLOGY"),
        (["--chips", "v5e:16xx"], "expected CHIP:TOPOLOGY"),
        (["--chips", "v5e:0x4"], "expected CHIP:TOPOLOGY"),
        (["--set", "granularity"], "expected NAME=VALUE"),
        (["--set", "granularity=8"], "reads only N, D"),
        (["--unique-tokens", "0"], "--unique-tokens 0: expected"),
        (["--inference-tokens", "inf"], "--inference-tokens inf: expected"),
    ],
)
def test_options_that_are_wrong(words, match, tmp_path, capsys):
    out = tmp_path / "plan.json"
    assert run(tmp_path, fitted(), *words, "--out", str(out)) == 2
    said = capsys.readouterr()
    assert match in said.err and said.err.count("\n") == 1 and said.out == ""
    assert not out.exists()


def test_a_file_that_is_not_there(tmp_path, capsys):
    assert main(["plan", str(tmp_path / "no.json"), "--flops", "1e21"]) == 2
    assert "cannot read" in capsys.readouterr().err
