"""Degenerate tables through every verb and the page: an answer or one line, never a traceback.

Warnings are errors here: what numpy has to say of an empty or a constant column is our business.
"""

import warnings
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from research.__main__ import main
from research.report import export, findings
from research.scaling import overview
from tests.report import synthetic
from tests.scaling.planted import result, write_study

OPTIONS = {"N": "--params", "D": "--data", "C": "--flops", "L": "--loss"}


def power(*columns):
    """Loss of 1.7 + 400 / N^.34 + 400 / D^.28 for rows of N and D."""
    size, data = (np.array(column, float) for column in columns)
    return 1.7 + 400 * size**-0.34 + 400 * data**-0.28


LADDER = np.logspace(7, 9, 8)
BUDGETS = [(n, c / (6 * n)) for c in (1e18, 1e19, 1e20, 1e21) for n in LADDER]
WIDE = np.logspace(8, 11, 12)
# name: (columns, rows)
TABLES = {
    "one budget": ("NDL", [(3e7, 5.6e10, 2.90), (1e8, 1.7e10, 2.80), (3e8, 5.6e9, 2.85)]),
    "a budget of 7 sizes": ("NDL", [(n, 1e18 / n, 2 + (np.log10(n) - 8) ** 2) for n in LADDER]),
    "the largest run disappoints": (
        "NDL",
        [(1e7, 2e8, 5.4), (4e7, 8e8, 4.1), (1.6e8, 3.2e9, 3.24), (6.4e8, 1.3e10, 3.30)],
    ),
    "more is worse": (
        "NDL",
        [(n, d, 3 * (n * d) ** 0.01) for n in (1e7, 1e8, 1e9) for d in (1e9, 1e10, 1e11)],
    ),
    "no data": ("NL", [(10.0**k, 3 * k**-0.3) for k in range(4, 10)]),
    "two sizes": ("NL", [(1e4, 3.0), (1e5, 2.5)]),
    "no sizes": ("DL", [(10.0**k, 3 * k**-0.3) for k in range(4, 10)]),
    "compute alone": ("CL", [(10.0**k, 3 * k**-0.3) for k in range(14, 20)]),
    "one run of so much compute": ("CL", [(1e14, 3.0)]),
    "losses alone": ("L", [(3.0,), (2.0,), (1.0,)]),
    "losses of either sign": ("NDL", [(n, d, power(n, d) - 2.5) for n, d in BUDGETS]),
    "losses below zero": ("NDL", [(n, d, power(n, d) - 90) for n, d in BUDGETS]),
    "sizes alone, losses of either sign": ("NL", [(n, power(n, 1e9) - 4) for n in LADDER]),
    "one row": ("NDL", [(1e7, 1e9, 3.0)]),
    "two rows": ("NDL", [(1e7, 1e9, 3.0), (1e8, 1e10, 2.5)]),
    "one row ten times": ("NDL", [(1e7, 1e9, 3.0)] * 10),
    "two rows five times": ("NDL", [(1e7, 1e9, 3.0), (1e8, 1e10, 2.5)] * 5),
    "one loss": ("NDL", [(n, 20 * n, 3.0) for n in LADDER]),
    "one size": ("NDL", [(1e7, d, y) for d, y in zip(WIDE, power(1e7, WIDE), strict=True)]),
    "one amount of data": ("NDL", list(zip(LADDER, [1e9] * 8, power(LADDER, 1e9), strict=True))),
    "far apart": ("NDL", [(1e-30, 1e-28, 1e30), (1e-10, 1e-8, 1e10), (1e30, 1e32, 1e-30)]),
}
VERBS = (
    ["isoflop"],
    ["backtest", "--law", "chinchilla", "--law", "frontier"],
    ["backtest", "--law", "power", "--holdout", "params:largest"],
    ["fit", "--law", "chinchilla"],
    ["fit", "--law", "frontier"],
    ["fit", "--law", "power"],
    ["fit", "--law", "m2"],
    ["next", "--cost", "L", "--law", "additive"],
)


def write(path, columns, rows):
    lines = [columns, *rows]
    path.write_text("".join(",".join(map(str, line)) + "\n" for line in lines))
    return [word for name in columns for word in (OPTIONS[name], name)]


def arguments(verb, path, options):
    """The command line of a verb on a table."""
    if verb[0] == "next":
        known = [word for k in range(0, len(options), 2) for word in options[k : k + 2]]
        if "--flops" in known:
            at = known.index("--flops")
            known = known[:at] + known[at + 2 :]
        return [*verb, "--pool", str(path), "--target", str(path), *known]
    draws = [] if verb[0] == "report" else ["--bootstrap", "100"]
    return [verb[0], str(path), *options, *draws, *verb[1:]]


def check(words, capsys):
    """Run a command: exit code 0, or 2 with one line that begins with error:."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        code = main(words)
    said = capsys.readouterr()
    errors = [line for line in said.err.splitlines() if not line.startswith("note: ")]
    if code:
        assert code == 2 and said.out == "", words
        assert errors[0].startswith("error: ") and len(errors) == 1, said.err
    else:
        assert not errors, words
    return code, said


@pytest.fixture(autouse=True)
def cheap(monkeypatch):
    """Few draws, and pages without the megabytes of script that draw their figures."""
    monkeypatch.setattr(findings, "DRAWS", 100)
    monkeypatch.setattr(export, "javascript", lambda: "")


@pytest.mark.parametrize("name", TABLES)
def test_every_verb_answers_or_says_why_not(name, tmp_path, capsys):
    path = tmp_path / "table.csv"
    options = write(path, *TABLES[name])
    for verb in VERBS:
        check(arguments(verb, path, options), capsys)


@pytest.mark.parametrize("name", TABLES)
def test_the_page_shows_whatever_the_table_holds(name, tmp_path, capsys):
    path, page = tmp_path / "table.csv", tmp_path / "page.html"
    columns, rows = TABLES[name]
    options = write(path, columns, rows)
    code, said = check(["report", str(path), *options, "--out", str(page)], capsys)
    assert page.exists() == (code == 0)
    if name == "losses alone":
        assert "give --params, --data or --flops" in said.err
        return
    assert code == 0 and page.read_text().count(">row ") == len(rows)


NUMBERS = st.one_of(
    st.sampled_from([1e7, 1e8, 1e9, 2e9]),
    st.floats(-30, 30).map(lambda k: float(f"{10.0**k:.3g}")),
    st.sampled_from([0.0, -1.0]),
)


@st.composite
def tables(draw):
    """Few rows: columns equal, in step with another, free, or missing."""
    columns = "".join(c for c in "NDC" if draw(st.booleans())) + "L"
    count = draw(st.integers(1, 6))
    found: list[list[float]] = []
    for _ in columns:
        kind = draw(st.sampled_from(["equal", "free", "in step", "usual"]))
        if kind == "equal":
            found.append([draw(NUMBERS)] * count)
        elif kind == "in step" and found:
            times = draw(st.sampled_from([1.0, 20.0, 1e-9]))
            found.append([times * value for value in found[0]])
        elif kind == "free":
            found.append(draw(st.lists(NUMBERS, min_size=count, max_size=count)))
        else:
            found.append([float(f"{value:.4g}") for value in np.logspace(7, 9, count)])
    return columns, list(zip(*found, strict=True))


@settings(
    max_examples=8,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(table=tables())
def test_any_small_table_through_every_verb_and_the_page(table, tmp_path, capsys):
    path, page = tmp_path / "table.csv", tmp_path / "page.html"
    options = write(path, *table)
    for verb in VERBS:
        check(arguments(verb, path, options), capsys)
    check(["report", str(path), *options, "--out", str(page)], capsys)


def runs(num_sizes, num_amounts, status="finished"):
    params, data = np.repeat(10 ** np.arange(6, 6 + num_sizes), num_amounts), 1e8
    amounts = data * 4.0 ** np.tile(np.arange(num_amounts), num_sizes)
    losses = power(params, amounts)
    rows = zip(params, amounts, losses, 6 * params * amounts, strict=True)
    return [result(*row, status=status) for row in rows]


@pytest.mark.parametrize(("num_sizes", "num_amounts"), [(1, 1), (1, 2), (2, 1), (1, 6), (6, 1)])
def test_a_study_of_few_trials_ends_with_its_table(num_sizes, num_amounts, tmp_path):
    folder = write_study(tmp_path / "runs", runs(num_sizes, num_amounts))
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        said = overview.overview(folder, bootstrap=100)
    assert said.strip().startswith("Text") and "not fitted" in said


@pytest.mark.parametrize("budgets", [(3e10,), (3e10, 1e11)])
@pytest.mark.parametrize("sizes", [(6_100,), (6_100, 12_200)])
def test_a_run_folder_of_few_trials_has_its_page(sizes, budgets, tmp_path, capsys):
    part = replace(synthetic.PARTS[0], sizes=sizes, budgets=budgets)
    synthetic.write_study(tmp_path / "runs", parts=(part,), samples=False)
    code, _ = check(["report", str(tmp_path / "runs"), "--no_pictures"], capsys)
    assert code == 0 and "No law is drawn" in (tmp_path / "runs" / "report.html").read_text()


def test_a_part_whose_first_trial_has_just_ended_costs_the_other_nothing(tmp_path):
    whole = runs(6, 6)
    first = [{**whole[0], "part": "image", "id": "image-first"}]
    folder = write_study(tmp_path / "runs", [*whole, *first])
    said = overview.overview(folder, bootstrap=100)
    text, image = said.split("Image\n=====")
    assert "chinchilla fitted below" in text and "no prediction" in image


def test_the_page_of_signed_losses_draws_their_law_and_no_share_of_a_loss(tmp_path, capsys):
    path, page = tmp_path / "table.csv", tmp_path / "page.html"
    options = write(path, *TABLES["losses of either sign"])
    code, _ = check(["report", str(path), *options, "--out", str(page)], capsys)
    text = page.read_text()
    assert code == 0 and "E of either sign" in text
    sentence = text.split("lowers validation loss")[1].split(".</")[0]
    assert "%" not in sentence and "from" in sentence
    assert "-0.8" in text  # the floor, 1.7 - 2.5


@settings(
    max_examples=8,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(table=tables())
def test_any_small_table_through_what_reads_a_law_and_through_extrapolate(table, tmp_path, capsys):
    path, law = tmp_path / "table.csv", tmp_path / "laws.json"
    options = write(path, *table)
    law.unlink(missing_ok=True)
    x = table[0][0]
    check(["extrapolate", str(path), "--x", x, "--y", "L", "--fit", f"{x} <= 1e8"], capsys)
    for name in ("auto", "chinchilla", "power"):
        words = ["fit", str(path), *options, "--bootstrap", "100", "--law", name]
        code, _ = check([*words, "--out", str(law)], capsys)
        if code == 0:
            check(["plan", str(law), "--flops", "1e20"], capsys)
            check(["predict", str(law), "--params", "1e8", "--data", "1e9"], capsys)
