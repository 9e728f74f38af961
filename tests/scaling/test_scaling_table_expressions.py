"""Expressions of --where, --fit, --holdout and --cost: what they select, and what never runs."""

import os
import re
from time import process_time

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from research.__main__ import main
from research.errors import UserError
from research.scaling.table.expression import evaluate, rows_where

FRAME = pd.DataFrame(
    {
        "N": [10_000_000_000, 20_000_000_000, 40_000_000_000, 80_000_000_000],
        "D": [1e9, 2e9, np.nan, 4e9],
        "L": [3.0, 2.9, 2.8, 2.7],
        "name": ["adam", "adamw", None, "sgd (v1.5)"],
        "val/bpb": [1.0, 0.9, 0.8, 0.7],
        "Seen %": [1, 2, 3, 4],
        "d.model": [64, 64, 128, 128],
        "class": ["a", "b", "a", "b"],
        "size": ["10M", "20M", "1.3B", "70M"],
        "tag": ["7", "8", "base", "9"],
        "flag": [True, False, True, False],
        "µ": [0.1, 0.2, 0.3, 0.4],
    }
)
SELECTED = {
    "L < 2.85": [3, 4],
    "2.75 < L <= 2.9": [2, 3],
    "N * D > 1e20": [4],
    "N ** 2 > 1e21": [3, 4],
    "N // 3e10 == 1 or N % 3e10 == 1e10": [1, 3],
    "name == 'adam'": [1],
    "name != 'adam'": [2, 3, 4],
    "name in ['adam', 'sgd (v1.5)']": [1, 4],
    "name not in ('adam',)": [2, 3, 4],
    "name == ['adam', 'adamw']": [1, 2],
    "name.isin(['adam'])": [1],
    "name.str.contains('adam')": [1, 2],
    "name.str.contains('(v1.5)', regex=False)": [4],
    "name.str.contains('ADAM', case=False)": [1, 2],
    "name.str.startswith('sgd')": [4],
    "name.str.endswith('w')": [2],
    "isna(name)": [3],
    "not isna(name) and notna(D)": [1, 2, 4],
    "D.isnull()": [3],
    "D != 1e9": [2, 3, 4],
    "L == 3 | L == 2.7": [1, 4],
    "L > 2.75 & ~(L == 3)": [2, 3],
    "`val/bpb` < 0.85": [3, 4],
    "`Seen %` > 1 and `d.model` == 64": [2],
    "`class` == 'a'": [1, 3],
    "µ > 0.25": [3, 4],
    "size > 3e7": [3, 4],
    "size == '20M'": [2],
    "tag == '7'": [1],
    "flag": [1, 3],
    "not flag": [2, 4],
    "flag == True": [1, 3],
    "log10(N) < 10.5 and sqrt(`d.model`) == 8 and exp(log(L)) > 1 and abs(-L) > 1": [1, 2],
    "-L < -2.95": [1],
    "name == '`x` & y|z' or L == 3": [1],
}


@pytest.mark.parametrize("text", SELECTED)
def test_what_an_expression_selects(text):
    mask = rows_where(FRAME, text, "--where", "t.csv")
    assert list(np.flatnonzero(mask) + 1) == SELECTED[text]


REFUSED = {
    "@pd.io.common.os.system('touch pwned')": "invalid syntax; allowed are columns",
    "N > @x": "allowed are",
    "N.to_pickle('pwned')": "not allowed; allowed are",
    "N.map(print)": "not allowed",
    "name.str.replace('a', 'b') == 'b'": "not allowed",
    "name.str.contains('a').to_csv('pwned')": "not allowed",
    "__import__('os').system('touch pwned')": "not allowed",
    "(lambda: 1)()": "not allowed",
    "[x for x in N]": "not allowed",
    "N.values.tofile('pwned')": "not allowed",
    "N[0] > 1": "'N\\[0\\]' is not allowed",
    "(x := 3) > N": "not allowed",
    "f'{N}' == 'a'": "not allowed",
    "L if flag else N": "not allowed",
    "N is None": "before `is`: write isna",
    "L ^ 2 > 1": "not allowed.*\\*\\*",
    "1j * L > 1": "not allowed",
    "b'a' == name": "not allowed",
    "N > 9**9**9**9": "no finite number",
    "N > 2.0**1e9": "no finite number",
    "N > 1" + "0" * 4000: "no finite number",
    "name == 'a' * 10**9": "'a'' is no number|is no number",
    "L > (-1) ** 0.5": "no finite number",
    "name.str.contains('(a+)+$')": "looks like a regular expression",
    "name.str.contains('adam|sgd')": "join several tests by `or`",
    "name.str.contains('a', regex=True)": "matched as it stands",
    "name > 3": "column 'name' holds text in row 1 \\('adam'\\)",
    "tag == 7": "column 'tag' holds text in row 3 \\('base'\\).*in quotes",
    "N == '7'": "column 'N' holds numbers, and is compared with the text '7'",
    "name == adamw": "no column 'adamw' in t.csv; text stands in quotes: 'adamw'",
    "val/bpb < 1": "write `val/bpb`, in backticks",
    "Seen % > 1": "write `Seen %`, in backticks",
    "d.model == 64": "write `d.model`, in backticks",
    "class == 'a'": "write `class`, in backticks",
    "`val/bbp` < 1": "no column 'val/bbp' in t.csv \\(did you mean 'val/bpb'\\?\\)",
    "`val/bpb < 1": "backtick",
    "nmae == 'a'": "no column 'nmae' in t.csv \\(did you mean 'name'\\?\\)",
    "N": "not true or false",
    "L and flag": "'L' is not true or false; write L == 1",
    "1 == 1": "not true or false for each row",
    "": "cannot evaluate",
    "L >": "cannot evaluate",
    "L = 3": "cannot evaluate.*==",
    "'adam' in name": "name.str.contains",
    "L < [1, 2]": "a list is compared",
    "-" * 9000 + "L > 1": "nested",
    "not " * 2000 + "flag": "nested",
    "(" * 5000 + "L" + ")" * 5000: "characters|nested|cannot",
    "L > 1 and " * 2000 + "L > 1": "characters",
    "L" + " + L" * 200 + " > 1": "nested more than",
    "name == 'a\x00b'": "cannot evaluate|not",
}


@pytest.mark.parametrize("text", REFUSED, ids=lambda text: text[:40])
def test_everything_else_is_refused_at_once_in_one_line(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    began = process_time()
    with pytest.raises(UserError, match=REFUSED[text]) as caught:
        rows_where(FRAME, text, "--where", "t.csv")
    assert process_time() - began < 1
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500
    assert os.listdir() == []


def test_arithmetic_is_of_float64_and_scalars_stay_scalars():
    frame = pd.DataFrame({"N": [10**10], "D": [10**12]})
    assert evaluate(frame, "6 * N * D").tolist() == [6e22], "64-bit integers would overflow"
    assert evaluate(frame, "6 * 2") == 12.0
    assert evaluate(frame, "N / D", "--cost", "t").tolist() == [0.01]


NAMES = st.sampled_from(["N", "L", "name", "`val/bpb`", "flag", "size", "nothing", "1", "'a'"])
OPERATORS = [" < ", " == ", " and ", " or ", " + ", " ** ", " in ", " % ", " | ", " & ", ".", "@"]
TEXTS = st.recursive(
    NAMES,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(OPERATORS), inner).map("".join),
        inner.map(lambda text: f"({text})"),
        inner.map(lambda text: f"not {text}"),
        inner.map(lambda text: f"[{text}]"),
        inner.map(lambda text: f"isna({text})"),
        inner.map(lambda text: f"{text}.str.contains('a')"),
    ),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(st.one_of(TEXTS, st.text(max_size=40)))
@example("\\")
@example("`` == 1")
@example("name == '\\ud800'")
def test_any_text_gives_a_mask_or_one_line(text):
    try:
        mask = rows_where(FRAME, text, "--where", "t.csv")
    except UserError as error:
        assert len(str(error).splitlines()) == 1
    else:
        assert mask.dtype == bool and len(mask) == len(FRAME)


ATTACK = "@pd.io.common.os.system('touch pwned') == 0"
COLUMNS = ["--params", "N", "--data", "D", "--loss", "L"]
COMMANDS = {
    "fit": ["fit", "t.csv", *COLUMNS, "--where", ATTACK],
    "isoflop": ["isoflop", "t.csv", *COLUMNS, "--where", ATTACK],
    "backtest, rows": ["backtest", "t.csv", *COLUMNS, "--where", ATTACK],
    "backtest, holdout": ["backtest", "t.csv", *COLUMNS, "--holdout", ATTACK],
    "next, rows": ["next", "--pool", "t.csv", *COLUMNS, "--cost", "N", "--where", ATTACK],
    "next, cost": ["next", "--pool", "t.csv", *COLUMNS, "--cost", ATTACK],
    "extrapolate": "extrapolate t.csv --curve name --x N --y L --fit".split() + [ATTACK],
    "report": ["report", "t.csv", *COLUMNS, "--where", ATTACK, "--out", "page.html"],
}


@pytest.mark.parametrize("verb", COMMANDS)
def test_no_verb_runs_what_an_expression_says(verb, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    size, data = np.meshgrid([1e7, 3e7, 1e8], [1e9, 3e9, 1e10])
    frame = pd.DataFrame({"N": size.ravel(), "D": data.ravel(), "name": ["a", "b", "c"] * 3})
    frame["L"] = 1.7 + 400 * frame["N"] ** -0.34 + 400 * frame["D"] ** -0.28
    frame.to_csv("t.csv", index=False)
    words = COMMANDS[verb]
    assert main([*words, "--target", "t.csv"] if words[0] == "next" else words) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and re.search("allowed are columns", said), said
    assert os.listdir() == ["t.csv"]
