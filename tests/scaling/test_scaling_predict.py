"""`predict`: exactly what the fit itself says, of one run or a table; and what it refuses."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from research.__main__ import main
from research.errors import UserError
from research.scaling import laws
from research.scaling.fit import fit_law
from research.scaling.plan.budget import plan
from research.scaling.plan.fitted import read_law
from research.scaling.plan.prediction import predict
from tests.scaling.planted import grid, losses, table

OWN = """
from pathlib import Path
from research.scaling.laws import Law, Parameter, Term
Path("ran").write_text("yes")
LAW = Law(
    name="mine",
    formula="L(N, D) = E + A / N^a + B / D^b",
    source="ours",
    parameters=(
        Parameter("E", "floor", "loss"),
        Parameter("A", "coefficient", "loss"),
        Parameter("B", "coefficient", "loss"),
        Parameter("a", "exponent", "1", 1e-3, 4.0),
        Parameter("b", "exponent", "1", 1e-3, 4.0),
    ),
    variables=("N", "D"),
    terms=(Term("E"), Term("A", (("a", "N"),)), Term("B", (("b", "D"),))),
    minimum_rows=10,
)
"""


@pytest.fixture(scope="module")
def fit():
    params, data = grid(7, 6, 2.5)
    return fit_law(table(params, data, losses(params, data, noise=0.003)), bootstrap=300)


@pytest.fixture(scope="module")
def content(fit):
    return json.loads(json.dumps(fit.to_json()))


@pytest.fixture
def here(tmp_path, monkeypatch, content):
    """A folder with the law in laws.json and a table of two runs."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "laws.json").write_text(json.dumps(content))
    rows = {"N": [163e6, 2e8], "D": [3.26e9, 4e9], "tag": ["x", "y"], "C": [3e18, 5e18]}
    pd.DataFrame(rows).to_csv("runs.csv", index=False)
    return tmp_path


def said(capsys, words: str, code=0) -> str:
    """What the command prints, or its one line of error."""
    assert main(["predict", *words.split()]) == code, capsys.readouterr().err
    printed = capsys.readouterr()
    if code:
        assert printed.err.startswith("error: ") and printed.err.count("\n") == 1
        assert printed.out == ""
        return printed.err
    return printed.out


def test_a_prediction_is_the_fits_own_to_the_last_digit(fit, content):
    sizes, amounts = np.array([163e6, 1e9, 2e7]), np.array([3.26e9, 5e10, 1e9])
    found = predict(content, {"N": sizes, "D": amounts})
    np.testing.assert_array_equal(found.loss, fit.predict(N=sizes, D=amounts))
    for noise, ends in ((False, found.loss_interval), (True, found.run_interval)):
        np.testing.assert_array_equal(
            ends, fit.predict_interval(noise=noise, N=sizes, D=amounts), strict=True
        )
    assert found.level == fit.level and found.fit_warnings == fit.warnings


def test_two_of_size_data_and_compute_give_the_third(content):
    """As the fitted table counted FLOPs, here 11 N^0.93 D."""
    counted = {**content, "flops": {"factor": 11.0, "power": 0.93}}
    flops = 11 * 163e6**0.93 * 3.26e9
    exact = predict(counted, {"N": 163e6, "D": 3.26e9})
    for given in ({"N": 163e6, "C": flops}, {"D": 3.26e9, "C": flops}):
        found = predict(counted, given)
        np.testing.assert_allclose(found.loss, exact.loss, rtol=1e-12)
        for name in "NDC":
            np.testing.assert_allclose(found.columns[name], exact.columns[name], rtol=1e-12)
    off = predict(counted, {"N": 163e6, "D": 3.26e9, "C": 100 * flops})
    assert any("100 times what these N and D took" in line for line in off.warnings)


def test_how_far_a_run_lies_from_the_fitted_ones_is_said_of_each_variable(content):
    (low, high), (least, most) = content["range"]["N"], content["range"]["D"]
    sizes, amounts = np.array([high * 100, low / 100, low]), np.array([most, least, least * 10])
    found = predict(content, {"N": sizes, "D": amounts})
    np.testing.assert_allclose(found.beyond["N"], [2, -2, 0], atol=1e-9)
    np.testing.assert_allclose(found.beyond["D"], 0, atol=1e-9)
    np.testing.assert_allclose(found.beyond["C"], [2, -2, 0], atol=1e-9)
    far = [line for line in found.warnings if "[13 extrapolation]" in line]
    assert any("N is 100 times above the largest" in line for line in far)
    assert any("N is 100 times below the smallest" in line for line in far)
    assert not any("D is" in line for line in far)


@pytest.mark.parametrize(
    "given", [{"N": 1e3, "D": 1e10}, {"N": 1e8, "D": 1e18}, {"N": 9e16, "D": 1e10}]
)
def test_13_runs_too_far_either_way_are_refused(content, given):
    with pytest.raises(UserError, match="check 13: . is .*; --anyway predicts it nevertheless"):
        narrow = {**content, "range": {**content["range"], "N": [5e7, 2e8], "D": [1e10, 2e10]}}
        predict(narrow, given)
    assert predict(content, given, anyway=True).loss > 0


def test_a_million_times_past_its_runs_is_another_unit(content):
    with pytest.raises(UserError, match="check 13: N is 1.6e.06 times below .* unit of the fit"):
        predict(content, {"N": content["range"]["N"][0] / 1.6e6, "D": 1e10})


def test_one_run_in_words_and_in_json(here, capsys):
    text = said(capsys, "laws.json --params 163e6 --data 3.26e9")
    for part in ("loss by chinchilla", "95% interval", "a run's loss", "of the fitted runs: N"):
        assert part in text
    found = json.loads(said(capsys, "laws.json --params 163M --data=3.26B --json"))
    exact = predict(json.loads((here / "laws.json").read_text()), {"N": 163e6, "D": 3.26e9})
    assert found["loss"] == float(exact.loss[0]) == found["predictions"][0]["prediction"]
    assert found["run_interval"] == exact.run_interval[:, 0].tolist()
    same = said(capsys, "laws.json --set N=163e6 --set D=3.26e9 --json --out one.json")
    assert json.loads(same) == found == without_checksum(here / "one.json")


def test_a_table_of_runs(here, capsys):
    text = said(capsys, "laws.json --table runs.csv --out made.csv")
    assert "of runs within" in text and "wrote made.csv" in text
    made, before = pd.read_csv("made.csv"), pd.read_csv("runs.csv")
    pd.testing.assert_frame_equal(made[list(before)], before)
    found = json.loads(said(capsys, "laws.json --table runs.csv --json"))
    for k, row in enumerate(found["predictions"]):
        assert made["prediction"][k] == row["prediction"]
        assert [made["low"][k], made["high"][k]] == row["run_interval"]
        assert [made["law_low"][k], made["law_high"][k]] == row["loss_interval"]
    one = json.loads(said(capsys, "laws.json --table runs.csv --where tag=='y' --json"))
    assert one["predictions"] == found["predictions"][1:]
    fixed = json.loads(said(capsys, "laws.json --table runs.csv --params 163e6 --json"))
    assert [row["N"] for row in fixed["predictions"]] == [163e6, 163e6]


def test_columns_are_found_by_the_names_that_the_fitted_table_had(here, capsys):
    content = json.loads((here / "laws.json").read_text())
    content["columns"] = {"params": "model_size", "data": "tokens"}
    (here / "laws.json").write_text(json.dumps(content))
    pd.DataFrame({"model_size": [1e8], "tokens": [1e10]}).to_csv("theirs.csv", index=False)
    found = json.loads(said(capsys, "laws.json --table theirs.csv --json"))
    assert found["loss"] == float(predict(content, {"N": 1e8, "D": 1e10}).loss[0])


@pytest.mark.parametrize(
    ("words", "match"),
    [
        ("laws.json", "--params, --data or --flops: say which run"),
        ("laws.json --params 163e6", "reads D: give --data, or --params and --flops"),
        ("laws.json --params 163Q --data 1e9", "--params 163Q: expected a positive number"),
        ("laws.json --params -5 --data 1e9", "--params -5: expected a positive number"),
        (
            "laws.json --params 1e60 --data 1e9",
            "--params 1e60: expected a positive number up to 1e+45",
        ),
        ("laws.json --params 1e8 --set N=2e8", "--set N: it is --params already"),
        ("laws.json --params 1e8 --data 1e9 --set granularity=8", "reads only N, D"),
        ("laws.json --params 1e8 --data 1e9 --unique 1e9", "--unique: the law 'chinchilla' reads"),
        ("laws.json --param 1e8", "--param"),
        ("laws.json --where N>1", "--where: only with --table"),
        ("laws.json --table no.csv", "no.csv: no such file"),
        ("laws.json --table other.csv", "reads N, D: name their columns with --params, --data"),
        ("laws.json --table runs.csv --params M", "--params: no column 'M' in runs.csv"),
        ("laws.json --table runs.csv --where N>1e12", "no rows where"),
        ("laws.json --table far.csv", "row 2: check 13: N is"),
        ("no.json --params 1e8", "cannot read no.json"),
    ],
)
def test_what_is_refused_is_one_line(here, capsys, words, match):
    pd.DataFrame({"N": [1e8, 1e-3], "D": [1e10, 1e10]}).to_csv("far.csv", index=False)
    pd.DataFrame({"size": [1e8], "tokens": [1e10]}).to_csv("other.csv", index=False)
    assert match in said(capsys, words, 2)


def without_checksum(path: Path) -> dict:
    """What was written, to be compared or changed on purpose."""
    content = json.loads(path.read_text())
    content.pop("checksum", None)
    return content


@pytest.fixture(scope="module")
def own_content(tmp_path_factory):
    """The laws.json of a law of one's own, fitted by its file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("own"))
        params, data = grid(5, 5, 2.5)
        rows = {"N": params, "D": data, "L": losses(params, data, noise=0.003)}
        pd.DataFrame(rows).to_csv("table.csv", index=False)
        Path("mine.py").write_text(OWN)
        words = "fit table.csv --params N --data D --loss L --law mine.py --bootstrap 100"
        assert main([*words.split(), "--out", "own.json"]) == 0
        assert Path("ran").exists(), "the command line named it"
        return without_checksum(Path("own.json"))


@pytest.fixture
def own_laws(tmp_path, monkeypatch, own_content):
    """A folder with that law and its file."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(OWN)
    (tmp_path / "own.json").write_text(json.dumps(own_content))
    return tmp_path


VERBS = ("plan own.json --flops 1e21 --json", "predict own.json --params 1e8 --data 1e10 --json")


@pytest.mark.parametrize("words", VERBS)
@pytest.mark.parametrize(
    "name", ["mine.py", "./mine.py", "mine", "sub/../mine.py", "{here}/mine.py"]
)
def test_no_file_that_a_laws_json_names_is_ever_run(own_laws, capsys, words, name):
    here = own_laws
    content = json.loads((here / "own.json").read_text())
    content |= {"law": name.format(here=here), "law_file": "mine.py"}
    (here / "own.json").write_text(json.dumps(content))
    assert main(words.split()) == 2
    assert not (here / "ran").exists()
    error = capsys.readouterr().err
    assert "is ours" in error and "give its file again: --law mine.py" in error


@pytest.mark.parametrize("words", VERBS)
def test_a_law_of_ones_own_works_where_its_file_is_named_again(own_laws, capsys, words):
    assert main([*words.split(), "--law", "mine.py"]) == 0
    ours = json.loads(capsys.readouterr().out)
    content = json.loads((own_laws / "own.json").read_text())
    renamed = {
        "law": "chinchilla",
        "parameters": dict(zip(laws.CHINCHILLA.names, content["parameters"].values(), strict=True)),
    }
    (own_laws / "own.json").write_text(json.dumps({**content, **renamed}))
    assert main(words.split()) == 0
    assert json.loads(capsys.readouterr().out)["loss"] == pytest.approx(ours["loss"], rel=1e-9)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (('name="mine"', 'name="other"'), "fitted by 'mine', and this law is 'other'"),
        (("D^b", "D^c"), "is now L(N, D) = E + A / N^a + B / D^c, and was"),
        (('name="mine"', 'name="chinchilla"'), "as one of ours is: rename"),
    ],
)
def test_another_law_than_the_fitted_one_is_refused(own_laws, capsys, change, match):
    (own_laws / "mine.py").write_text(OWN.replace(*change))
    for words in VERBS:
        assert main([*words.split(), "--law", "mine.py"]) == 2
        assert match in capsys.readouterr().err


def test_any_law_of_the_laboratory_predicts_what_it_is_of():
    content = {"law": "step_learning_rate", "parameters": {"c": 1.79, "p": -0.713, "q": 0.307}}
    found = predict(content, {"N": 1e9, "D": 1e11})
    assert found.target == "learning rate"
    assert found.loss[0] == pytest.approx(1.79 * 1e9**-0.713 * 1e11**0.307, rel=1e-12)
    assert any("no fitted range" in line for line in found.warnings)


def test_a_law_of_one_ratio_is_asked_along_it():
    power = {"law": "power", "parameters": {"A": 30.0, "alpha": 0.05}, "ratio": 20.0}
    power["range"] = {"N": [1e7, 1e9], "D": [2e8, 2e10], "C": [1.2e16, 1.2e20]}
    whole = predict(power, {"N": 1e8, "D": 2e9})
    for given in ({"N": 1e8}, {"D": 2e9}, {"C": 1.2e18}):
        np.testing.assert_allclose(predict(power, given).loss, whole.loss, rtol=1e-12)
    with pytest.raises(UserError, match=r"D is 10 times .*\(D = 20 N in every run fitted\)"):
        predict(power, {"N": 1e8, "D": 2e10})
    best = plan(power, 1.2e18)
    assert (best.best.params, best.best.data) == pytest.approx((1e8, 2e9), rel=1e-12)
    assert best.best.loss == pytest.approx(float(whole.loss[0]), rel=1e-12) and not best.curve
    with pytest.raises(UserError, match="--inference-tokens: D = 20 N in every run fitted"):
        plan(power, 1.2e18, inference=1e9)
    # D grows as N^1.5 and is 20 N at 1e8: the run at 4e8 has eight times the data.
    steep = {**power, "ratio": {"D_over_N": 20.0, "power": 1.5, "at_N": 1e8}}
    for given in ({"N": 4e8}, {"D": 1.6e10}, {"C": 6 * 4e8 * 1.6e10}):
        found = predict(steep, given)
        assert float(found.columns["N"][0]) == pytest.approx(4e8, rel=1e-9)
        assert float(found.columns["D"][0]) == pytest.approx(1.6e10, rel=1e-9)
    assert plan(steep, 6 * 4e8 * 1.6e10).best.data == pytest.approx(1.6e10, rel=1e-9)


DAMAGED = {
    "draws": ["x", [["x"] * 5], [[1.0] * 4], [[1.0] * 10], {"a": 1}, 5, [[10**400] * 5]],
    "level": ["x", 2, -1, [0.9], True],
    "noise": ["x", -1, [1]],
    "inflation": ["x", -2],
    "num_groups": ["many", -4],
    "flops": [{"factor": "six"}, {"factor": 6, "power": -1}, [6, 1], {"factor": "6", "power": 1}],
    "range": [[1, 2], {"N": 5}, {"N": [1]}, {"N": [2, 1]}, {"D": [0, 1]}, {"C": ["a", "b"]}, "x"],
    "law": [5, None, [], {"x": 1}, "mixture:999999999", ""],
    "parameters": [5, [], {"E": "x"}, {"E": True}, "x"],
    "ratio": ["x", -1, [], {}, {"D_over_N": 20, "power": "x"}],
}


@pytest.mark.parametrize(("key", "value"), [(k, v) for k, vs in DAMAGED.items() for v in vs])
def test_a_laws_json_of_the_wrong_shape_is_one_line(content, key, value):
    with pytest.raises(UserError) as caught:
        read_law({**content, key: value})
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


@pytest.mark.parametrize("key", ["warnings", "columns", "data_unit", "parts", "objective_kind"])
@pytest.mark.parametrize("value", [5, "x", [1, [2]], {"a": {}}, None])
def test_words_of_a_laws_json_are_only_words(content, key, value):
    assert predict({**content, key: value}, {"N": 1e8, "D": 1e10}).to_json()["loss"] > 0
