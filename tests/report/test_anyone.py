"""Anybody's table gets the page that a run folder gets; what it cannot be is said in a line."""

import json
import re

import numpy as np
import pandas as pd
import pytest

from research.__main__ import main
from tests.scaling.planted import grid, losses, valleys

COLUMNS = ["--params", "size", "--data", "tokens", "--loss", "nll"]


def write(path, params, data, noise=0.003):
    frame = pd.DataFrame({"size": params, "tokens": data, "nll": losses(params, data, noise=noise)})
    frame.to_csv(path, index=False)
    return frame


def specs(html: str) -> dict:
    found = re.search(r'<script type="application/json" id="figures">(.*?)</script>', html, re.S)
    assert found
    return json.loads(found[1])["specs"]


def rows_of(spec: dict) -> list[dict]:
    return [row for rows in spec["datasets"].values() for row in rows if "flags" in row]


def test_a_table_has_the_whole_page(tmp_path, capsys):
    frame = write(tmp_path / "runs.csv", *valleys())
    page = tmp_path / "page.html"
    assert main(["report", str(tmp_path / "runs.csv"), *COLUMNS, "--out", str(page)]) == 0
    assert capsys.readouterr().out == f"{page}\n"
    html = page.read_text()
    drawn = specs(html)
    kinds = "loss isoflop optimal-size ladder coverage profiles plan-loss size-exponents"
    assert {f"table-{kind}" for kind in kinds.split()} <= set(drawn)
    shown = {row["id"]: row for row in rows_of(drawn["table-loss"])}
    assert sorted(shown) == sorted(f"row {k}" for k in range(1, len(frame) + 1))
    for k, row in frame.iterrows():
        assert shown[f"row {k + 1}"]["loss"] == pytest.approx(row.nll)
    assert "alpha" in html and "Samples" not in html.partition("<script>")[0]


def test_a_table_without_budgets_has_no_valleys(tmp_path):
    params, data = grid(num_sizes=14, num_amounts=3)
    jitter = np.random.default_rng(0).uniform(0.7, 1.4, len(params))
    write(tmp_path / "runs.csv", params, data * jitter)
    assert main(["report", str(tmp_path / "runs.csv"), *COLUMNS]) == 0
    drawn = specs((tmp_path / "runs.csv.html").read_text())
    assert "table-loss" in drawn and "table-isoflop" not in drawn
    colours = [layer["encoding"].get("color", {}) for layer in drawn["table-loss"]["layer"]]
    assert {colour["field"] for colour in colours if colour} == {"N"}  # fourteen: a gradient


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["FOLDER", *COLUMNS], "--params: only for a table"),
        (["FOLDER", "--out", "page.html"], "--out: only for a table"),
        (["runs.csv"], "--loss: name the column of"),
        (
            ["runs.csv", "--params", "siez", "--data", "tokens", "--loss", "nll"],
            "did you mean 'size'",
        ),
        (["long.csv", *COLUMNS], "a page shows 2000 rows, not 2100; choose with --where"),
    ],
)
def test_what_cannot_be_is_one_line(tmp_path, monkeypatch, capsys, words, said):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "runs.csv", *valleys())
    write(tmp_path / "long.csv", *grid(num_sizes=60, num_amounts=35))
    (tmp_path / "FOLDER").mkdir()
    assert main(["report", *words]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert not list(tmp_path.glob("*.html"))
