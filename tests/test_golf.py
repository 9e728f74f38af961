"""The contest: a tiny one from end to end, its test by hand, and a planted cheater of each kind."""

import csv
import itertools
import math
import sys

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from launch import local
from research import config, data, runtime, study
from research.__main__ import main
from research.errors import UserError
from research.golf import contest as contests
from research.golf import guard, proper, verdict
from research.train import train

TEXT = """
FAMILY = "autoregressive"
DATA = dict(name="markov", folder={data!r}, length=16, vocab_size=8, order=1, tokens=4000)
DATA |= dict(validation_tokens=2000)
MADE_BY, FINGERPRINT = "seed 0", {fingerprint!r}
EXAMPLES, SEEDS, MARGIN, LEVEL = 64, 2, 0.005, 0.01
BUDGETS = (1e7, 2e7, 4e7)
RECORDS = {records!r}
"""
RECIPE = """
import os
import pathlib

import numpy as np
from ml_collections import ConfigDict

from research import data, defaults

{before}

def get_config(budget):
    config = defaults.config("autoregressive", "markov")
    config.data.update(length=16, vocab_size=8, order=1, tokens=4000, validation_tokens=2000)
    config.size, config.log_steps = 8, 2
    config.model.update(vocab_size=8, depth=1)
    config.train.update(batch_size=8, warmup_steps=2)
    {line}
    return config
"""
numbers = itertools.count()


@pytest.fixture
def tiny(tmp_path, data_folder, monkeypatch):
    """The path of a contest on a Markov chain, whose table of records is beside it."""
    monkeypatch.setattr(runtime, "prepare", lambda folder: None)  # it is for this process to keep
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    path, words = tmp_path / "tiny.py", {"data": str(data_folder)}
    words["records"] = str(tmp_path / "rows.csv")
    path.write_text(TEXT.format(fingerprint="", **words))
    own = data.fingerprint(contests._data(contests.load(str(path))))
    path.write_text(TEXT.format(fingerprint=own, **words))
    return path


@pytest.fixture
def refused(tiny, tmp_path, capsys):
    """Run golf on a recipe and return its one line, after checking that nothing was written."""

    def run(recipe, *words):
        before = sorted(tmp_path.rglob("*"))
        command = ["golf", str(recipe), "--contest", str(tiny), "--workdir", str(tmp_path / "out")]
        assert main([*command, *map(str, words)]) == 2
        said = capsys.readouterr()
        lines = said.err.splitlines()
        assert len(lines) == 1 and lines[0].startswith("error: ") and not said.out, lines
        assert sorted(tmp_path.rglob("*")) == before
        return lines[0]

    return run


def recipe(folder, line="", before=""):
    path = folder / "mine.py"
    path.write_text(RECIPE.format(line=line, before=before))
    return path


def module(folder, content):
    """The name of a new module that holds `content`."""
    name = f"planted{next(numbers)}"
    (folder / name).mkdir()
    (folder / name / "part.py").write_text(content)
    return f"{name}.part"


def test_a_recipe_is_trained_tested_and_printed(tiny, tmp_path, monkeypatch, capsys):
    """Rows go into the table as printed; run again, the recipe does not beat itself."""

    def sweep(loaded, spec, flags, folder, workers):
        study.write_description(loaded, folder)
        local.finish(loaded.name, loaded.groups, folder)
        return 0

    monkeypatch.setattr(local, "sweep", sweep)
    path = recipe(tmp_path)
    command = ["golf", str(path), "--contest", str(tiny), "--workdir", str(tmp_path / "runs")]
    command += ["--budget", "1e07"]
    assert main(command) == 0
    printed = capsys.readouterr()
    rows = list(csv.DictReader(printed.out.splitlines()))
    assert [row["budget"] for row in rows] == ["1e07"]
    for row in rows:
        losses = [float(loss) for loss in row["losses"].split()]
        assert len(losses) == int(row["n"]) == 2 and len(set(losses)) == 2
        assert float(row["mean"]) == pytest.approx(np.mean(losses), abs=1e-5)
        assert float(row["sd"]) == pytest.approx(abs(losses[0] - losses[1]) / 2**0.5, abs=1e-5)
        assert abs(float(row["flops"]) / float(row["budget"]) - 1) < 0.05
        assert row["verdict"] == "record" and row["digest"] == contests.digest(str(path))
        assert row["params"] == row["active"] and row["lookup"] == "0"
    (tmp_path / "rows.csv").write_text(printed.out)
    found = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("result.json")}
    assert main(command) == 0
    assert found == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("result.json")}
    printed = capsys.readouterr()
    again = list(csv.reader(printed.out.splitlines()))
    assert [row[verdict.COLUMNS.index("verdict")] for row in again] == ["failure"]
    assert "0.0000 above the record's mean; margin 0.005, p >= 0.0033" in printed.err


@pytest.mark.slow
def test_workers_of_their_own_train_it(tiny, tmp_path, capsys):
    command = ["golf", str(recipe(tmp_path)), "--contest", str(tiny), "--budget", "1e07"]
    assert main([*command, "--workdir", str(tmp_path / "runs")]) == 0
    assert "record" in capsys.readouterr().out


@pytest.mark.parametrize(
    "line, said",
    [
        ("config.data.length = 8", "config.data.length=8 is the contest's, 16"),
        ("config.data = data.default('glyphs')", "config.data.name='glyphs' is the contest's"),
        ("config.family = 'tests.tiny'", "the contest's is 'autoregressive'"),
        ("config.evaluation.examples = 8", "config.evaluation.examples=8 is the contest's"),
        ("config.evaluation.evaluators = ('training',)", "evaluators=('training',) is the"),
        ("config.evaluation.every_steps = 2", "every_steps=2 scores along the run"),
        ("config.evaluation.steps = (2,)", "steps=(2,) scores along the run"),
        ("config.init_from.run = 'runs/one'", "init_from.run='runs/one' begins with what another"),
        ("config.init_from.reference = 'a'", "init_from.reference='a' begins with what another"),
        ("config.seed = 3", "config.seed=3: seeds are the contest's"),
        ("config.train.steps = 1000", "over the budget of 1e+07; at most"),
        ("config.train.batch_size = 240; config.train.warmup_steps = 0", "than a tenth of the"),
        ("config.train.optimizer = 'adamv'", "did you mean 'adamw'"),
        ("config.train.steps = 'few'", "mine.py:"),
        ("return {}", "gives no ConfigDict"),
        ("PACKED.read_bytes()", "reads neither validation"),
        ("np.fromfile(PACKED, np.uint8)", "reads neither validation"),
        ("np.fromfile(PACKED.with_name('test.tokens'), np.uint8)", "reads neither validation"),
        ("os.close(os.open(PACKED, os.O_RDONLY))", "reads neither validation"),
        ("config.data.folder = FOLDER; data.load(config.data, 'validation')", "reads neither"),
        ("pathlib.Path(os.__file__).read_text()", "reads neither validation"),
    ],
)
def test_a_cheater_is_refused(refused, tmp_path, data_folder, line, said):
    packed = next((data_folder / "packed").glob("markov-*/validation.tokens"))
    before = f"FOLDER = {str(data_folder)!r}\nPACKED = pathlib.Path({str(packed)!r})"
    assert said in refused(recipe(tmp_path, line, before))


READS = """
from research import data

RANGES = {{}}


def default_train():
    return {{}}


def transform(settings, parameters):
    source = data.default("markov")
    source.update(folder={folder!r}, length=16, vocab_size=8, order=1, tokens=4000)
    source.validation_tokens = 2000
    return data.load(source, {split!r})
"""


def test_a_module_that_a_recipe_names_is_refused_too(refused, tmp_path, data_folder):
    name = module(tmp_path, READS.format(folder=str(data_folder), split="validation"))
    said = refused(recipe(tmp_path, f"config.train.optimizer = {name!r}"))
    assert f"{name.partition('.')[0]}/part.py:" in said and "reads neither validation" in said


def test_a_file_of_validation_is_closed_while_runs_are_trained(tiny, tmp_path, data_folder):
    """Whoever loads the study of a recipe trains its runs; training data stay open to all."""
    path = recipe(tmp_path)
    words = READS.format(folder=str(data_folder), split="test")
    module(tmp_path, words)
    reads = __import__(f"planted{next(numbers) - 1}.part", fromlist=["part"])
    with guard.closed():
        spec = contests.write_study(str(tiny), str(path), (1e7,), 2, str(tmp_path / "runs"))
        assert [trial.id for trial in study.load(spec).trials] == ["1e07-seed0", "1e07-seed1"]
        with pytest.raises(UserError, match="reads neither validation"):
            reads.transform(None, None)
        path.write_text(path.read_text() + "\n")
        with pytest.raises(UserError, match="was changed .*: run golf again"):
            study.load(spec)
    assert len(reads.transform(None, None)) > 0


def test_every_seed_has_one_config(tiny, tmp_path):
    """A recipe that counts how often it is called gives no seed another rate."""
    line = "calls.append(0); config.train.learning_rate = 0.001 * len(calls)"
    path = recipe(tmp_path, line, "calls = []")
    with guard.closed():
        spec = contests.write_study(str(tiny), str(path), (1e7, 2e7), 3, str(tmp_path / "runs"))
        trials = study.load(spec).trials
    assert [trial.config.seed for trial in trials] == [0, 1, 2, 0, 1, 2]
    assert {trial.config.train.learning_rate for trial in trials} == {0.001}
    assert {trial.config.budget for trial in trials} == {1e7, 2e7}


@pytest.mark.parametrize(
    "words, said",
    [
        (("--seeds", 1), "--seeds 1: the contest asks for 2"),
        (("--budget", "3e07"), "--budget 3e07: not one of 1e07, 2e07, 4e07"),
        (("--record", "none.csv"), "--record none.csv: no such file"),
        (("--workers", 0), "--workers 0 must be at least 1"),
        (("--contest", "experiments/gof.py"), "did you mean 'experiments/golf.py'"),
        (("--contest", "experiments/quickstart_lr.py"), "a contest defines FAMILY, DATA"),
        (("--sedes", 3), "did you mean '--seeds'"),
    ],
)
def test_bad_words_are_refused(refused, tmp_path, words, said):
    assert said in refused(recipe(tmp_path), *words)


def test_bad_files_are_refused(refused, tmp_path):
    assert "recipe none.py: no such file" in refused("none.py")
    (tmp_path / "empty.py").write_text("")
    assert "a recipe defines get_config(budget)" in refused(tmp_path / "empty.py")
    path = recipe(tmp_path, before="1 / 0")
    assert "mine.py:10: ZeroDivisionError" in refused(path)


def test_another_library_is_another_contest(refused, tiny, tmp_path):
    """As the standard library of another Python is: its rows cannot be compared."""
    text = tiny.read_text()
    tiny.write_text(f'{text}\nFINGERPRINT, MADE_BY = "{"0" * 64}", "CPython 3.9"\n')
    said = refused(recipe(tmp_path))
    assert "holds for markov of CPython 3.9 (fingerprint 000000000000)" in said
    assert "other bytes, whose losses cannot be compared" in said


PEEKS = """
import flax.linen as nn
from jax import numpy as jnp

from research.models import decoder
from research.models.decoder import *  # noqa: F403


class Peeks(nn.Module):
    inner: nn.Module

    @nn.compact
    def __call__(self, tokens, *rest):
        return self.inner({seen}, *rest)


def build(model, hardware):
    return Peeks(decoder.build(model, hardware))


def logits(config, params, x):
    return decoder.logits(config, params["inner"], x)


def nats(config, params, x, targets):
    return {share} * decoder.nats(config, params["inner"], x, targets)
"""


@pytest.mark.parametrize(
    "seen, share",
    [
        ("jnp.roll(tokens, -1, 1)", "1.0"),  # sees the next token
        pytest.param("tokens", "0.5", marks=pytest.mark.slow),  # a head that is no distribution
        pytest.param("tokens", "1.0", marks=pytest.mark.slow),  # an honest one
    ],
)
def test_what_was_trained_must_be_a_distribution(tiny, tmp_path, seen, share):
    """The identity holds for a network that looks back, and for neither kind of the others."""
    name = module(tmp_path, PEEKS.format(seen=seen, share=share))
    line = f"config.model.network = {name!r}"
    with guard.closed():
        path = str(recipe(tmp_path, line))
        spec = contests.write_study(str(tiny), path, (1e7,), 2, str(tmp_path / "runs"))
        trial = study.load(spec).trials[0]
    train(trial.config, tmp_path / "run", labels={"id": "run", "study": "tiny", "part": "1e07"})
    if (seen, share) == ("tokens", "1.0"):
        proper.check(tmp_path / "run")
    else:
        with pytest.raises(UserError, match="bytes sum to .*, not 1"):
            proper.check(tmp_path / "run")


def test_the_p_value_is_welchs_by_hand():
    losses, record, margin = [2.01, 2.03, 1.99, 2.02, 2.0], [2.1, 2.05, 2.12, 2.08], 0.01
    a, b = np.array(losses), np.array(record) - margin
    va, vb = a.var(ddof=1) / len(a), b.var(ddof=1) / len(b)
    t = (a.mean() - b.mean()) / math.sqrt(va + vb)
    freedom = (va + vb) ** 2 / (va**2 / (len(a) - 1) + vb**2 / (len(b) - 1))
    expected = scipy.stats.t.cdf(t, freedom)
    assert verdict.p_value(losses, record, margin) == pytest.approx(expected, rel=1e-12)
    assert verdict.p_value([1.0, 1.0], [2.0, 2.0], 0.5) == 0.0
    assert verdict.p_value([1.0, 1.0], [1.5, 1.5], 0.5) == 1.0


def test_a_recipe_on_the_margin_wins_as_often_as_the_level_says(tiny):
    """One in a hundred at one of three budgets: a third of that at each, spreads unlike."""
    contest, draw = contests.load(str(tiny)), np.random.default_rng(0)
    wins, tries = 0, 1000
    for _ in range(tries):
        record = draw.normal(2.0, 0.03, 5).tolist()
        mine = draw.normal(2.0 - contest.margin, 0.01, 5).tolist()
        wins += verdict.p_value(mine, record, contest.margin) < contest.level / 3
    low, high = scipy.stats.binom.interval(0.999, tries, contest.level / 3)
    assert low <= wins <= high


@pytest.mark.parametrize(
    "losses, expected",
    [
        ([2.0, 2.01, 1.99, 2.0, 2.005], "record"),
        ([2.096, 2.097, 2.095, 2.096, 2.094], "failure"),  # below, by less than the margin
        ([1.8, 2.4, 2.0, 1.6, 2.3], "failure"),  # far below in the mean, but for the spread
        ([2.2, 2.21, 2.19, 2.2, 2.2], "failure"),
        ([1.0, 1.0, 1.0, 1.0, math.nan], "failure"),
    ],
)
def test_verdicts(tiny, losses, expected):
    contest = contests.load(str(tiny))
    held = {"recipe": "old", "digest": "0", "losses": [2.1, 2.11, 2.09, 2.1, 2.1], "mean": 2.1}
    found = verdict.judge(contest, {"losses": losses, "mean": float(np.mean(losses))}, held)
    assert found["verdict"] == expected
    if math.isnan(losses[-1]):
        assert found["why"] == "1 of 5 runs diverged"


def test_the_table_of_records_is_read_as_it_was_written(tiny, tmp_path):
    """The record is the lowest mean of the rows that were one; failures are none."""
    contest = contests.load(str(tiny))

    def row(name, losses, outcome, budget=1e7, **other):
        about = {"recipe": name, "digest": "1e5", "data": contest.fingerprint[:12], "n": 2}
        about |= {"budget": budget, "losses": losses, "mean": np.mean(losses), "sd": 0.1}
        return about | {"verdict": outcome, "flops": 1e7, "seconds": 1.0} | other

    rows = [
        row("a", [2.0, 2.2], "record"),
        row("b", [1.9, 2.1], "record"),
        row("lucky", [1.0, 1.1], "failure"),
        row("c", [1.5, 1.7], "record", 2e7),
    ]
    path = tmp_path / "rows.csv"
    path.write_text(verdict.lines(rows, header=True))
    best = verdict.records(contest, str(path), asked=True)
    assert {budget: each["recipe"] for budget, each in best.items()} == {1e7: "b", 2e7: "c"}
    assert best[1e7]["losses"] == [1.9, 2.1] and best[1e7]["digest"] == "1e5"
    for bad, said in (
        (row("d", [2.0, 2.2], "record", 3e7), "a row of another contest"),
        (row("d", [2.0, 2.2], "record", data="other"), "a row of another contest, data other"),
        (row("d", [2.0, 2.2], "won"), "verdict 'won' is neither record nor failure"),
        (row("d", [2.0, math.nan], "record"), "expected two numbers"),
    ):
        path.write_text(verdict.lines([*rows, bad], header=True))
        with pytest.raises(UserError, match=f"rows.csv:6: .*{said}"):
            verdict.records(contest, str(path), asked=True)
    path.write_text("date,recipe\n")
    with pytest.raises(UserError, match="no column 'revision'"):
        verdict.records(contest, str(path), asked=True)


def test_the_rows_that_ship_are_of_the_contest_that_ships():
    """One record a budget and recipe at most; nanoGPT has the best rate of its table."""
    contest = contests.load("experiments/golf.py")
    best = verdict.records(contest, contest.records, asked=True)
    assert set(best) <= set(contest.budgets)
    assert all(len(row["losses"]) >= contest.seeds for row in best.values())
    nanogpt = config.load_file("experiments/golf/nanogpt.py")
    rates = pd.read_csv("experiments/golf/nanogpt_rates.csv")
    assert rates.learning_rate[rates.loss.idxmin()] == nanogpt.RATE
    assert tuple(rates.learning_rate) == nanogpt.RATES
