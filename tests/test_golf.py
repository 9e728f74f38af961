"""The contest: a tiny one from end to end, its test by hand, and a planted cheater of each kind."""

import csv
import importlib
import itertools
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from launch import local
from research import config, cost, data, runtime, study
from research.__main__ import main
from research.errors import UserError
from research.golf import contest as contests
from research.golf import guard, proper, verdict
from research.run import code
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
    monkeypatch.setattr(code, "revision", lambda files: "1e5")
    path, words = tmp_path / "tiny.py", {"data": str(data_folder)}
    words["records"] = str(tmp_path / "rows.csv")
    path.write_text(TEXT.format(fingerprint="", **words))
    own = data.fingerprint(contests._usual(contests.load(str(path))).data)
    path.write_text(TEXT.format(fingerprint=own, **words))
    yield path
    guard.close(False)


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


def row(name, losses, contest, **other):
    """A row of the table, of a recipe that was called `name`."""
    cells = dict(date="2026-01-02", revision="1e5", recipe=name, digest="1e5", n=len(losses))
    cells |= dict(data=contest.fingerprint[:12], budget=1e7, mean=float(np.mean(losses)), sd=0.1)
    cells |= dict(losses=" ".join(map(repr, losses)), flops=9, params=8, active=7, lookup=0)
    return verdict.Row(**{**cells, "seconds": 1.0, **other})


def planned(tiny, path, budgets=(1e7,)):
    """The trials of three seeds of a recipe, as a worker loads them."""
    spec = path.with_name("planned.py")
    contests.write_study(spec, contests.entries(contests.load(str(tiny)), str(path), budgets), 3)
    return study.load(str(spec)).trials


def module(folder, content):
    """The name of a new module that holds `content`."""
    name = f"planted{next(numbers)}"
    (folder / name).mkdir()
    (folder / name / "part.py").write_text(content)
    return f"{name}.part"


@pytest.mark.slow
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
    found = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("result.json")}
    assert [row["budget"] for row in rows] == ["1e07"]
    for row in rows:
        losses = [float(loss) for loss in row["losses"].split()]
        assert len(losses) == int(row["n"]) == 2 and len(set(losses)) == 2
        assert float(row["mean"]) == pytest.approx(np.mean(losses), abs=1e-5)
        assert float(row["sd"]) == pytest.approx(abs(losses[0] - losses[1]) / 2**0.5, abs=1e-5)
        assert 0.9 * float(row["budget"]) < float(row["flops"]) <= float(row["budget"])
        assert row["verdict"] == "record" and row["digest"] in next(iter(found)).parts[-3]
        assert row["params"] == row["active"] and row["lookup"] == "0"
    (tmp_path / "rows.csv").write_text(printed.out)
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
    "key, value, fixed",
    [
        ("data.length", 8, 16),
        ("family", "diffusion", "autoregressive"),
        ("evaluation.examples", 8, 2048),
        ("evaluation.evaluators", ("training",), ["validation"]),
        ("evaluation.every_steps", 2, 0),
        ("evaluation.steps", (2,), []),
        ("init_from.run", "runs/one", ""),
        ("init_from.reference", "a", ""),
        ("seed", 3, 0),
    ],
)
def test_what_is_the_contests_is_refused(refused, tmp_path, key, value, fixed):
    mine = list(value) if isinstance(value, tuple) else value
    said = refused(recipe(tmp_path, f"config.{key} = {value!r}"))
    assert (
        f"config.{key}={mine!r} is not the recipe's to choose; the contest's is {fixed!r}" in said
    )


@pytest.mark.parametrize(
    "line, said",
    [
        ("config.data = data.default('glyphs')", "config.data.name='glyphs' is not the"),
        ("config.train.steps = 1000", "over the budget of 1e+07, which buys"),
        ("config.size = 128; config.train.warmup_steps = 0", "which buys 0"),
        ("config.train.optimizer = 'adamv'", "did you mean 'adamw'"),
        ("config.train.steps = 'few'", "mine.py:"),
        ("return {}", "gives no ConfigDict"),
        ("PACKED.read_bytes()", "reads neither validation"),
        ("np.fromfile(PACKED, np.uint8)", "reads neither validation"),
        ("np.fromfile(PACKED.with_name('test.tokens'), np.uint8)", "reads neither validation"),
        ("os.close(os.open(PACKED, os.O_RDONLY))", "reads neither validation"),
        ("config.data.folder = FOLDER; data.load(config.data, 'validation')", "reads neither"),
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


def test_validation_is_closed_while_runs_are_trained(tiny, tmp_path, data_folder):
    """Whoever loads the study of a recipe trains its runs; training data stay open to all."""
    name = module(tmp_path, READS.format(folder=str(data_folder), split="test"))
    reads = importlib.import_module(name)
    assert len(reads.transform(None, None)) > 0
    planned(tiny, recipe(tmp_path))
    with pytest.raises(UserError, match="reads neither validation"):
        reads.transform(None, None)
    module_text = READS.format(folder=str(data_folder), split="train")
    assert len(importlib.import_module(module(tmp_path, module_text)).transform(None, None)) > 0


def test_every_seed_has_one_config(tiny, tmp_path):
    """A recipe that counts how often it is called gives no seed another rate."""
    line = "calls.append(0); config.train.learning_rate = 0.001 * len(calls)"
    trials = planned(tiny, recipe(tmp_path, line, "calls = []"), (1e7, 2e7))
    assert [trial.config.seed for trial in trials] == [0, 1, 2, 0, 1, 2]
    rates = [(trial.config.budget, trial.config.train.learning_rate) for trial in trials]
    assert rates == [(1e7, 0.001)] * 3 + [(2e7, 0.002)] * 3


def test_the_digest_covers_what_a_recipe_brings(tiny, tmp_path):
    """Its file, the contest's, a module that it imports, and every file of research/."""
    name = module(tmp_path, "RATE = 0.1")
    path = recipe(tmp_path, before=f"import {name}")
    contests.entries(contests.load(str(tiny)), str(path), (1e7,))
    found = code.files(str(tiny), str(path))
    assert {path, tiny, tmp_path / f"{name.replace('.', '/')}.py"} <= {*found}
    assert {Path(cost.__file__), Path(code.__file__)} <= {*found}
    before = code.digest(found)
    (tmp_path / name.partition(".")[0] / "part.py").write_text("RATE = 0.2")
    assert code.digest(found) != before


def test_a_revision_is_one_of_all_files(tmp_path, monkeypatch):
    """A file that is outside of the repository, ignored, new or changed is in no commit."""

    def git(*words):
        subprocess.run(["git", "-C", str(tmp_path / "code"), *words], check=True)

    path = tmp_path / "code" / "mine.py"
    path.parent.mkdir()
    path.write_text("1")
    (tmp_path / "other.py").write_text("1")
    git("init", "-q")
    monkeypatch.setattr(code, "ROOT", path.parent)
    assert code.revision([path]).endswith("+")
    git("add", "mine.py")
    git("-c", "user.name=a", "-c", "user.email=a", "commit", "-qm", "One")
    assert not code.revision([path]).endswith("+")
    assert code.revision([path, tmp_path / "other.py"]).endswith("+")
    path.write_text("2")
    assert code.revision([path]).endswith("+")


def test_no_run_spends_more_than_its_budget(tiny, tmp_path):
    """The ladder rounds to the nearest step; a golf run has the last one that it can pay."""
    contest = contests.load(str(tiny))
    for width, budget in itertools.product((8, 16), contest.budgets):
        path = recipe(tmp_path, f"config.size, config.train.warmup_steps = {width}, 0")
        full = contests.entries(contest, str(path), (budget,))[contests.name_of(budget)]
        assert full.train.steps == budget // cost.ledger(full).step_flops
        assert full.train.decay_steps == round(full.train.decay_fraction * full.train.steps)


@pytest.mark.parametrize(
    "words, said",
    [
        (("--seeds", 1), "--seeds 1: the contest asks for 2"),
        (("--budget", "3e07"), "--budget 3e07: not one of 1e07, 2e07, 4e07"),
        (("--record", "none.csv"), "--record none.csv: No such file"),
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
        (
            "jnp.where(jnp.arange(16) % 4 == 1, jnp.roll(tokens, -1, 1), tokens)",
            "1.0",
        ),  # sees ahead
        pytest.param("tokens", "0.5", marks=pytest.mark.slow),  # a head that is no distribution
        pytest.param("tokens", "1.0", marks=pytest.mark.slow),  # an honest one
    ],
)
def test_what_was_trained_must_be_a_distribution(tiny, tmp_path, seen, share):
    """The identity holds for a network that looks back, and for neither kind of the others."""
    name = module(tmp_path, PEEKS.format(seen=seen, share=share))
    line = f"config.model.network = {name!r}"
    trial = planned(tiny, recipe(tmp_path, line))[0]
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
    held = row("old", [2.1, 2.11, 2.09, 2.1, 2.1], contest)
    found = verdict.judge(contest, row("new", losses, contest), held)
    assert found.verdict == expected
    if math.isnan(losses[-1]):
        assert found.why == "1 of 5 runs diverged"


def test_what_no_commit_has_is_no_record(tiny):
    contest = contests.load(str(tiny))
    for held in (None, row("old", [2.1, 2.11], contest)):
        found = verdict.judge(contest, row("new", [1.1, 1.1001], contest, revision="1e5+"), held)
        assert found.verdict == "failure" and "for no commit has this code" in found.why
        found = verdict.judge(contest, row("new", [1.1, 1.1001], contest), held)
        assert found.verdict == "record"


def test_the_table_of_records_is_read_as_it_was_written(tiny, tmp_path):
    """The record is the lowest mean of the rows that were one; failures are none."""
    contest = contests.load(str(tiny))

    def done(name, losses, outcome, **other):
        return row(name, losses, contest, verdict=outcome, **other)

    rows = [
        done("a", [2.0, 2.2], "record"),
        done("b", [1.9, 2.1], "record"),
        done("later", [1.95, 2.1], "record"),
        done("lucky", [1.0, 1.1], "failure"),
        done("lost", [1.0, math.nan], "failure"),
        done("c", [1.5, 1.7], "record", budget=2e7),
    ]
    path = tmp_path / "rows.csv"
    path.write_text(verdict.lines(rows, header=True))
    assert repr(verdict.read(contest, str(path))) == repr(rows)  # NaN is not itself
    best = verdict.records(verdict.read(contest, str(path)))
    assert {budget: each.recipe for budget, each in best.items()} == {1e7: "b", 2e7: "c"}
    for bad, said in (
        (done("d", [2.0, 2.2], "record", budget=3e7), "a row of another contest"),
        (done("d", [2.0, 2.2], "record", data="other"), "a row of another contest, data other"),
        (done("d", [2.0, 2.2], "won"), "verdict 'won' is neither record nor failure"),
        (done("d", [2.0, math.nan], "record"), "expected two numbers"),
        (done("d", [2.0], "record"), "expected two numbers"),
        (done("d", [2.0, 2.2], "record", mean="low"), "mean"),
    ):
        path.write_text(verdict.lines([*rows, bad], header=True))
        with pytest.raises(UserError, match=f"rows.csv:8: .*{said}"):
            verdict.read(contest, str(path))
    path.write_text("date,recipe\n1,a\n")
    with pytest.raises(UserError, match="rows.csv:2: .*revision"):
        verdict.read(contest, str(path))


def test_the_rows_that_ship_are_of_the_contest_that_ships():
    """Every budget has a record, the three recipes are there, none spent more than it had."""
    contest = contests.load("experiments/golf.py")
    rows = verdict.read(contest, contest.records)
    assert set(verdict.records(rows)) == set(contest.budgets)
    assert {row.recipe for row in rows} >= {"ladder", "adamw_ladder", "nanogpt"}
    for row in rows:
        assert len(row.values) == row.n >= contest.seeds and row.flops <= row.budget
        assert not (row.verdict == verdict.RECORD and row.revision.endswith("+"))


def test_nanogpt_has_the_best_rate_of_its_table():
    nanogpt = config.load_file("experiments/golf/nanogpt.py")
    rates = pd.read_csv("experiments/golf/nanogpt_rates.csv")
    assert rates.learning_rate[rates.loss.idxmin()] == nanogpt.RATE
    assert tuple(rates.learning_rate) == nanogpt.RATES
