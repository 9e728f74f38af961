"""`fit` from the command line, and the summary that the sweep and the report read."""

import argparse
import json

import numpy as np
import pandas as pd
import pytest

from research.errors import UserError
from research.scaling.commands import fit as command
from research.scaling.summary import summarise
from research.scaling.table import read_runs
from tests.scaling.planted import TRUTH, grid, losses, planted_study, result, write_study

QUICK = ["--bootstrap", "200"]


def fit(*arguments) -> int:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.run(parser.parse_args([str(argument) for argument in arguments]))


@pytest.fixture
def csv(tmp_path):
    params, data = grid(8, 6, 3.0)
    frame = pd.DataFrame({"N": params, "D": data, "L": losses(params, data)})
    frame.to_csv(tmp_path / "table.csv", index=False)
    return tmp_path / "table.csv"


COLUMNS = ["--params", "N", "--data", "D", "--loss", "L"]


def test_a_table_to_laws_json_in_full_precision(csv, capsys):
    out = csv.parent / "laws.json"
    assert fit(csv, *COLUMNS, "--law", "chinchilla", *QUICK, "--seed", "0", "--out", out) == 0
    laws = json.loads(out.read_text())
    assert laws["law"] == "chinchilla" and laws["refused"] is None and laws["warnings"] == []
    assert laws["num_runs"] == 48 and laws["level"] == 0.95 and "6ND" in laws["convention"]
    for name, value in TRUTH.items():
        assert laws["parameters"][name] == pytest.approx(value, rel=1e-6)
        low, high = laws["intervals"][name]
        assert low <= high
    printed = capsys.readouterr().out
    assert "E + A / N^alpha + B / D^beta" in printed and "95% interval" in printed
    assert str(out) in printed


def test_a_run_folder_gives_every_part(tmp_path, capsys):
    folder = planted_study(tmp_path / "study", parts=("text", "image"))
    out = tmp_path / "laws.json"
    fit(folder, "--law", "chinchilla", *QUICK, "--out", out)
    laws = json.loads(out.read_text())
    assert list(laws["parts"]) == ["text", "image"]
    assert laws["parameters"] == laws["parts"]["text"]["parameters"]
    assert laws["parts"]["image"]["parameters"] != laws["parameters"]
    fit(folder, "--part", "image", *QUICK, "--out", out)
    assert json.loads(out.read_text())["part"] == "image"


def test_a_part_too_small_for_the_law_is_refused_beside_the_others(tmp_path, capsys):
    folder = planted_study(tmp_path / "study")
    small = result(1e6, 1e8, 3.0, 1e15, part="check")
    (folder / small["id"]).mkdir()
    (folder / small["id"] / "result.json").write_text(json.dumps(small))
    fit(folder, *QUICK, "--out", tmp_path / "laws.json")
    laws = json.loads((tmp_path / "laws.json").read_text())
    assert laws["parameters"] is not None and laws["parts"]["check"]["parameters"] is None
    assert "1 rows cannot fit" in laws["parts"]["check"]["refused"]
    assert "1 rows cannot fit" in capsys.readouterr().out
    with pytest.raises(UserError, match="1 rows cannot fit"):
        fit(folder, "--part", "check", *QUICK)


@pytest.mark.parametrize("law", ["frontier", "power", "kaplan"])
def test_other_laws_have_the_same_schema(tmp_path, law):
    folder = planted_study(tmp_path / "study")
    fit(folder, "--law", law, *QUICK, "--out", tmp_path / "laws.json")
    laws = json.loads((tmp_path / "laws.json").read_text())
    keys = "law parameters intervals level objective num_runs convention warnings refused"
    assert set(keys.split()) <= set(laws) and laws["law"] == law


def test_a_refusal_is_written_and_said(csv, capsys):
    few = pd.read_csv(csv).sample(7, random_state=0)
    few.to_csv(csv, index=False)
    assert fit(csv, *COLUMNS, *QUICK, "--out", csv.parent / "laws.json") == 0
    laws = json.loads((csv.parent / "laws.json").read_text())
    assert laws["parameters"] is None and laws["intervals"] is None
    assert "7 runs" in laws["refused"] and laws["rejected"]["alpha"] > 0
    assert "refused" in capsys.readouterr().out


def test_highest_losses_are_left_out_by_an_explicit_rule(csv):
    out = csv.parent / "laws.json"
    fit(csv, *COLUMNS, *QUICK, "--drop-highest", 5, "--out", out)
    laws = json.loads(out.read_text())
    assert laws["num_runs"] == 43 and "and above left out" in laws["notes"][0]


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["--law", "chinchila", *COLUMNS], "did you mean 'chinchilla'"),
        (["--bootstrap", "3", *COLUMNS], "--bootstrap 3"),
        (["--level", "95", *COLUMNS], "--level 95"),
        (["--seed", "-1", *COLUMNS], "--seed -1"),
        (["--drop-highest", "48", *COLUMNS], "--drop-highest 48"),
        (["--drop-highest", "-1", *COLUMNS], "--drop-highest -1"),
        (["--part", "text", *COLUMNS], "--part: only for a run folder"),
        (["--data", "D", "--loss", "L"], "reads N: give --params COLUMN .did you mean 'N'"),
        (["--params", "N", "--data", "D"], "--loss: name the column"),
        (["--params", "N", "--data", "D", "--loss", "M"], "no column 'M'"),
    ],
)
def test_bad_arguments_write_nothing(csv, arguments, match):
    out = csv.parent / "laws.json"
    with pytest.raises(UserError, match=match):
        fit(csv, *arguments, "--out", out)
    assert not out.exists()


def test_bad_arguments_with_a_run_folder(tmp_path):
    folder = planted_study(tmp_path / "study")
    with pytest.raises(UserError, match="--params: only for a table"):
        fit(folder, *COLUMNS)
    with pytest.raises(UserError, match="no part 'txt'.*did you mean 'text'"):
        fit(folder, "--part", "txt")


@pytest.mark.parametrize(
    ("spoil", "match"),
    [
        (lambda f: f.head(3), "3 rows cannot fit"),
        (lambda f: f.assign(N=1e8), "N to vary"),
        (lambda f: f.assign(D=1e9), "D to vary"),
        (lambda f: f.assign(L=2.0), "nothing to fit"),
        (lambda f: f.assign(L=-f.L), "not positive"),
        (lambda f: f.assign(L=np.nan), "missing"),
    ],
)
def test_tables_that_cannot_be_fitted_write_nothing(csv, spoil, match):
    out = csv.parent / "laws.json"
    out.write_text("before")
    spoil(pd.read_csv(csv)).to_csv(csv, index=False)
    with pytest.raises(UserError, match=match):
        fit(csv, *COLUMNS, *QUICK, "--out", out)
    assert out.read_text() == "before"


def test_summary_holds_every_law_of_every_part(tmp_path):
    tables = read_runs(planted_study(tmp_path / "study", parts=("text", "image")))
    parts = {name: summarise(table, bootstrap=200) for name, table in tables.items()}
    assert list(parts) == ["text", "image"]
    for part in parts.values():
        assert part.chinchilla and part.chinchilla.parameters and part.frontier
        assert part.held_out.fit
        assert part.refused == {}
        assert part.chinchilla.parameters["alpha"] == pytest.approx(TRUTH["alpha"], abs=0.1)
        assert part.held_out.fit.num_runs == 28 and part.chinchilla.num_runs == 35
        assert part.held_out.num_inside >= 5
        assert part.frontier.num_runs == 5 and len(part.frontier_held_out.predictions) == 1
        assert part.isoflop.params_exponent == pytest.approx(0.45, abs=0.1)
        assert [f.code for f in part.findings] == sorted(f.code for f in part.findings)


def test_summary_of_a_small_sweep_says_what_it_cannot_say(tmp_path):
    rows = [result(1e6 * 4**k, 1e8, 3.0 - k / 4, 6e14 * 4**k) for k in range(4)]
    (table,) = read_runs(write_study(tmp_path / "study", rows)).values()
    part = summarise(table, bootstrap=100)
    assert part.chinchilla is None and part.held_out.refused is not None
    assert set(part.refused) >= {"chinchilla", "isoflop"}
    assert "4 rows cannot fit" in part.refused["chinchilla"]
