"""What a mistake is told: the nearest option, the table that is wanted, the run that helps."""

import json
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from research.__main__ import main
from research.errors import UserError
from research.scaling.doubt import reach
from research.scaling.engine.autodiff import Autodiff
from research.scaling.engine.design import make_design
from research.scaling.fit import fit_law
from research.scaling.laws import LAWS
from research.scaling.plan.budget import plan
from tests.scaling.instances import instance
from tests.scaling.planted import grid, losses, table

SPAN = {"N": (1e7, 1e9), "D": (1e9, 1e11), "C": (6e16, 6e20)}
NARROW = {"N": (1e8, 1e9), "D": (1e10, 1e11), "C": (6e18, 6e20)}


def refused(capsys, words: str) -> str:
    assert main(words.split()) == 2
    said = capsys.readouterr()
    assert said.err.startswith("error: ") and said.err.count("\n") == 1 and said.out == ""
    return said.err


@pytest.mark.parametrize(
    ("words", "near"),
    [
        ("fit t.csv --param N", "'--params'"),
        ("fit t.csv --bootstap=5", "'--bootstrap'"),
        ("backtest t.csv --hold_out x", "'--holdout'"),
        ("plan laws.json --flops 1e21 --chip v5e:4", "'--chips'"),
        ("predict laws.json --dat 1e9", "'--data'"),
        ("reproduce hoffmann2022 --jso", "'--json'"),
    ],
)
def test_an_option_that_is_not_there_names_the_nearest(words, near, capsys):
    assert f"did you mean {near}?" in refused(capsys, words)


@pytest.mark.parametrize(
    "name", ["besiroglu2024", "gadre2024", "li2025", "muennighoff2023", "porian2024"]
)
def test_a_table_that_is_not_the_papers_is_told_which_is(name, tmp_path, capsys):
    path = tmp_path / "other.csv"
    pd.DataFrame({"N": [1e8], "D": [1e9], "L": [3.0]}).to_csv(path, index=False)
    said = refused(capsys, f"reproduce {name} --data {path}")
    assert f"--data {path}: not the table of {name} (no column" in said and "; give " in said
    for option in ("--where", "--params", "--loss", "--column", "--flops"):
        assert option not in said, "the user gave none of them"


def test_amounts_too_large_are_called_so(tmp_path, capsys):
    path = tmp_path / "laws.json"
    path.write_text(json.dumps({"law": "power", "parameters": {"A": 30.0, "alpha": 0.05}}))
    for option in ("--flops", "--unique-tokens", "--inference-tokens"):
        more = "" if option == "--flops" else " --flops 1e21"
        assert f"{option} 1e60: expected a positive number up to 1e+45" in refused(
            capsys, f"plan {path}{more} {option} 1e60"
        )


@pytest.mark.parametrize("name", ["N", "D", "C", "U"])
def test_what_a_plan_chooses_cannot_be_set_in_silence(name):
    content = {"law": "muennighoff", "parameters": dict.fromkeys(LAWS["muennighoff"].names, 0.5)}
    with pytest.raises(UserError, match=f"--set {name}: (a plan chooses|the budget is|the data)"):
        plan(content, 1e21, given={name: 163e6})


@pytest.mark.parametrize(
    ("wanted", "past"),
    [
        ({"C": 6e21}, {"C": 1.0}),
        ({"C": 6e13}, {"C": -3.0}),
        ({"N": 1e8, "D": 1e15}, {"N": 0.0, "D": 4.0}),
        ({"granularity": 8.0}, {}),
    ],
)
def test_13_reach_is_measured_both_ways_and_of_each_variable(wanted, past):
    found = {name: float(value) for name, value in reach.beyond(SPAN, wanted).items()}
    assert found == pytest.approx(past, abs=1e-9)
    assert reach.refusal(SPAN, wanted, ("N", "C")) is None, "the runs are wide"
    far = [name for name, value in past.items() if abs(value) > 1]
    assert [line.split()[2] for line in reach.warnings(reach.beyond(SPAN, wanted))] == far


@pytest.mark.parametrize(
    ("wanted", "match"),
    [
        ({"C": 6.1e21}, "C is 10.2 times above the largest fitted, and N spans 1.00"),
        ({"C": 5.9e17}, "C is 10.2 times below the smallest fitted, and N spans 1.00"),
        ({"N": 1e6}, r"N is 100 times below .*runs at N = 3.2e\+07 or 3.2e\+09 would widen it"),
        ({"D": 1e14}, "D is 1e.03 times above"),
    ],
)
def test_13_a_narrow_range_is_left_in_no_direction(wanted, match):
    assert re.search(match, reach.refusal(NARROW, wanted, ("N", "C")) or "")


def content_of(scale: float = 1.0) -> dict:
    params, data = grid(7, 6, 2.5)
    runs = table(params / scale, data / scale, losses(params, data, noise=0.003))
    return json.loads(json.dumps(fit_law(runs, bootstrap=100).to_json()))


@pytest.fixture(scope="module")
def plain():
    return content_of()


def test_14_a_plan_far_below_or_above_the_runs_says_so(plain):
    below = plan(plain, 1e9)
    for name in "CND":
        assert any(f"{name} is" in line and "below the smallest" in line for line in below.warnings)
    served = plan(plain, 1e21, inference=1e17)
    assert any("D is" in line and "above the largest" in line for line in served.warnings)
    inside = plan(plain, 1e20)
    assert not inside.warnings
    assert below.fit_warnings == inside.fit_warnings == plain["warnings"]


def test_14_a_fit_in_billions_does_not_plan_in_ones():
    billions = content_of(1e9)
    assert any(line.startswith("[1 units]") for line in billions["warnings"])
    with pytest.raises(UserError, match=r"too far for any law.*the fit warned: \[1 units\]"):
        plan(billions, 1e21)
    # In the fit's own unit it plans, and says of which unit the fit was in doubt.
    found = plan(billions, 1e21 / 1e18)
    assert found.best.params * 1e9 == pytest.approx(plan(content_of(), 1e21).best.params, rel=1e-3)
    assert any("[1 units]" in line for line in found.fit_warnings)


@pytest.mark.parametrize("name", ["kaplan", "overtraining", "supervised", "precision", "farseer"])
def test_a_law_is_the_same_in_numpy_and_in_jax(name):
    """What is predicted without compiling is what is differentiated, draws broadcast over rows."""
    import jax

    law, variables, truth, values = instance(name)
    np.testing.assert_array_equal(law.loss(truth, **variables), values)
    draws = np.stack([truth, truth * 1.01])
    design = make_design(law, variables)
    assert isinstance(design, Autodiff) and design.plain, "nothing is compiled for a prediction"
    assert law.function is not None
    with jax.enable_x64():
        compiled = [
            np.asarray(
                law.function(
                    dict(zip(law.names, map(jax.numpy.asarray, row), strict=True)), variables
                )
            )
            for row in draws
        ]
    np.testing.assert_allclose(law.loss(draws, **variables), compiled, rtol=1e-12)


def test_help_is_there_at_once():
    """Nothing that takes its time to load is loaded."""
    for words in (["fit", "--help"], ["predict", "--help"], ["fit", "--checks"]):
        command = [sys.executable, "-X", "importtime", "-m", "research", *words]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stdout
        for heavy in ("jax", "scipy.stats._stats_py", "flax"):
            assert not any(line.endswith(f" {heavy}") for line in done.stderr.splitlines()), heavy
