"""Every law planted without noise is found again; and laws that users bring in a file."""

import argparse
import json

import numpy as np
import pytest

from research.errors import UserError
from research.scaling.commands import fit as command
from research.scaling.engine.solve import solve
from research.scaling.laws import LAWS, get
from tests.scaling.instances import INSTANCES, instance


@pytest.mark.parametrize("name", INSTANCES)
def test_a_planted_law_is_found(name):
    law, variables, truth, values = instance(name)
    found = solve(law, variables, values, np.arange(len(values)), bootstrap=0)
    design = found.design
    # No start is the answer (a sum of powers has a thousand exponents to start from).
    starts = design.to_parameters(design.starts(values, 256))
    assert law.terms or (np.abs(starts / truth - 1).max(1) > 0.01).all()
    np.testing.assert_allclose(design.to_parameters(found.best), truth, rtol=1e-7)


USER_LAW = """
from research.scaling.laws.law import Law, Parameter


def loss(parameters, variables):
    return parameters["E"] + parameters["A"] * (variables["N"] + parameters["N_0"]) ** -0.3


LAW = Law(
    name="shifted",
    formula="L(N) = E + A / (N + N_0)^0.3",
    source="a test, 2026",
    parameters=(
        Parameter("E", "floor", "loss"),
        Parameter("A", "coefficient", "loss * parameters^0.3"),
        Parameter("N_0", "scale", "parameters", 1.0, 1e12, (1e4, 1e7)),
    ),
    variables=("N",),
    minimum_rows=5,
    function=loss,
)
"""


def test_a_law_from_a_file_is_fitted_by_the_command(tmp_path, capsys):
    path = tmp_path / "shifted.py"
    path.write_text(USER_LAW)
    law, truth = get(str(path)), {"E": 1.5, "A": 40.0, "N_0": 3e5}
    size = np.geomspace(1e4, 1e8, 12)
    rows = zip(size.tolist(), law.loss(truth, N=size).tolist(), strict=True)
    lines = [f"{n!r},1e9,{loss!r}" for n, loss in rows]
    (tmp_path / "runs.csv").write_text("\n".join(["n,d,loss", *lines]))
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    options = ["--params", "n", "--data", "d", "--loss", "loss", "--bootstrap", "100"]
    options += ["--law", str(path), "--out", str(tmp_path / "laws.json")]
    assert command.run(parser.parse_args([str(tmp_path / "runs.csv"), *options])) == 0
    content = json.loads((tmp_path / "laws.json").read_text())
    assert content["law"] == "shifted"
    for name, value in truth.items():
        assert content["parameters"][name] == pytest.approx(value, rel=1e-6)


@pytest.mark.parametrize(
    "change, message",
    [
        (("LAW = Law(", "LAWS = Law("), "has no constant LAW .did you mean 'LAWS'"),
        (("from research", "from reserch"), "ModuleNotFoundError: No module named 'reserch'"),
        (("def loss(", "def los("), "NameError: name 'loss' is not defined"),
        (('"scale"', '"scales"'), "parameter 'N_0': kind 'scales' .did you mean 'scale'"),
        (("1.0, 1e12", "1e12, 1.0"), "parameter 'N_0': low 1e.12 is not below high 1"),
        ((", (1e4, 1e7)", ""), "parameter 'N_0': a scale needs a grid"),
        ((", (1e4, 1e7)", ", (0.5,), 'n'"), "within 'n' is no variable of LAW .*'N'"),
        (("    function=loss,\n", ""), "LAW needs either terms or a function"),
        (("LAW = Law(", "LAW = dict("), "LAW is a dict; expected a research.scaling.laws.Law"),
        (("LAW = Law(", "LAW = Law(("), "SyntaxError"),
    ],
)
def test_a_mistake_in_a_users_law_is_one_line(tmp_path, change, message):
    assert change[0] in USER_LAW
    path = tmp_path / "mine.py"
    path.write_text(USER_LAW.replace(*change))
    with pytest.raises(UserError, match=message) as caught:
        get(str(path))
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


def test_a_law_that_is_not_there_is_named(tmp_path):
    (tmp_path / "shifted.py").write_text(USER_LAW)
    with pytest.raises(UserError, match="no file .*shiftde.py .did you mean 'shifted.py'"):
        get(str(tmp_path / "shiftde.py"))
    with pytest.raises(UserError, match="no law 'chinchila' .did you mean 'chinchilla'"):
        get("chinchila")
    with pytest.raises(UserError, match="no law 'mixture:two' .did you mean 'mixture:2'"):
        get("mixture:two")
    assert get("kaplan") is LAWS["kaplan"]
